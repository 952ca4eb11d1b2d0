"""Which frame holds the training loop, from where forward, backward and optimizer are called.

It is the deepest frame that all three have in common, that is still the same frame at the next
step, and in whose source a loop encloses the calls. The last matters: a function called each step
gets a frame of its own each time, but often at the address of the one before, and frames must not
be kept alive to tell (they hold tensors).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType

from perfdoctor.collect.script.frame_paths import Path, shared
from perfdoctor.collect.script.libraries import OWN, Libraries
from perfdoctor.collect.script.source import in_one_loop, line_of

FORWARD, BACKWARD, OPTIMIZER = "forward", "backward", "optimizer"
#: Paths that are told apart; far above what trainings have.
_MOST_PATHS = 64
#: Ways through the loop that are less frequent than this among the steps are not reported.
_RARE = 0.1


@dataclass(frozen=True)
class Spot:
    """A line in a function."""

    code: CodeType
    line: int


@dataclass(frozen=True)
class LoopFacts:
    """The function that holds the training loop, and its lines that lead to the three calls.

    Attributes:
        inner: functions between it and the call of the model, outermost first, with their lines.
        outer: its callers, innermost first.
    """

    code: CodeType
    forward_line: int
    backward_line: int | None = None
    optimizer_line: int | None = None
    inner: tuple[Spot, ...] = ()
    outer: tuple[Spot, ...] = ()


@dataclass
class _Way:
    """One way through the loop: the frames that stayed, as each event passed them."""

    forward: Path
    stayed: int
    backward: Path | None
    optimizer: Path | None
    votes: int = 0


@dataclass
class _Votes:
    """Steps seen, by the way they went."""

    previous: Path = ()
    ways: dict[tuple[tuple[int, int], ...], _Way] = field(default_factory=dict)

    def add(self, forward: Path, backward: Path | None, optimizer: Path | None) -> None:
        others = [path for path in (backward, optimizer) if path is not None]
        common = forward
        for path in others:
            common = common[: shared(common, path)]
        stayed = shared(common, self.previous)
        self.previous = common
        if not stayed:
            return
        places = [place for path in (forward, *others) for place in (*path[:stayed], *path[-1:])]
        key = tuple((id(code), instruction) for _, code, instruction in places)
        if key in self.ways or len(self.ways) < _MOST_PATHS:
            way = self.ways.setdefault(key, _Way(forward, stayed, backward, optimizer))
            way.votes += 1


class LoopFinder:
    """Is told where the training calls the model, backward and the optimizer, in some steps."""

    def __init__(self, libraries: Libraries | None = None) -> None:
        self._libraries = libraries or Libraries()
        self._paths: dict[str, Path] = {}
        self._steps = _Votes()
        self._without_optimizer = _Votes()

    def note(self, path: Path, event: str) -> None:
        """`event` (forward, backward or optimizer) happens where `path` leads."""
        paths = self._paths
        if event == FORWARD and BACKWARD in paths and FORWARD in paths:
            # Steps that never call an optimizer: parameters updated by hand.
            self._without_optimizer.add(paths[FORWARD], paths.pop(BACKWARD), None)
        paths[event] = path
        if event == OPTIMIZER and FORWARD in paths:
            self._steps.add(paths[FORWARD], paths.get(BACKWARD), path)

    def loops(self) -> tuple[LoopFacts, ...]:
        """The training loops, and the ways through each; the most frequent first."""
        votes = self._steps if self._steps.ways else self._without_optimizer
        ways = sorted(votes.ways.values(), key=lambda way: -way.votes)
        enough = _RARE * sum(way.votes for way in ways)
        facts = (self._resolve(way) for way in ways if way.votes >= enough)
        return tuple(dict.fromkeys(one for one in facts if one is not None))

    def _resolve(self, way: _Way) -> LoopFacts | None:
        for depth in reversed(range(way.stayed)):
            code = way.forward[depth][1]
            lines = [
                None if path is None else line_of(code, path[depth][2])
                for path in (way.forward, way.backward, way.optimizer)
            ]
            if lines[0] is not None and in_one_loop(code, [n for n in lines if n is not None]):
                inner = tuple(self._spots(way.forward[depth + 1 :]))
                outer = tuple(self._spots(way.forward[:depth][::-1]))
                return LoopFacts(code, lines[0], lines[1], lines[2], inner, outer)
        return None

    def _spots(self, path: Path) -> Iterator[Spot]:
        for _, code, instruction in path:
            line = line_of(code, instruction)
            if line is not None and self._libraries.of(code.co_filename) not in (OWN, "torch"):
                yield Spot(code, line)
