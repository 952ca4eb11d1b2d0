"""Calls that make a batch within the statement that trains on it: `update(*buffer.sample(64))`.

What runs in them runs before the model is called, though the line is that of the forward.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from perfdoctor.collect.script.sample_calls import last_name
from perfdoctor.collect.script.source import heads, levels

_COMPREHENSIONS: dict[type[ast.AST], str] = {
    ast.ListComp: "<listcomp>",
    ast.SetComp: "<setcomp>",
    ast.DictComp: "<dictcomp>",
    ast.GeneratorExp: "<genexpr>",
}
#: An environment's steps and a policy's choices are no loading: they follow from the model.
_ACTS = re.compile(
    r"^(?:step|reset|forward)$|roll_?out|collect|explor|interact|episode|self_?play"
    r"|(?:^|_)act(?:s|ions?|or)?(?:_|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Given:
    """Lines of a statement, and the functions called there for what the training is given."""

    line: int
    end_line: int
    names: frozenset[str]


def given_calls(function: ast.AST, line: int, leads: str | None) -> Given | None:
    """What is called at `line` within the arguments of the call that leads to the model.

    `leads`: the function that it calls; where it is not written so (a model, an object that is
    called), the only call there with calls in its arguments. None where it cannot be told.
    """
    way = levels(function, line)
    row = way[-1].on_line(line) if way else []
    parts = [part for one in row for part in heads(one)]
    calls = [call for part in parts for call in _calls(part)]
    leading = [call for call in calls if last_name(call) == leads] or _only_one(calls)
    if len(leading) != 1:
        return None
    names = {name for part in _arguments(leading[0]) for name in _called(part)}
    names -= {last_name(leading[0])}
    first = min(call.lineno for call in calls)
    last = max(call.end_lineno or call.lineno for call in calls)
    return Given(first, last, frozenset(names)) if names else None


def _only_one(calls: list[ast.Call]) -> list[ast.Call]:
    """The outermost that is given what calls make; none where several arguments are made so: then
    the model may be called in one, and what it is not given in another."""
    holding = {id(call): [a for a in _arguments(call) if any(_calls(a))] for call in calls}
    if any(len(arguments) > 1 for arguments in holding.values()):
        return []
    inside = {id(one) for call in calls for a in _arguments(call) for one in _calls(a)}
    return [call for call in calls if holding[id(call)] and id(call) not in inside]


def _called(part: ast.expr) -> Iterator[str]:
    """Functions that run for it, as their frames are called; none that acts."""
    for node in _run(part):
        if isinstance(node, ast.Call) and not _ACTS.search(last_name(node)):
            yield last_name(node)
        inner = _COMPREHENSIONS.get(type(node))
        if inner and not any(_ACTS.search(last_name(call)) for call in _calls(node)):
            yield inner


def _run(part: ast.AST) -> Iterator[ast.AST]:
    """What is evaluated at once: not what a lambda will do."""
    yield part
    for child in () if isinstance(part, ast.Lambda) else ast.iter_child_nodes(part):
        yield from _run(child)


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _calls(part: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(part) if isinstance(node, ast.Call))
