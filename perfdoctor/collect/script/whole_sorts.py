"""Lines that sort everything to take the first few of it, by their source.

`x.sort(-1)[0][..., :k]` puts all of x in order, `x.topk(k)` finds the few. Said is that only where
nothing else of the sorted is used.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator

from perfdoctor.collect.script.sample_calls import last_name
from perfdoctor.collect.script.source import function_at, module_of, statement_at

#: What sorts, by the last part of its name.
_SORTS = ("sort", "argsort", "msort", "sorted")
#: Both parts of what `torch.sort` gives.
_PARTS = ("values", "indices")


@functools.lru_cache(maxsize=256)
def whole_sort(file: str, line: int) -> str | None:
    """What sorts all for a few at a line: sort, argsort, msort or sorted; None where nothing does,
    or the source does not tell."""
    module = module_of(file)
    if module is None:
        return None
    try:
        return _whole_sort(module, line)
    except RecursionError:
        return None


def _whole_sort(module: ast.Module, line: int) -> str | None:
    around = function_at(module, line) or module
    statement = statement_at(around, line)
    if not isinstance(statement, (ast.Assign, ast.AnnAssign, ast.Return, ast.AugAssign, ast.Expr)):
        return None
    sorts = [n for n in ast.walk(statement) if isinstance(n, ast.Call) and last_name(n) in _SORTS]
    if len(sorts) != 1 or statement.value is None:
        return None
    taken = [n for n in ast.walk(statement) if isinstance(n, ast.Subscript) and _takes_first(n)]
    if any(_unpacked(one.value) is sorts[0] for one in taken):
        return last_name(sorts[0])
    few = isinstance(statement, ast.Assign) and _only_first_used(statement, around, sorts[0])
    return last_name(sorts[0]) if few else None


def _unpacked(node: ast.expr) -> ast.expr:
    """The call whose values or indices these are."""
    if isinstance(node, ast.Attribute) and node.attr in _PARTS:
        return node.value
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return node.value if node.slice.value in (0, 1) else node
    return node


def _takes_first(node: ast.Subscript) -> bool:
    """`[:k]`, `[-k:]`, `[..., :k]`, `[:, :k]`: the first or last few in one dimension."""
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    cut = [one for one in parts if not _is_everything(one)]
    return len(cut) == 1 and isinstance(cut[0], ast.Slice) and _is_few(cut[0])


def _is_everything(part: ast.expr) -> bool:
    if isinstance(part, ast.Slice):
        return part.lower is None and part.upper is None and part.step is None
    return isinstance(part, ast.Constant) and part.value is Ellipsis


def _is_few(part: ast.Slice) -> bool:
    """One end is open; how many they are is a number or a name, and no part of all there is."""
    ends = [end for end in (part.lower, part.upper) if end is not None]
    if len(ends) != 1 or part.step is not None:
        return False
    end, below = ends[0], False
    if isinstance(end, ast.UnaryOp) and isinstance(end.op, ast.USub):
        end, below = end.operand, True
    counted = isinstance(end, (ast.Name, ast.Attribute)) or (
        isinstance(end, ast.Constant) and type(end.value) is int and end.value > 0
    )
    return counted and below == (part.lower is not None)


def _only_first_used(statement: ast.Assign, around: ast.AST, sort: ast.AST) -> bool:
    """`order = x.argsort()`, of which nothing but `order[:k]` is used."""
    if len(statement.targets) != 1 or _unpacked(statement.value) is not sort:
        return False
    names = list(_names(statement.targets[0]))
    used = [list(_uses(around, name)) for name in names if name != "_"]
    found = [use for uses in used for use in uses]
    return bool(found) and all(isinstance(u, ast.Subscript) and _takes_first(u) for u in found)


def _names(target: ast.expr) -> Iterator[str]:
    for part in target.elts if isinstance(target, ast.Tuple) else [target]:
        yield part.id if isinstance(part, ast.Name) else ""


def _uses(around: ast.AST, name: str) -> Iterator[ast.AST]:
    """Where a name is read: what is taken of it there, else the name itself."""
    taken = {
        id(n.value): n
        for n in ast.walk(around)
        if isinstance(n, ast.Subscript) and isinstance(n.value, ast.Name) and n.value.id == name
    }
    for node in ast.walk(around):
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
            yield taken.get(id(node), node)
    if not name:
        yield around  # set somewhere else
