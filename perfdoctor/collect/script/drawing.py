"""Whether what a hot line of a dataset or of a transform gives is drawn at random, by its source.

What is drawn anew for each sample cannot be kept, whatever its function is called; what is the
same for the same sample can. Which sample is taken may be drawn: the work on it stays the same.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping

from perfdoctor.collect.script.dependence import Dependence
from perfdoctor.collect.script.drawn_names import TRANSFORMS
from perfdoctor.collect.script.ordered import Ordered
from perfdoctor.collect.script.sample_calls import INIT, Called, Dataset, imports, last_name
from perfdoctor.collect.script.source import FUNCTIONS, heads, module_of, statement_at
from perfdoctor.collect.script.values import DRAWN, FIXED, PERHAPS, UNKNOWN, Value

#: What applies one transform after the other, by its last name.
_CHAINS = frozenset(["Compose", "Sequential"])
_OF_TORCHVISION = "torchvision.transforms."
_ANYTHING = Value(UNKNOWN, drawn=PERHAPS)


@functools.lru_cache(maxsize=256)
def drawn_each_time(file: str, line: int, callee: str | None) -> bool | None:
    """Whether `callee` (see `attribution.Line`), called at `line`, gives something drawn at random.

    False where it is the same for the same sample; None where the source does not tell.
    """
    module = module_of(file)
    hot = None if module is None else _function(module, line)
    if module is None or hot is None:
        return None
    try:
        found = [_drawn(values, line, callee or "") for values in _values(module, hot)]
    except RecursionError:
        return None
    return {FIXED: False, DRAWN: True}.get(max(found, default=PERHAPS))


def _values(
    module: ast.Module, hot: ast.FunctionDef | ast.AsyncFunctionDef
) -> Iterator[Dependence]:
    """The values in the function: of datasets that call it, or else of any caller."""
    classes = [node for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
    datasets = [(node, Dataset(module, node)) for node in classes]
    found = []
    for node, dataset in datasets:
        if dataset.is_dataset():
            followed = dataset.followed(transforms=_transforms(module, node), kind=Ordered)
            found += [values for one, values in followed if one.node is hot]
    if not found:
        own = next((n for n, one in datasets if one.method(hot) is not None), None)
        alone = Dataset(module, own)
        root = alone.method(hot) or Called(hot)
        known = {} if own is None else _transforms(module, own)
        followed = alone.followed([root], _ANYTHING, known, Ordered)
        found = [values for one, values in followed if one.node is hot]
    yield from found


def _drawn(values: Dependence, line: int, callee: str) -> int:
    """Of what is called there by that name; of the whole statement, where nothing is."""
    statement = statement_at(values.function, line)
    if statement is None:
        return PERHAPS
    parts = heads(statement)
    kind, _, last = callee.rpartition(".")
    name = kind.rpartition(".")[2] if last.startswith("__") else last
    calls = [n for part in parts for n in ast.walk(part) if isinstance(n, ast.Call)]
    named = [n for n in calls if name and last_name(n) == name]
    values.go_to(statement)
    if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
        parts = [statement.value]  # what it is set to later is not of this line
    elif isinstance(statement, (ast.Return, ast.Expr)) and statement.value is not None:
        given = statement.value
        parts = [given.value or given if isinstance(given, ast.Yield) else given]
    drawn = [values.of(node).drawn for node in named or parts]
    return max(values.condition(statement).drawn, *drawn)


def _function(module: ast.Module, line: int) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The innermost function around a line."""
    around = [
        node
        for node in ast.walk(module)
        if isinstance(node, FUNCTIONS) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    return max(around, key=lambda node: node.lineno, default=None)


# -- what an object's transforms are -----------------------------------------------------------


def _transforms(module: ast.Module, node: ast.ClassDef) -> Mapping[str, int]:
    """Attributes that are transforms of torchvision, as in `Scope.drawn`."""
    made = _Made(module)
    found: dict[str, int] = {}
    for by, name, value in Dataset(module, node).kept():
        values = made.given(node, by, value) if by.node.name == INIT else [value]
        levels = [level for one in values if (level := made.level(one)) is not None]
        if levels:
            found[f".{name}"] = max(levels)
    return found


class _Made:
    """What the expressions of a module make."""

    def __init__(self, module: ast.Module) -> None:
        self._imported = dict(imports(module))
        self._nodes = list(ast.walk(module))

    def given(self, node: ast.ClassDef, by: Called, value: ast.expr) -> list[ast.expr]:
        """The value itself; of a parameter of `__init__`, what the class is given for it."""
        arguments = by.node.args
        order = [a.arg for a in (*arguments.posonlyargs, *arguments.args)][1:]
        if not isinstance(value, ast.Name) or value.id not in order:
            return [value]
        found = []
        for call in self._nodes:
            if isinstance(call, ast.Call) and last_name(call) == node.name:
                given = dict(zip(order, call.args, strict=False))
                given |= {k.arg: k.value for k in call.keywords if k.arg}
                found += [given[value.id]] if value.id in given else []
        return found

    def level(self, value: ast.expr, deep: int = 4) -> int | None:
        """Whether it draws; perhaps, where it does so after something that can be kept.

        None of what is no transform of torchvision.
        """
        if isinstance(value, ast.Name) and deep:
            set_to = [n.value for n in self._nodes if isinstance(n, ast.Assign) and _sets(n, value)]
            levels = [v for one in set_to if (v := self.level(one, deep - 1)) is not None]
            return max(levels, default=None)
        if not isinstance(value, ast.Call):
            return None
        first, dot, rest = ast.unparse(value.func).partition(".")
        name = self._imported.get(first, first) + dot + rest
        if name.rpartition(".")[2] in _CHAINS:
            return self._chain(value, deep)
        if TRANSFORMS.fullmatch(name):
            return DRAWN
        return FIXED if name.startswith(_OF_TORCHVISION) else None

    def _chain(self, call: ast.Call, deep: int) -> int | None:
        given = call.args[0] if len(call.args) == 1 else None
        parts = given.elts if isinstance(given, (ast.List, ast.Tuple)) else call.args
        levels = [self.level(part, deep - 1) for part in parts] if deep else []
        if not levels or all(level is None for level in levels):
            return None
        if levels[0] == DRAWN or all(level == FIXED for level in levels):
            return levels[0]
        return PERHAPS


def _sets(statement: ast.Assign, name: ast.Name) -> bool:
    return any(isinstance(one, ast.Name) and one.id == name.id for one in statement.targets)
