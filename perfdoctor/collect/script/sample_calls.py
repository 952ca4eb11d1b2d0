"""What runs for each sample of a dataset: its `__getitem__`, and what that calls in its file."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from perfdoctor.collect.script.dependence import Dependence
from perfdoctor.collect.script.reading_names import HANDLE
from perfdoctor.collect.script.slicing import parameters
from perfdoctor.collect.script.source import FUNCTIONS, loops_at, statement_at
from perfdoctor.collect.script.values import PERHAPS, UNKNOWN, VARIES, Scope, Value

_SAMPLE = ("__getitem__", "__getitems__")
_ITER, INIT = "__iter__", "__init__"
#: Decorators that change nothing of when a function runs.
_PLAIN = frozenset(["staticmethod", "classmethod", "property"])
#: Beside parameters: whether the function is called at all.
_CALLED = ""
_A_SAMPLE = Value(VARIES)


@dataclass(frozen=True, eq=False)
class Called:
    """A function of the file; `own` is what it calls its object."""

    node: ast.FunctionDef | ast.AsyncFunctionDef
    own: str | None = None

    @property
    def kind(self) -> set[str]:
        """Its decorators."""
        return {ast.unparse(decorator) for decorator in self.node.decorator_list}

    def handed(self, call: ast.Call, values: Dependence) -> dict[str, Value]:
        """What a call gives each parameter; those that cannot be told apart get all of it."""
        order = [a.arg for a in (*self.node.args.posonlyargs, *self.node.args.args)]
        order = order[1:] if self.own else order
        given = {name: values.of(a) for name, a in zip(order, call.args, strict=False)}
        given |= {k.arg: values.of(k.value) for k in call.keywords if k.arg is not None}
        starred = [k.value for k in call.keywords if k.arg is None]
        if len(call.args) > len(order) or any(isinstance(a, ast.Starred) for a in call.args):
            starred += call.args
        for one in starred:
            given = {n: given.get(n, Value()) | values.of(one) for n in parameters(self.node)}
        return {name: value.unread for name, value in given.items()}


class Dataset:
    """A class whose `__getitem__` is called for each sample, and what that calls in its file.

    Without a class: the functions of the file alone.
    """

    def __init__(self, module: ast.Module, node: ast.ClassDef | None) -> None:
        classes = {n.name: n for n in ast.walk(module) if isinstance(n, ast.ClassDef)}
        self._lineage = [] if node is None else list(_lineage(node, classes))
        self._methods = {
            name: one for base in reversed(self._lineage) for name, one in _methods(base)
        }
        self._functions = {n.name: Called(n) for n in module.body if isinstance(n, FUNCTIONS)}
        for name, made in classes.items():
            self._functions.update((name, one) for n, one in _methods(made) if n == INIT)
        self._imported = dict(imports(module))
        self._defined = frozenset([*self._functions, *classes])

    def is_dataset(self) -> bool:
        """An object with `__getitem__` alone may be one sample's, made for its file."""
        names = [ast.unparse(base) for node in self._lineage for base in node.bases]
        names.append(self._lineage[0].name)
        return "__len__" in self._methods or any("dataset" in name.lower() for name in names)

    # -- what the samples come to --------------------------------------------------------------

    def roots(self) -> list[Called]:
        """What is called for each sample."""
        roots = [self._methods[n] for n in (*_SAMPLE, _ITER) if n in self._methods]
        return [one for one in roots if not any("cache" in name for name in one.kind)]

    def iterates(self) -> bool:
        """Whether it is gone through as a whole, and not asked for samples by their numbers."""
        return _ITER in self._methods

    def used(self, within: ast.AST, own: str | None) -> list[Called]:
        """Functions of the file that it calls or hands on, as in `map(self.read, files)`."""
        found = [called for _, called in self.calls(within, own)]
        for node in ast.walk(within):
            if isinstance(node, ast.Name):
                called = self._functions.get(node.id)
            else:
                called = self._methods.get(own_attribute(node, own))
            found += [called] if called is not None and called not in found else []
        return found

    def method(self, node: ast.AST) -> Called | None:
        """The object's method that this function is."""
        return next((one for one in self._methods.values() if one.node is node), None)

    def reached(self, roots: Iterable[Called]) -> list[Called]:
        """These, and all that they call in the file."""
        reached = list(roots)
        for one in reached:
            reached += [c for _, c in self.calls(one.node, one.own) if c not in reached]
        return reached

    def followed(
        self,
        roots: Sequence[Called] | None = None,
        first: Value = _A_SAMPLE,
        transforms: Mapping[str, int] | None = None,
        kind: type[Dependence] = Dependence,
    ) -> list[tuple[Called, Dependence]]:
        """Each function that runs for a sample, or below `roots`, with what it is given there.

        `first`: what the roots are given. `transforms`: as `Scope.drawn`, of attributes.
        """
        roots = self.roots() if roots is None else roots
        reached = self.reached(roots)
        attributes, drawn = self._attributes(reached), dict(transforms or {})
        given: dict[Called, dict[str, Value]] = {one: {} for one in reached}
        for one in roots:
            given[one] = dict.fromkeys(parameters(one.node) - {one.own}, first)
        while True:
            scope = Scope(self._imported, self._defined, attributes, drawn)
            values = {one: _dependence(kind, one, scope, given[one]) for one in reached}
            before = {one: dict(of) for one, of in given.items()}
            for one in reached:
                for call, called in self.calls(one.node, one.own):
                    self._hand(one, call, called, values[one], given[called])
            now = drawn | {self._key(one): of.returned().drawn for one, of in values.items()}
            if before == given and now == drawn:
                return list(values.items())
            drawn = now

    def _hand(
        self,
        one: Called,
        call: ast.expr,
        called: Called,
        values: Dependence,
        given: dict[str, Value],
    ) -> None:
        statement = statement_at(one.node, call.lineno)
        reason = Value(UNKNOWN) if statement is None else values.condition(statement)
        values.go_to(statement)
        if not each_turn(one.node, call.lineno):
            reason |= Value(UNKNOWN)
        new = called.handed(call, values) if isinstance(call, ast.Call) else {}
        # Where it is called for some samples only, all in it depends on which.
        for name in (*new, _CALLED):
            given[name] = given.get(name, Value()) | new.get(name, Value()) | reason.unread

    def _key(self, one: Called) -> str:
        """As in `Scope.drawn`."""
        return f".{one.node.name}" if one in self._methods.values() else one.node.name

    def calls(self, within: ast.AST, own: str | None) -> Iterator[tuple[ast.expr, Called]]:
        """Uses of functions of the file, and of the object's own properties."""
        for node in ast.walk(within):
            called = None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                called = self._functions.get(node.func.id)
            elif isinstance(node, ast.Call):
                called = self._methods.get(own_attribute(node.func, own))
            elif isinstance(node, ast.Attribute):
                found = self._methods.get(own_attribute(node, own))
                called = found if found is not None and "property" in found.kind else None
            if called is not None and isinstance(node, ast.expr) and called.kind <= _PLAIN:
                yield node, called

    # -- what the object holds -----------------------------------------------------------------

    def _attributes(self, reached: list[Called]) -> dict[str, Value]:
        """Those whose value is not known: properties, open files, what samples change."""
        found: dict[str, Value] = {}
        for name, one in self._methods.items():
            if any("property" in kind for kind in one.kind):
                found[name] = Value(UNKNOWN, reads=True, drawn=PERHAPS)
        for one, name, value in self.kept():
            opened = isinstance(value, ast.Call) and HANDLE.fullmatch(last_name(value))
            if opened or (one in reached and one.node.name != INIT):
                found[name] = found.get(name, Value()) | Value(UNKNOWN, drawn=PERHAPS)
            elif one.node.name != INIT:  # as by `set_epoch`
                found[name] = found.get(name, Value()) | Value(drawn=PERHAPS)
        return found

    def kept(self) -> Iterator[tuple[Called, str, ast.expr]]:
        """Assignments to attributes, in whichever method."""
        for one in self._methods.values():
            for node in ast.walk(one.node):
                if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and node.value:
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    for target in (t for whole in targets for t in ast.walk(whole)):
                        if name := own_attribute(target, one.own):
                            yield one, name, node.value


