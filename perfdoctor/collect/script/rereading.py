"""Whether what a hot line of a dataset reads is the same for every sample, by its source.

`np.load(self.path)["x"][i]` in `__getitem__` reads all of `x` for each `i`. What is said here is
that neither the file nor what is read of it comes from the arguments; where the source does not
tell, as of a reader that goes on in an open file, nothing is said.
"""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Sequence

from perfdoctor.collect.script.dependence import Dependence
from perfdoctor.collect.script.reading_names import READER
from perfdoctor.collect.script.sample_calls import (
    INIT,
    Called,
    Dataset,
    each_turn,
    opens_one,
    own_attribute,
)
from perfdoctor.collect.script.source import FUNCTIONS, heads, module_of, statement_at
from perfdoctor.collect.script.values import SAME, VARIES, Value


def same_each_time(file: str, line: int, callee: str | None) -> bool | None:
    """Whether `callee` (see `attribution.Line`), called at `line`, reads the same for each sample.

    False where it depends on the sample; None where nothing is read, or it cannot be told.
    """
    module = module_of(file)
    if module is None:
        return None
    try:
        classes = [node for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
        found = [_value_at(Dataset(module, node), line, callee or "") for node in classes]
    except RecursionError:
        return None
    values = [value for value in found if value is not None]
    if not values or not all(value.reads for value in values):
        return None
    return {SAME: True, VARIES: False}.get(max(value.how for value in values))


def _value_at(dataset: Dataset, line: int, callee: str) -> Value | None:
    """What the callee at `line` gives; None where the samples do not come there."""
    known = dataset.followed() if dataset.is_dataset() else []
    hot = next(((one, values) for one, values in known if _innermost(one.node, line)), None)
    statement = None if hot is None else statement_at(hot[0].node, line)
    if hot is None or statement is None or not each_turn(hot[0].node, line):
        return None
    one, values = hot
    if any(isinstance(node, (ast.Global, ast.Nonlocal)) for node in ast.walk(one.node)):
        return None
    condition = values.condition(statement)
    archive = _archive_read(dataset, one, values, statement, callee)
    if archive is not None:
        return archive | condition
    if any(v.keeps for o, v in known if o.node.name != INIT):
        return None
    found = _chosen(values, statement, line, callee)
    return None if found is None else found | condition


def _archive_read(
    dataset: Dataset, one: Called, values: Dependence, statement: ast.stmt, callee: str
) -> Value | None:
    """`self.file["x"]`, where the file is opened once and `x` unpacked anew each time."""
    if not callee.startswith("NpzFile."):
        return None
    for node in (n for part in heads(statement) for n in ast.walk(part)):
        if isinstance(node, ast.Subscript) and (name := own_attribute(node.value, one.own)):
            made = [(by, value) for by, n, value in dataset.kept() if n == name]
            if made and all(opens_one(*each) for each in made):
                return values.of(node.slice) | Value(reads=True)
    return None


def _chosen(values: Dependence, statement: ast.stmt, line: int, callee: str) -> Value | None:
    """What the callee gives, of all that the line calls; together where several are called so."""
    nodes = [n for part in heads(statement) for n in ast.walk(part) if _on(n, line)]
    kind, _, last = callee.rpartition(".")
    if last == "__getitem__":
        indexed = [n for n in nodes if isinstance(n, ast.Subscript) and values.of(n).reads]
        if kind in ("Dataset", "Array"):  # a part of a file, `[:]` for all of it
            parts = [values.of(n) for n in indexed if not _is_key(n.slice)]
            return min(parts, key=lambda value: value.how, default=None)
        keyed = [n for n in indexed if values.of(n.value).reads and not _nested(n)]
        return _joined(values, keyed)
    calls = [n for n in nodes if isinstance(n, ast.Call) and values.of(n).reads]
    dunder = last.startswith("__")
    name = kind.rpartition(".")[2] if dunder else last
    named = [n for n in calls if name and _last(n, values) == name]
    if named or not (dunder or not callee):
        return _joined(values, named)
    readers = [n for n in calls if READER.fullmatch(_last(n, values))]
    over = [statement.iter] if isinstance(statement, (ast.For, ast.AsyncFor)) else []
    return _joined(values, readers or calls or over)


def _joined(values: Dependence, nodes: Sequence[ast.expr]) -> Value | None:
    return functools.reduce(operator.or_, map(values.of, nodes)) if nodes else None


def _innermost(function: ast.AST, line: int) -> bool:
    """Whether the line is the function's own, and not one of a function inside it."""
    statement = statement_at(function, line)
    inner = [n for n in ast.walk(function) if isinstance(n, FUNCTIONS) and n is not function]
    return statement is not None and not any(_on(n, line) for n in inner)


def _on(node: ast.AST, line: int) -> bool:
    first = getattr(node, "lineno", None)
    return first is not None and first <= line <= (getattr(node, "end_lineno", None) or first)


def _last(call: ast.Call, values: Dependence) -> str:
    return values.called(call).rpartition(".")[2]


def _is_key(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _nested(node: ast.Subscript) -> bool:
    return isinstance(node.value, ast.Subscript)
