"""Where the batches come from that no DataLoader makes, and where in its loop the training is.

A generator, an iterator of the user's or a list is data loading too. What makes the batch is found
in the source: a backward slice from the statement that leads to the model's forward.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from types import CodeType

from perfdoctor.collect.script.given_calls import Given, given_calls
from perfdoctor.collect.script.loop_finder import LoopFacts, LoopFinder, Spot
from perfdoctor.collect.script.slicing import Slice, batch_making, handed, parameters
from perfdoctor.collect.script.source import compiled_loops, function_of, levels, loops_at
from perfdoctor.collect.script.stacks import Frame

__all__ = ["BatchSource", "BatchStatement", "LoopFacts", "LoopFinder", "Spot"]

#: Where in the loop a sample is, see `BatchSource.position`.
BEFORE, AT_FORWARD, LOSS, UPDATE, AFTER_STEP, OUTSIDE = (
    "before the forward",
    "in the statement of the forward",
    "between forward and backward",
    "between backward and optimizer",
    "after the optimizer",
    "outside of the training loop",
)
#: Functions that hand out the next batch, besides generators.
_ITERATES = frozenset(["__next__", "__iter__", "__getitem__"])
#: How many callers of the loop's function are looked at for what they hand to it.
_MOST_CALLERS = 4
#: Frames between a call and what torch wraps, `@torch.no_grad()` for one.
_DECORATES = frozenset(["decorate_context", "wrapper"])

#: A function: file, first line.
_Function = tuple[str, int]


@dataclass(frozen=True)
class BatchStatement:
    """Lines of the user's code that make the batch."""

    file: str
    function: str
    first_line: int
    line: int
    end_line: int


class BatchSource:
    """What is known of the training loops. Without any it knows of no stack."""

    def __init__(self, loops: Sequence[LoopFacts]) -> None:
        self._loops = {_function(facts.code): facts for facts in reversed(loops)}
        found: list[BatchStatement] = []
        for facts in loops:
            found += _statements_of(facts)
        self.statements = tuple(dict.fromkeys(found))
        self._by_function: dict[_Function, list[BatchStatement]] = {}
        for one in self.statements:
            self._by_function.setdefault((one.file, one.first_line), []).append(one)
        self._given: dict[_Function, list[Given]] = {}
        for facts in loops:
            for code, given in _given_in(facts):
                self._given.setdefault(_function(code), []).append(given)

    def loop_depth(self, stack: Sequence[Frame]) -> int | None:
        """Index of the training loop's frame in a stack, innermost first."""
        depths = (i for i, frame in enumerate(stack) if _place(frame) in self._loops)
        return next(depths, None)

    def maker(self, stack: Sequence[Frame]) -> Frame | None:
        """The frame whose line makes the batch, where the stack passes through one."""
        depth = self.loop_depth(stack)
        for i, frame in enumerate(stack):
            if any(s.line <= frame.line <= s.end_line for s in self._statements(frame)):
                return frame
            if self._is_given(frame, stack[:i]):
                return frame  # `update(*buffer.sample(64))`
            if i == depth and i and self.position(stack) == AT_FORWARD and _iterates(stack[i - 1]):
                return frame  # `model(next(batches))`
        return None

    def position(self, stack: Sequence[Frame]) -> str:
        """Where in the loop: one of the names above."""
        depth = self.loop_depth(stack)
        if depth is None:
            return OUTSIDE
        frame = stack[depth]
        facts = self._loops[_place(frame)]
        first, last = _loop_range(facts)
        if not first <= frame.line <= last:
            return OUTSIDE
        return _position(facts, frame.line)

    def _is_given(self, frame: Frame, inside: Sequence[Frame]) -> bool:
        """Whether the frame calls what makes its batch, within the statement that uses it."""
        given = self._given.get(_place(frame), [])
        names = {n for one in given if one.line <= frame.line <= one.end_line for n in one.names}
        called = (one.name for one in reversed(inside) if one.name not in _DECORATES)
        return bool(names) and next(called, None) in names

    def _statements(self, frame: Frame) -> list[BatchStatement]:
        return self._by_function.get(_place(frame), [])


