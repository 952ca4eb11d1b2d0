"""Lines of samples that make a whole of which only a part is used, by their source.

`audio = resample(read(path))`, of which the sample is `audio[start:start + n]`: what is made of the
rest is thrown away. So it is of items: `x = stack([load(f) for f in files])`, of which the sample
is `x[few(n)]`. Said is that only where nothing but such parts of the whole is used, and its size.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from perfdoctor.collect.script.slicing import assigned
from perfdoctor.collect.script.source import (
    FUNCTIONS,
    LOOPS,
    Function,
    blocks,
    function_at,
    heads,
    module_of,
    statement_at,
)

#: What is asked of a whole without using it.
_SIZES = frozenset(["shape", "size", "ndim", "dim", "dtype", "device", "numel", "nbytes"])
#: Methods that take a window.
_WINDOWS = frozenset(["crop", "narrow"])
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)
#: What puts all items into another order, or may leave out few.
_ORDERS = re.compile(r"perm|order|sort|shuffl|mask|keep|valid")
#: Functions through which a whole is handed on before a part of it is taken.
_DEEPEST = 3


@functools.lru_cache(maxsize=256)
def part_taken(file: str, line: int) -> str | None:
    """The window that alone is used of what a line makes, or the items, as written; None where more
    is used, or the source does not tell."""
    module = module_of(file)
    if module is None:
        return None
    try:
        around = function_at(module, line)
        statement = None if around is None else statement_at(around, line)
        if around is None or statement is None:
            return None
        return _part_of(module, around, statement, _DEEPEST)
    except RecursionError:
        return None


def _part_of(
    module: ast.Module, around: Function, made: ast.stmt, deep: int, items: bool = False
) -> str | None:
    """Of what the statement makes, or puts together of `items`."""
    if isinstance(made, ast.Return):
        return _part_of_calls(module, around, deep)
    names = assigned(made) - {"_"}
    if not names or isinstance(made, LOOPS):
        return None
    use = _Use(names, items)
    for statement, inside_loop in _after(around, made):
        if not use.goes_on(statement, inside_loop=inside_loop):
            return None
    if use.returned:
        return None if use.windows else _part_of_calls(module, around, deep)
    return next(iter(use.windows), None)


def _part_of_calls(module: ast.Module, function: Function, deep: int) -> str | None:
    """Of what a function returns: the window that each of its callers takes."""
    name = getattr(function, "name", "")
    if not deep or name.startswith("__") or getattr(function, "decorator_list", ()):
        return None
    calls = [n for n in ast.walk(module) if isinstance(n, ast.Call) and _calls(n, module, function)]
    found = []
    for call in calls:
        around = function_at(module, call.lineno)
        statement = None if around is None else statement_at(around, call.lineno)
        if around is None or statement is None:
            return None
        items = _in_comprehension(heads(statement), [call])
        found.append(_part_of(module, around, statement, deep - 1, items))
    return found[0] if found and all(found) else None


def _calls(call: ast.Call, module: ast.Module, function: Function) -> bool:
    """Whether it calls the function: a method of the object that it is a method of."""
    classes = (node for node in ast.walk(module) if isinstance(node, ast.ClassDef))
    arguments = getattr(function, "args", None)
    method = any(function in one.body for one in classes) and arguments and arguments.args
    owner = f"{arguments.args[0].arg}." if arguments and method else ""
    return ast.unparse(call.func) == f"{owner}{getattr(function, 'name', '')}"


@dataclass
class _Use:
    """What is done with some names, statement by statement. `returned`: as a whole."""

    names: set[str]
    items: bool
    windows: list[str] = field(default_factory=list)
    returned: bool = False

    def goes_on(self, statement: ast.stmt, *, inside_loop: bool) -> bool:
        """Takes one more; whether it can be told what is used."""
        parts = heads(statement)
        windows = [w for part in parts for w in _windows(part, self.names, self.items)]
        others = _whole_uses(parts, self.names, windows)
        if windows and (inside_loop or others or _in_comprehension(parts, windows)):
            return False  # all windows, one after the other; or the whole beside one
        self.windows += [ast.unparse(window) for window in windows]
        stored = assigned(statement)
        if not others:
            self.names -= stored
            return True
        if isinstance(statement, ast.Return):
            self.returned = True
            return True
        self.names |= stored
        return bool(stored)


def _after(around: Function, made: ast.stmt) -> Iterator[tuple[ast.stmt, bool]]:
    """The statements of a function behind one, in their order, and whether a loop that does not
    hold that one repeats them. Of what else an `if` would have done instead nothing."""
    line = made.end_lineno or made.lineno

    def inside(owner: ast.AST, repeated: bool) -> Iterator[tuple[ast.stmt, bool]]:
        around = [block for block in blocks(owner) if any(_encloses(s, made) for s in block)]
        for statement in (s for block in around or blocks(owner) for s in block):
            behind = statement.lineno > line
            if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
                continue
            if behind:
                yield statement, repeated
            if behind or _encloses(statement, made):
                loop = isinstance(statement, LOOPS) and behind
                yield from inside(statement, repeated or loop)

    return inside(around, False)


def _encloses(statement: ast.stmt, made: ast.stmt) -> bool:
    return statement.lineno <= made.lineno <= (statement.end_lineno or statement.lineno)


def _windows(part: ast.AST, names: set[str], items: bool) -> Iterator[ast.expr]:
    """`x[a:b]`, `x[:, a : a + n]`, `x.narrow(0, a, n)`, `x.crop(box)` of one of these names; of
    items also `x[few]`."""
    for node in ast.walk(part):
        if isinstance(node, ast.Subscript) and _is_one_of(node.value, names):
            cuts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            if any(_is_window(cut) for cut in cuts) or (items and _chooses(node.slice)):
                yield node
        elif isinstance(node, ast.Call) and _takes_window(node.func, names):
            yield node


def _takes_window(called: ast.expr, names: set[str]) -> bool:
    if not isinstance(called, ast.Attribute):
        return False
    return called.attr in _WINDOWS and _is_one_of(called.value, names)


def _is_window(cut: ast.expr) -> bool:
    """Between two ends, the first of which is computed: `[:n]` may be nearly all there is."""
    return isinstance(cut, ast.Slice) and cut.upper is not None and _is_computed(cut.lower)


def _chooses(index: ast.expr) -> bool:
    """Whether it is some numbers of items, and no other order of all of them."""
    if isinstance(index, (ast.Slice, ast.Tuple, ast.Constant, ast.UnaryOp, ast.Compare)):
        return False
    return not _ORDERS.search(ast.unparse(index))


def _is_computed(node: ast.expr | None) -> bool:
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    return node is not None and not isinstance(node, ast.Constant)


def _whole_uses(parts: Iterable[ast.AST], names: set[str], windows: list[ast.expr]) -> bool:
    """Whether one of the names is used for more than a window or its size."""
    nodes = [node for part in parts for node in ast.walk(part)]
    fine = {id(node) for window in windows for node in ast.walk(window)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr in _SIZES:
            fine.add(id(node.value))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "len":
            fine |= {id(argument) for argument in node.args}
    uses = [node for node in nodes if _is_one_of(node, names)]
    return any(
        isinstance(u, ast.Name) and isinstance(u.ctx, ast.Load) and id(u) not in fine for u in uses
    )


def _in_comprehension(parts: Iterable[ast.AST], windows: list[ast.expr]) -> bool:
    several = (n for part in parts for n in ast.walk(part) if isinstance(n, _COMPREHENSIONS))
    inside = {id(node) for one in several for node in ast.walk(one)}
    return any(id(window) in inside for window in windows)


def _is_one_of(node: ast.AST, names: set[str]) -> bool:
    return isinstance(node, ast.Name) and node.id in names
