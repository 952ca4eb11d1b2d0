"""What the values in a function depend on, by its source: nothing that changes from call to call,
its arguments, or something that the source does not tell.

What is not known to be harmless counts as unknown: a call of something else may draw at random.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

from perfdoctor.collect.script.drawn_names import CHOOSES, GENERATOR, SEEDS, TRANSFORMS, draws
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
from perfdoctor.collect.script.values import (
    ALWAYS,
    DRAWN,
    FIXED,
    GIVEN,
    NOT_KNOWN,
    PERHAPS,
    UNKNOWN,
    Scope,
    Value,
)

#: What is left early here, for a sample of another kind, makes the rest no less the same.
_ROOTS = ("__getitem__", "__getitems__", "__iter__")
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


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
        condition: Value = ALWAYS,
    ) -> None:
        self._scope, self._own, self._steps = scope, own, steps
        self._local = {name for node in ast.walk(function) for name in _named(node)}
        self._values = dict.fromkeys(parameters(function), Value()) | dict(given)
        self._conditions: dict[int, Value] = {}
        self.function = function
        calls = [n for n in ast.walk(function) if isinstance(n, ast.Call)]
        self._reseeded = any(
            n.args and SEEDS.fullmatch(self.called(n).rpartition(".")[2]) for n in calls
        )
        handlers = [n for n in ast.walk(function) if isinstance(n, ast.ExceptHandler)]
        # Where a sample is broken another one is drawn: that is no augmentation.
        self._rare = {id(node) for one in handlers for node in ast.walk(one)}
        #: Whether anything that was read is kept beyond the call.
        self.keeps = False
        self._settle(condition)

    def _settle(self, condition: Value) -> None:
        before: object = None
        while before != (self._values, self._conditions):
            before = dict(self._values), dict(self._conditions)
            self._run(self.function.body, condition)

    def go_to(self, statement: ast.stmt | None) -> None:
        """What is asked next is asked there; here values are those of the whole function."""

    def condition(self, statement: ast.stmt) -> Value:
        """What it depends on whether the statement runs."""
        return self._conditions.get(id(statement), NOT_KNOWN)

    def returned(self) -> Value:
        """What its results depend on."""
        found = Value()
        for node in ast.walk(self.function):
            if isinstance(node, (ast.Return, ast.Expr)) and node.value is not None:
                given = node.value
                if isinstance(node, ast.Expr) and not isinstance(given, ast.Yield):
                    continue
                self.go_to(node)
                given = given.value or given if isinstance(given, ast.Yield) else given
                found |= self.of(given) | self.condition(node)
        return found

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
        if isinstance(node, ast.Subscript) and not _cuts(node.slice):
            whole, which = self.of(node.value), self.of(node.slice)
            return whole | (which if whole.reads else which.chosen)
        if isinstance(node, (ast.Lambda, ast.Await, ast.Yield, ast.YieldFrom)):
            return NOT_KNOWN
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
        if GENERATOR.fullmatch(name):
            seeded = given.drawn == FIXED and bool(call.args or call.keywords)
            return given | Value(UNKNOWN, drawn=FIXED if seeded else DRAWN, seeded=seeded)
        random = self._drawn(call, name)
        if random is not None:
            return given | random
        if CHANGES.search(name):
            on = self.of(call.func.value) if isinstance(call.func, ast.Attribute) else Value()
            return given | on.unread | Value(UNKNOWN, drawn=self._own_drawn(call))
        if isinstance(call.func, ast.Attribute) and "." not in name:
            return given | self._method(call, call.func)
        if name in self._scope.defined and name not in self._local:
            return given | Value(UNKNOWN, reads=True, drawn=self._own_drawn(call))
        if "." in name or name in self._scope.imported or name == "open":
            return self._of_module(name, given)
        if BUILTIN.fullmatch(name) or (name == "next" and given.reads):
            return given
        made = self.of(call.func) if isinstance(call.func, ast.Call) else Value()
        return given | NOT_KNOWN | Value(drawn=made.drawn)

    def _drawn(self, call: ast.Call, name: str) -> Value | None:
        """What a call draws at random; None where it is not known to draw."""
        last, own = name.rpartition(".")[2], self._kept_name(call.func) is not None
        on = self.of(call.func.value) if isinstance(call.func, ast.Attribute) else Value()
        if not isinstance(call.func, ast.Attribute) and "." not in name:
            return None
        if own or not draws(name):
            return None
        among = bool(CHOOSES.fullmatch(last)) and not _literal(call)
        if on.seeded:
            return on | Value(UNKNOWN)
        rarely = among or id(call) in self._rare
        known = not self._reseeded or TRANSFORMS.fullmatch(name)
        return Value(UNKNOWN, drawn=DRAWN if known and not rarely else PERHAPS)

    def _own_drawn(self, call: ast.Call) -> int:
        """Whether a function of the file, or the object's own, gives what is drawn."""
        func = call.func
        if isinstance(func, ast.Name) and func.id not in self._local:
            return self._scope.drawn.get(func.id, PERHAPS)
        if self._kept_name(func) is not None and isinstance(func, ast.Attribute):
            return self._scope.drawn.get(f".{func.attr}", PERHAPS)
        return PERHAPS

    def _of_module(self, name: str, given: Value) -> Value:
        first = name.partition(".")[0]
        if READER.fullmatch(name.rpartition(".")[2]):
            if first in FROM_HANDLE and not given.reads:
                return given.chosen | Value(UNKNOWN, reads=True)
            return given.chosen | Value(reads=True)
        return given if PURE.fullmatch(first) else given | NOT_KNOWN

    def _method(self, call: ast.Call, func: ast.Attribute) -> Value:
        if self._kept_name(func) is not None:
            return Value(UNKNOWN, reads=True, drawn=self._own_drawn(call))
        on = self.of(func.value)
        if on.reads:
            return on
        if OF_PATHS.fullmatch(func.attr):
            return on | Value(reads=bool(OPENING.fullmatch(func.attr)))
        return on | NOT_KNOWN

    # -- statements ----------------------------------------------------------------------------

    def _run(self, block: list[ast.stmt], condition: Value) -> None:
        for statement in block:
            self._conditions[id(statement)] = condition
            if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
                self._bind(ast.Name(statement.name), NOT_KNOWN)
                continue
            self._inside(statement, condition)
            below = condition | self._test(statement).unread
            self._assign(statement, condition)
            self._blocks(statement, below)
            if isinstance(statement, (ast.If, ast.Match)) and _leaves(statement):
                condition = below.chosen if self.function.name in _ROOTS else below

    def _blocks(self, statement: ast.stmt, condition: Value) -> None:
        for inner in blocks(statement):
            self._run(inner, condition)

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
                value |= GIVEN
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                self._bind(target, value)
        elif isinstance(statement, (ast.For, ast.AsyncFor)):
            value = self.of(statement.iter) | condition | self._test(statement).unread
            self._bind(statement.target, value | (GIVEN if self._steps else Value()))
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
                        self._change(one, NOT_KNOWN)
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
            if isinstance(target, ast.Subscript):
                value |= Value(drawn=self.of(target.slice).drawn)
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


def _cuts(index: ast.AST) -> bool:
    """Whether it takes a part, as `x[a:b]`, and not one of several."""
    return any(isinstance(node, ast.Slice) for node in ast.walk(index))


def _literal(call: ast.Call) -> bool:
    """Whether the first argument is written out: `choice([0.9, 1.0, 1.1])`."""
    first = next(iter(call.args), None)
    parts = (ast.List, ast.Tuple, ast.Constant, ast.UnaryOp)
    return isinstance(first, (ast.List, ast.Tuple)) and all(
        isinstance(one, parts) for one in first.elts
    )


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
