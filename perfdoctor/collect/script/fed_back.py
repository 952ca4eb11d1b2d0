"""Which loop around a call goes from sample to sample, by the script's source.

A loop whose next call is given what the last one made (`x = model(x)`, the steps of a roll-out or
of an episode) can only go on one after the other. The next loop around it may go over samples,
which could be put together; the one that trains, and what is around that, does not.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from types import CodeType

from perfdoctor.collect.script.call_places import Path
from perfdoctor.collect.script.loop_finder import LoopFacts, Spot
from perfdoctor.collect.script.slicing import assigned, loaded, mutated
from perfdoctor.collect.script.source import (
    LOOPS,
    blocks,
    function_of,
    heads,
    line_of,
    loops_at,
    statement_at,
)

#: Functions of comprehensions, before Python 3.12: nothing is fed back in them.
_COMPREHENSIONS = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})
_IN_LINE = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def loop_over_samples(path: Path, trainings: Collection[LoopFacts]) -> Spot | None:
    """Where the innermost loop around this call that feeds nothing back makes it; None where there
    is none, or where the source does not tell."""
    trained = _trained_at(trainings)
    if not trained:  # then the loop over epochs would pass for one over samples
        return None
    for code, instruction in path:
        line = line_of(code, instruction)
        if code.co_name in _COMPREHENSIONS:
            return None if line is None else Spot(code, line)
        function = function_of(code)
        if function is None or line is None:
            continue  # a library's, or compiled from text
        training = {loop for at in trained.get(code, ()) for loop in loops_at(function, at)}
        if _in_comprehension(function, code, instruction, line):
            return Spot(code, line)
        for loop in reversed(loops_at(function, line)):
            if loop in training:
                return None
            if not _feeds_back(loop, code, instruction, line):
                return Spot(code, line)
    return None


def _trained_at(trainings: Collection[LoopFacts]) -> Mapping[CodeType, list[int]]:
    """Functions around a training → the lines that lead to it."""
    found: dict[CodeType, list[int]] = {}
    for one in trainings:
        found.setdefault(one.code, []).append(one.forward_line)
        for spot in one.outer:
            found.setdefault(spot.code, []).append(spot.line)
    return found


def _feeds_back(loop: ast.stmt, code: CodeType, instruction: int, line: int) -> bool:
    """Whether what the call at this line makes gets to its arguments, in the next turn."""
    statement = statement_at(loop, line)
    if statement is None or isinstance(statement, LOOPS):  # it makes what the loop goes over
        return False
    called = _call_at(statement, code, instruction)
    calls = _calls(statement) if called is None else [called]
    asked = {name for call in calls for name in _given(call)}
    made = assigned(statement) | mutated(statement)
    inside = list(_statements(loop))
    before: set[str] = set()
    while before != made:
        before = set(made)
        for one in inside:
            if any(loaded(part) & made for part in heads(one)):
                made |= assigned(one) | mutated(one)
    return bool(asked & made)


def _given(call: ast.Call) -> set[str]:
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    return {name for value in given for name in loaded(value)}


def _calls(statement: ast.stmt) -> list[ast.Call]:
    nodes = (node for part in heads(statement) for node in ast.walk(part))
    return [node for node in nodes if isinstance(node, ast.Call)]


def _call_at(statement: ast.AST, code: CodeType, instruction: int) -> ast.Call | None:
    """The very call that an instruction makes; None where Python (before 3.11) does not tell."""
    place = _position(code, instruction)
    for node in ast.walk(statement):
        if isinstance(node, ast.Call) and place == _place(node):
            return node
    return None


def _in_comprehension(function: ast.AST, code: CodeType, instruction: int, line: int) -> bool:
    """Whether a comprehension makes the call, where it has no function of its own."""
    place = _position(code, instruction)
    statement = statement_at(function, line) if place is not None else None
    if statement is None:
        return False
    loops = [node for node in ast.walk(statement) if isinstance(node, _IN_LINE)]
    parts = [loop.value if isinstance(loop, ast.DictComp) else loop.elt for loop in loops]
    return any(_place(node) == place for part in parts for node in ast.walk(part))


def _position(code: CodeType, instruction: int) -> tuple[int | None, ...] | None:
    positions = getattr(code, "co_positions", None)
    if positions is None or instruction < 0:
        return None
    # one entry for each two bytes of bytecode
    return next((p for i, p in enumerate(positions()) if i == instruction // 2), None)


def _place(node: ast.AST) -> tuple[int | None, ...] | None:
    if not isinstance(node, ast.expr):
        return None
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _statements(owner: ast.AST) -> Iterator[ast.stmt]:
    for block in blocks(owner):
        for statement in block:
            yield statement
            yield from _statements(statement)
