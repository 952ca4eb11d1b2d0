"""What the values in a function depend on, by its source: nothing that changes from call to call,
its arguments, or something that the source does not tell.

What is not known to be harmless counts as unknown: a call of something else may draw at random.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from perfdoctor.collect.script.reading_names import (
    BUILTIN,
    CHANGES,
    FROM_HANDLE,
    KEEPING,
    MOVING,
    OF_PATHS,
    OPENING,
    PURE,
    READER,
    TYPES_ASKED,
)
from perfdoctor.collect.script.slicing import assigned, parameters
from perfdoctor.collect.script.source import FUNCTIONS, blocks, heads

#: The same each time; not known; given by the arguments. What is made of several is the last.
SAME, UNKNOWN, VARIES = range(3)

_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(frozen=True)
class Value:
    """What a value depends on, and whether a file is read for it in this call."""

    how: int = SAME
    reads: bool = False

    def __or__(self, other: Value) -> Value:
        return Value(max(self.how, other.how), self.reads or other.reads)

    @property
    def unread(self) -> Value:
        """As the condition of something else, which it does not make a reading."""
        return Value(self.how)


_NOT_KNOWN = Value(UNKNOWN)
_GIVEN = Value(VARIES)


@dataclass(frozen=True)
class Scope:
    """What a function sees around it.

    Attributes:
        imported: name → what it is, dotted. defined: functions and classes of the same file.
        attributes: those of `self` that are not set once to something plain.
    """

    imported: Mapping[str, str]
    defined: frozenset[str] = frozenset()
    attributes: Mapping[str, Value] = field(default_factory=dict)


class Dependence:
    """The values of one function.

    Args:
        given: what each parameter depends on; those not named are the same each time.
        own: the name of the object that the function is a method of, or None.
        steps: each turn of its loops is a call, as in the `__iter__` of a dataset.
        condition: what it depends on whether the function is called.
    """

    def __init__(
        self,
        function: ast.FunctionDef | ast.AsyncFunctionDef,
        scope: Scope,
        given: Mapping[str, Value],
        *,
        own: str | None = None,
        steps: bool = False,
        condition: Value = Value(),
    ) -> None:
        self._scope, self._own, self._steps = scope, own, steps
        self._local = {name for node in ast.walk(function) for name in _named(node)}
        self._values = dict.fromkeys(parameters(function), Value()) | dict(given)
        self._conditions: dict[int, Value] = {}
        #: Whether anything that was read is kept beyond the call.
        self.keeps = False
        before: object = None
        while before != (self._values, self._conditions):
            before = dict(self._values), dict(self._conditions)
            self._run(function.body, condition)

    def condition(self, statement: ast.stmt) -> Value:
        """What it depends on whether the statement runs."""
        return self._conditions.get(id(statement), _NOT_KNOWN)

    def of(self, node: ast.AST) -> Value:
        """What an expression depends on."""
        if isinstance(node, ast.Name):
            return self._values.get(node.id, Value())
        if isinstance(node, ast.Attribute):
            kept = self._kept_name(node)
            if kept is None:
                return self.of(node.value)
            known = self._scope.attributes.get(node.attr, Value())
            return self._values.get(kept, known)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, (ast.Lambda, ast.Await, ast.Yield, ast.YieldFrom)):
            return _NOT_KNOWN
        return self._all(ast.iter_child_nodes(node))

    def called(self, call: ast.Call) -> str:
        """What is called, dotted, where a module's function is; else its last name."""
        dotted = ast.unparse(call.func) if _root(call.func) else ""
        first, dot, rest = dotted.partition(".")
        if first in self._scope.imported and first not in self._local:
            return self._scope.imported[first] + dot + rest
        return dotted.rpartition(".")[2] or getattr(call.func, "attr", "")

    def _all(self, nodes: Iterable[ast.AST]) -> Value:
        found = Value()
        for node in nodes:
            found |= self.of(node)
        return found

    # -- calls ---------------------------------------------------------------------------------

    def _call(self, call: ast.Call) -> Value:
        given = self._all([*call.args, *(k.value for k in call.keywords)])
        name = self.called(call)
        last = name.rpartition(".")[2]
        if last in TYPES_ASKED:
            return Value()
        if CHANGES.search(name):
            return given | _NOT_KNOWN
        if isinstance(call.func, ast.Attribute) and "." not in name:
            return given | self._method(call.func)
        if name in self._scope.defined and name not in self._local:
            return given | Value(UNKNOWN, reads=True)
        if "." in name or name in self._scope.imported or name == "open":
            return self._of_module(name, given)
        if BUILTIN.fullmatch(name) or (name == "next" and given.reads):
            return given
        return given | _NOT_KNOWN

    def _of_module(self, name: str, given: Value) -> Value:
        first = name.partition(".")[0]
        if READER.fullmatch(name.rpartition(".")[2]):
            if first in FROM_HANDLE and not given.reads:
                return given | Value(UNKNOWN, reads=True)
            return given | Value(reads=True)
        return given if PURE.fullmatch(first) else given | _NOT_KNOWN

    def _method(self, func: ast.Attribute) -> Value:
        if self._kept_name(func) is not None:
            return Value(UNKNOWN, reads=True)
        on = self.of(func.value)
        if on.reads:
            return on
        if OF_PATHS.fullmatch(func.attr):
            return on | Value(reads=bool(OPENING.fullmatch(func.attr)))
        return on | _NOT_KNOWN

    # -- statements ----------------------------------------------------------------------------

    def _run(self, block: list[ast.stmt], condition: Value) -> None:
        for statement in block:
            self._conditions[id(statement)] = condition
            if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
                self._bind(ast.Name(statement.name), _NOT_KNOWN)
                continue
            self._inside(statement, condition)
            below = condition | self._test(statement).unread
            self._assign(statement, condition)
            for inner in blocks(statement):
                self._run(inner, below)
            if isinstance(statement, (ast.If, ast.Match)) and _leaves(statement):
                condition = below

    def _test(self, statement: ast.stmt) -> Value:
        if isinstance(statement, (ast.If, ast.While)):
            found = self.of(statement.test)
        elif isinstance(statement, ast.Match):
            found = self.of(statement.subject)
        else:
            found = Value()
        if not isinstance(statement, (ast.For, ast.AsyncFor, ast.While)):
            return found
        # How many turns it takes is decided inside.
        inner = [n for n in ast.walk(statement) if isinstance(n, ast.If) and _leaves(n)]
        return found | self._all(n.test for n in inner)

    def _assign(self, statement: ast.stmt, condition: Value) -> None:
        if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            if statement.value is None:
                return
            value = self.of(statement.value) | condition
            if self._steps and _counted(statement):
                value |= _GIVEN
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                self._bind(target, value)
        elif isinstance(statement, (ast.For, ast.AsyncFor)):
            value = self.of(statement.iter) | condition | self._test(statement).unread
            self._bind(statement.target, value | (_GIVEN if self._steps else Value()))
        elif isinstance(statement, (ast.With, ast.AsyncWith)):
            for item in statement.items:
                if item.optional_vars is not None:
                    self._bind(item.optional_vars, self.of(item.context_expr) | condition)

    def _inside(self, statement: ast.stmt, condition: Value) -> None:
        """What expressions bind, and what the calls in them change."""
        for node in (node for part in heads(statement) for node in ast.walk(part)):
            if isinstance(node, _Comprehension):
                for turn in node.generators:
                    self._bind(turn.target, self.of(turn.iter) | condition)
            elif isinstance(node, ast.NamedExpr):
                self._bind(node.target, self.of(node.value) | condition)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                given = self._all([*node.args, *(k.value for k in node.keywords)])
                alone = isinstance(statement, ast.Expr) and statement.value is node
                if alone or node.func.attr in MOVING:
                    self._change(node.func.value, given | condition)
                if alone and CHANGES.search(node.func.attr):
                    for one in node.args:  # shuffled in place
                        self._change(one, _NOT_KNOWN)
                if node.func.attr in KEEPING and "." not in self.called(node):
                    self._keep(node.func.value, given)

    def _bind(self, target: ast.AST, value: Value) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            for one in target.elts:
                self._bind(one, value)
        elif isinstance(target, ast.Starred):
            self._bind(target.value, value)
        elif isinstance(target, ast.Name):
            self._join(target.id, value)
            if target.id not in self._local:
                self.keeps |= value.reads
        elif isinstance(target, (ast.Attribute, ast.Subscript)):
            self._change(target, value)
            self._keep(target, value)

    def _change(self, target: ast.AST, value: Value) -> None:
        """The object that the target is, or is a part of, now depends on `value` too."""
        while isinstance(target, (ast.Attribute, ast.Subscript)):
            kept = self._kept_name(target)
            if kept is not None:
                before = self._scope.attributes.get(kept.rpartition(".")[2], Value())
                self._join(kept, before | value)
            target = target.value
        if isinstance(target, ast.Name) and target.id in self._local and target.id != self._own:
            self._join(target.id, value)

    def _keep(self, target: ast.AST, value: Value) -> None:
        name = _root(target)
        self.keeps |= value.reads and (name == self._own or name not in self._local)

    def _join(self, name: str, value: Value) -> None:
        self._values[name] = self._values[name] | value if name in self._values else value

    def _kept_name(self, node: ast.AST) -> str | None:
        """`self.x` for an attribute of the object itself."""
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
            return None
        return f"{self._own}.{node.attr}" if node.value.id == self._own else None


def _root(node: ast.AST) -> str:
    """The name that a chain of attributes and indices begins with; nothing where it is none."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _named(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id


def _counted(statement: ast.Assign | ast.AnnAssign | ast.AugAssign) -> bool:
    """Whether what it sets is made of what that was before: `k += 1`, `k = k + 1`."""
    if isinstance(statement, ast.AugAssign):
        return True
    read = ast.walk(statement.value) if statement.value is not None else ()
    return bool(assigned(statement) & {n.id for n in read if isinstance(n, ast.Name)})


def _leaves(statement: ast.stmt) -> bool:
    leaving = (ast.Return, ast.Break, ast.Continue)
    return any(isinstance(node, leaving) for node in ast.walk(statement))
