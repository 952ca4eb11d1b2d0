"""The values of a function at each of its statements: what is drawn later is not drawn yet."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

from perfdoctor.collect.script.dependence import Dependence
from perfdoctor.collect.script.source import LOOPS, blocks
from perfdoctor.collect.script.values import Value

_LEAVING = (ast.Return, ast.Raise, ast.Continue, ast.Break)
#: Each turn of a loop hands what is drawn one name on; longer chains are rare (our own choice).
_TURNS = 3


class Ordered(Dependence):
    """As `Dependence`, but a name that is set anew holds what it is set to and nothing else."""

    def _settle(self, condition: Value) -> None:
        self._seen: dict[int, dict[str, Value]] = {}
        self._run(self.function.body, condition)

    def go_to(self, statement: ast.stmt | None) -> None:
        """What is asked next is asked at this statement."""
        self._values = dict(self._seen.get(id(statement), self._values))

    def _inside(self, statement: ast.stmt, condition: Value) -> None:
        super()._inside(statement, condition)
        self._seen[id(statement)] = dict(self._values)

    def _blocks(self, statement: ast.stmt, condition: Value) -> None:
        loops, inside = isinstance(statement, LOOPS), list(blocks(statement))
        for _ in range(_TURNS if loops else 1):
            before, ends = self._values, []
            for inner in inside:
                self._values = dict(before)
                self._run(inner, condition)
                if not isinstance(inner[-1], _LEAVING) or loops:
                    ends.append(self._values)
            if not _certain(statement):
                ends.append(before)
            self._values = _joined(ends) if ends else before
            if loops:
                self._assign(statement, condition)

    def _bind(self, target: ast.AST, value: Value) -> None:
        if isinstance(target, ast.Name) and target.id in self._local and target.id != self._own:
            self._values[target.id] = value
        else:
            super()._bind(target, value)

    def _assign(self, statement: ast.stmt, condition: Value) -> None:
        if isinstance(statement, ast.AugAssign):
            super()._bind(statement.target, self.of(statement.value) | condition)
        else:
            super()._assign(statement, condition)


def _certain(statement: ast.stmt) -> bool:
    """Whether one of its blocks always runs."""
    if isinstance(statement, ast.If):
        return bool(statement.orelse)
    return isinstance(statement, (ast.With, ast.AsyncWith))


def _joined(ends: Iterable[Mapping[str, Value]]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for end in ends:
        for name, value in end.items():
            found[name] = found.get(name, Value()) | value
    return found
