"""Stacks that were seen, how often and for how long, in bounded memory.

A stack is a tuple of small numbers, each a place (code object and line). Code objects are kept,
frames never: a frame holds its locals, and with them tensors and graphs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType

from perfdoctor.collect.script.qualified import qualified_name

#: Innermost frames kept of a stack; what lies further out is the launcher and the frameworks.
DEEPEST = 60
#: Distinct stacks kept; at 60 frames these are 2 MB.
MOST_STACKS = 4096
#: Distinct instructions known; a script that makes code without end must not fill the memory.
_MOST_PLACES = 32_768
_ELSEWHERE = 0
_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

Stack = tuple[int, ...]
#: Times seen, seconds.
Weight = list[float]


@dataclass(frozen=True)
class Frame:
    """One frame of a stack. `function` is the qualified name, see `qualified_name`.

    `first_line` is where its function begins; `generator` whether it is one.
    """

    file: str
    line: int
    function: str
    first_line: int
    generator: bool = False

    @property
    def name(self) -> str:
        """The function without its class."""
        return self.function.rpartition(".")[2]


@dataclass(frozen=True)
class Sampled:
    """A stack, innermost frame first, seen `count` times under `label` for about `seconds`.

    Where there were too many different ones the stack is a single frame, the user's innermost.
    """

    label: int
    stack: tuple[Frame, ...]
    seconds: float
    count: int


@dataclass(frozen=True)
class _Tables:
    """Exchanged as a whole, so that whoever reads meanwhile needs no lock."""

    seen: dict[tuple[int, Stack], Weight]
    lumps: dict[tuple[int, Stack], Weight]


class StackTable:
    """Adds up stacks. Written by one thread; `snapshot` may be called from any."""

    def __init__(self, is_user: Callable[[str], bool], most: int = MOST_STACKS) -> None:
        self._is_user = is_user
        self._most = most
        self._by_instruction: dict[tuple[int, int], int] = {}
        self._by_line: dict[tuple[int, int], int] = {}
        self._places: list[tuple[CodeType, int] | None] = [None]
        self._tables = _Tables({}, {})

    def stack_of(self, frame: FrameType | None) -> Stack:
        """The places of a frame and its callers. Lines are looked up once an instruction."""
        known = self._by_instruction
        stack: list[int] = []
        while frame is not None and len(stack) < DEEPEST:
            code = frame.f_code
            place = known.get((id(code), frame.f_lasti))
            stack.append(self._new_place(frame, code) if place is None else place)
            frame = frame.f_back
        return tuple(stack)

    def add(self, label: int, stack: Stack, seconds: float) -> None:
        """One look at `stack`."""
        seen = self._tables.seen
        weight = seen.get((label, stack))
        if weight is None:
            if len(seen) >= self._most:
                self._fold()
                seen = self._tables.seen
            weight = seen[label, stack] = [0.0, 0.0]
        weight[0] += 1
        weight[1] += seconds

    def snapshot(self) -> list[Sampled]:
        """All that was seen, as of now."""
        tables = self._tables
        frames: dict[int, Frame] = {}
        return [
            Sampled(label, self._frames(stack, frames), weight[1], int(weight[0]))
            for table in (tables.seen, tables.lumps)
            for (label, stack), weight in list(table.items())
        ]

    def _new_place(self, frame: FrameType, code: CodeType) -> int:
        if len(self._by_instruction) >= _MOST_PLACES:
            return _ELSEWHERE
        line = frame.f_lineno or _line_before(code, frame.f_lasti)
        place = self._by_line.get((id(code), line))
        if place is None:
            place = len(self._places)
            self._places.append((code, line))  # keeps the code alive, so that its id stays its own
            self._by_line[id(code), line] = place
        self._by_instruction[id(code), frame.f_lasti] = place
        return place

    def _fold(self) -> None:
        """Lumps the lighter half by the user's line: done seldom, and hot stacks stay whole."""
        heavy_first = sorted(self._tables.seen.items(), key=lambda item: -item[1][1])
        kept = dict(heavy_first[: self._most // 2])
        lumps = {key: list(weight) for key, weight in self._tables.lumps.items()}
        for (label, stack), weight in heavy_first[self._most // 2 :]:
            lump = (label, self._users_place(stack))
            if lump not in lumps and len(lumps) >= self._most:
                lump = (label, ())
            total = lumps.setdefault(lump, [0.0, 0.0])
            total[0] += weight[0]
            total[1] += weight[1]
        self._tables = _Tables(kept, lumps)

    def _users_place(self, stack: Stack) -> Stack:
        for place in stack:
            known = self._places[place]
            if known is not None and self._is_user(known[0].co_filename):
                return (place,)
        return ()

    def _frames(self, stack: Stack, made: dict[int, Frame]) -> tuple[Frame, ...]:
        for place in stack:
            if place not in made and place != _ELSEWHERE:
                made[place] = _frame(self._places[place])
        return tuple(made[place] for place in stack if place != _ELSEWHERE)


def _line_before(code: CodeType, instruction: int) -> int:
    """The line that led to an instruction of none, such as a jump back or the end of a `with`."""
    lines = [line for start, _, line in code.co_lines() if line and start <= instruction]
    return lines[-1] if lines else code.co_firstlineno


def _frame(place: tuple[CodeType, int] | None) -> Frame:
    assert place is not None
    code, line = place
    generator = bool(code.co_flags & _GENERATORS)
    return Frame(code.co_filename, line, qualified_name(code), code.co_firstlineno, generator)