def _dependence(
    kind: type[Dependence], one: Called, scope: Scope, given: Mapping[str, Value]
) -> Dependence:
    steps, condition = one.node.name == _ITER, given.get(_CALLED, Value())
    return kind(one.node, scope, given, own=one.own, steps=steps, condition=condition)


def _lineage(
    node: ast.ClassDef, classes: Mapping[str, ast.ClassDef], deep: int = 5
) -> Iterator[ast.ClassDef]:
    """The class and those of the same file that it is derived from."""
    yield node
    for base in node.bases if deep else ():
        if isinstance(base, ast.Name) and base.id in classes and base.id != node.name:
            yield from _lineage(classes[base.id], classes, deep - 1)


def _methods(node: ast.ClassDef) -> Iterator[tuple[str, Called]]:
    for one in node.body:
        if isinstance(one, FUNCTIONS):
            first = [a.arg for a in (*one.args.posonlyargs, *one.args.args)][:1]
            static = any(ast.unparse(d) == "staticmethod" for d in one.decorator_list)
            yield one.name, Called(one, None if static or not first else first[0])


def imports(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Name → what it is, dotted."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for one in node.names:
                yield (one.asname, one.name) if one.asname else (one.name.partition(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom):
            for one in node.names:
                yield one.asname or one.name, f"{node.module or ''}.{one.name}"


def each_turn(function: ast.FunctionDef | ast.AsyncFunctionDef, line: int) -> bool:
    """In `__iter__`: whether the innermost loop there yields the samples one by one."""
    if function.name != _ITER:
        return True
    around = loops_at(function, line)
    yields = [n for n in ast.walk(function) if isinstance(n, (ast.Yield, ast.YieldFrom))]
    return bool(around) and any(loops_at(function, n.lineno)[-1:] == around[-1:] for n in yields)


def opens_one(by: Called, value: ast.expr) -> bool:
    """Whether an attribute is set to `load(…)` of what the object always has, or to None."""
    if isinstance(value, ast.Constant):
        return value.value is None
    if not isinstance(value, ast.Call) or last_name(value) != "load":
        return False
    given = {n.id for a in value.args for n in ast.walk(a) if isinstance(n, ast.Name)}
    bound = parameters(by.node) | {
        n.id for n in ast.walk(by.node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    return by.node.name == INIT or not given & (bound - {by.own})


def own_attribute(node: ast.AST, own: str | None) -> str:
    """`x` of `self.x`; nothing where it is no attribute of the object itself."""
    if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
        return ""
    return node.attr if own is not None and node.value.id == own else ""


def last_name(call: ast.Call) -> str:
    """What is called, as written, without what it is of."""
    return ast.unparse(call.func).rpartition(".")[2]