def _position(facts: LoopFacts, line: int) -> str:
    begin, end = _statement_range(facts, facts.forward_line)
    if begin <= line <= end:
        return AT_FORWARD
    if line < begin:
        return BEFORE
    if facts.backward_line is not None and line < facts.backward_line:
        return LOSS
    if facts.optimizer_line is None or line <= _statement_range(facts, facts.optimizer_line)[1]:
        return UPDATE
    return AFTER_STEP


def _iterates(frame: Frame) -> bool:
    return frame.generator or frame.name in _ITERATES


def _function(code: CodeType) -> _Function:
    return (code.co_filename, code.co_firstlineno)


def _place(frame: Frame) -> _Function:
    return (frame.file, frame.first_line)


def _statement_range(facts: LoopFacts, line: int) -> tuple[int, int]:
    function = function_of(facts.code)
    way = levels(function, line) if function is not None else []
    if not way:
        return line, line
    row = way[-1].on_line(line)
    simple = not any(hasattr(statement, "body") for statement in row)
    return row[0].lineno, max(s.end_lineno or line for s in row) if simple else line


def _loop_range(facts: LoopFacts) -> tuple[int, int]:
    """Lines of the innermost loop around the forward and the optimizer (or the backward)."""
    function = function_of(facts.code)
    last = facts.optimizer_line or facts.backward_line or facts.forward_line
    if function is None:
        around = [r for r in compiled_loops(facts.code) if r[0] <= facts.forward_line <= r[1]]
        both = [r for r in around if r[0] <= last <= r[1]]
        return min(both, key=lambda r: r[1] - r[0], default=(facts.forward_line, last))
    others = loops_at(function, last)
    shared = [loop for loop in loops_at(function, facts.forward_line) if loop in others]
    if not shared:
        return facts.forward_line, last
    return shared[-1].lineno, shared[-1].end_lineno or last


def _statements_of(facts: LoopFacts) -> Iterator[BatchStatement]:
    function = function_of(facts.code)
    if function is None:
        yield from _by_order(facts)
        return
    found = batch_making(function, facts.forward_line, each_step=False)
    yield from _as_statements(facts.code, found)
    for spot in facts.inner:
        helper = function_of(spot.code)
        if helper is not None:
            inside = batch_making(helper, spot.line, each_step=True)
            yield from _as_statements(spot.code, inside)
    yield from _handed_in(facts, function, found.needed & parameters(function))


def _handed_in(facts: LoopFacts, function: ast.AST, names: set[str]) -> Iterator[BatchStatement]:
    """What callers make anew for each call of the loop's function, in loops of their own."""
    for spot in facts.outer[:_MOST_CALLERS]:
        caller = function_of(spot.code)
        way = levels(caller, spot.line) if caller is not None else []
        if not names or caller is None or not way:
            return
        row = way[-1].on_line(spot.line)
        given = {n for one in row for n in handed(one, function, names)}
        found = batch_making(caller, spot.line, each_step=False, needed=given)
        yield from _as_statements(spot.code, found)
        function, names = caller, found.needed & parameters(caller)


def _given_in(facts: LoopFacts) -> Iterator[tuple[CodeType, Given]]:
    """What is given in the statements on the way from the loop to the model."""
    way = [Spot(facts.code, facts.forward_line), *facts.inner]
    for spot, following in zip_longest(way, way[1:]):
        function = function_of(spot.code)
        if function is not None:
            leads = None if following is None else following.code.co_name
            given = given_calls(function, spot.line, leads)
            yield from () if given is None else [(spot.code, given)]


def _by_order(facts: LoopFacts) -> Iterator[BatchStatement]:
    """Without the source: the lines of the loop before the forward."""
    first, _ = _loop_range(facts)
    if first < facts.forward_line:
        code = facts.code
        name = getattr(code, "co_qualname", code.co_name)
        last = facts.forward_line - 1
        yield BatchStatement(code.co_filename, name, code.co_firstlineno, first, last)


def _as_statements(code: CodeType, found: Slice) -> Iterator[BatchStatement]:
    file, first_line = _function(code)
    name = getattr(code, "co_qualname", code.co_name)
    for line, end_line in sorted(found.ranges):
        yield BatchStatement(file, name, first_line, line, end_line)
