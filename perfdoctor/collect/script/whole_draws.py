"""Lines that draw a few numbers by putting all of them into a random order, by their source.

`np.random.choice(n, batch_size, replace=False)` permutes all n, as `torch.randperm(n)[:batch_size]`
does. Said is that only of statements that do nothing else, and where what is taken is known to be
as much as a batch: half of all points is drawn best so.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from perfdoctor.collect.script.sample_calls import imports, last_name
from perfdoctor.collect.script.source import (
    FUNCTIONS,
    function_at,
    loops_at,
    module_of,
    statement_at,
)

#: What is done with the few numbers and costs next to nothing.
_CHEAP = re.compile(
    r"(?:as_?)?(?:array|tensor)|astype|copy|cpu|cuda|from_numpy|int|list|long|numpy|sort(?:ed)?"
    r"|to(?:list)?"
)
_PERMUTES = re.compile(r"torch\.randperm|numpy\.random\.permutation")
GENERATORS = re.compile(r"numpy\.random\.(?:default_rng|RandomState|Generator)")
#: Its `choice` permutes, that of a Generator does not.
_OLD_GENERATOR = re.compile(r"numpy\.random\.RandomState")
_BATCH = re.compile(r"(?:\w*_)?(?:mini_?)?(?:batch(?:_?si?ze?)?|bsz?)", re.IGNORECASE)
#: How many callers deep a number is looked for.
_DEEPEST = 2
_UNKNOWN = -1


@dataclass(frozen=True)
class WholeDraw:
    """What draws, by its whole name; how many are taken, None for a batch's number."""

    how: str
    taken: int | None


@functools.lru_cache(maxsize=256)
def whole_draw(file: str, line: int) -> WholeDraw | None:
    """What is drawn so at a line; None where nothing is, or the source does not tell."""
    module = module_of(file)
    if module is None:
        return None
    try:
        return DrawSource(module, line).drawn()
    except RecursionError:
        return None


class DrawSource:
    """A line of a module, and what its source tells of what is drawn there."""

    def __init__(self, module: ast.Module, line: int) -> None:
        self.module, self._line = module, line
        self._imported = dict(imports(module))
        self.function = function_at(module, line)

    def drawn(self) -> WholeDraw | None:
        """The draw at the line."""
        statement = statement_at(self.function or self.module, self._line)
        value = getattr(statement, "value", None)
        if statement is None or not isinstance(value, ast.expr) or self.shared(statement):
            return None
        if not isinstance(statement, (ast.Assign, ast.AnnAssign, ast.Return)):
            return None
        draw = peeled(value)
        return (
            self._sliced(draw)
            or self._chosen(draw)
            or self._sampled(draw)
            or self._sliced_later(statement, draw)
        )

    def shared(self, statement: ast.stmt) -> bool:
        """Whether another statement begins on the line."""
        begun = [n for n in ast.walk(self.module) if isinstance(n, ast.stmt)]
        return sum(one.lineno == statement.lineno for one in begun) > 1

    def _sliced(self, draw: ast.expr) -> WholeDraw | None:
        """`permutation(n)[:k]`."""
        if isinstance(draw, ast.Subscript) and self._permutes(draw.value):
            return self.told(draw.value, _first(draw))
        return None

    def _sliced_later(self, statement: ast.stmt, draw: ast.expr) -> WholeDraw | None:
        """`order = permutation(n)`, of which nothing but `order[:k]` is used."""
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if len(targets) != 1 or not isinstance(targets[0], ast.Name) or not self._permutes(draw):
            return None
        name, function = targets[0].id, self.function or self.module
        nodes = list(ast.walk(function))
        used = [n for n in nodes if isinstance(n, ast.Name) and n.id == name]
        taken = [n for n in nodes if isinstance(n, ast.Subscript) and n.value in used]
        same = len(used) == 2 and len(taken) == 1
        if not same or loops_at(function, taken[0].lineno) != loops_at(function, statement.lineno):
            return None
        return self.told(draw, _first(taken[0]))

    def _chosen(self, draw: ast.expr) -> WholeDraw | None:
        """`choice(n, k, replace=False)` of NumPy's older generator."""
        if not isinstance(draw, ast.Call) or last_name(draw) != "choice":
            return None
        old = self.dotted(draw.func) == "numpy.random.choice" or self.is_of(draw, _OLD_GENERATOR)
        given = dict(zip(("a", "size", "replace", "p"), draw.args, strict=False))
        given |= {k.arg: k.value for k in draw.keywords if k.arg}
        replace = given.get("replace")
        without = isinstance(replace, ast.Constant) and replace.value is False
        if not old or not without or not set(given) <= {"a", "size", "replace"}:
            return None
        return self.told(draw, given.get("size"))

    def _sampled(self, draw: ast.expr) -> WholeDraw | None:
        """`random.sample(list(…), k)`: the list of all is made for it."""
        if not isinstance(draw, ast.Call) or self.dotted(draw.func) != "random.sample":
            return None
        given = dict(zip(("population", "k"), draw.args, strict=False))
        given |= {k.arg: k.value for k in draw.keywords if k.arg}
        all_of = given.get("population")
        made = isinstance(all_of, ast.ListComp) or (
            isinstance(all_of, ast.Call) and self.dotted(all_of.func) in ("list", "sorted")
        )
        return self.told(draw, given.get("k")) if made else None

    def _permutes(self, node: ast.AST) -> bool:
        if not isinstance(node, ast.Call) or len(node.args) != 1:
            return False
        if _PERMUTES.fullmatch(self.dotted(node.func)):
            return True
        return last_name(node) == "permutation" and self.is_of(node, GENERATORS)

    def is_of(self, call: ast.Call, made_by: re.Pattern[str]) -> bool:
        """Whether what it is called on is made by such a function, wherever the module makes it."""
        if not isinstance(call.func, ast.Attribute):
            return False
        owner = ast.unparse(call.func.value)
        made = [
            n.value
            for n in ast.walk(self.module)
            if isinstance(n, ast.Assign) and owner in map(ast.unparse, n.targets)
        ]
        dotted = [self.dotted(one.func) if isinstance(one, ast.Call) else "" for one in made]
        return bool(dotted) and all(made_by.fullmatch(one) for one in dotted)

    def dotted(self, func: ast.expr) -> str:
        """The whole name of what is called."""
        first, dot, rest = ast.unparse(func).partition(".")
        return self._imported.get(first, first) + dot + rest

    # -- how many --------------------------------------------------------------------------

    def told(self, draw: ast.AST, taken: ast.expr | None) -> WholeDraw | None:
        """The draw, where it is known to take as much as a batch of all there is."""
        assert isinstance(draw, ast.Call)
        elsewhere = [k.value for k in draw.keywords if k.arg == "device"]
        on_host = all(isinstance(d, ast.Constant) and d.value == "cpu" for d in elsewhere)
        if taken is None or not on_host or _of_batch(draw):
            return None
        numbers = list(self._numbers(taken, self.function, _DEEPEST))
        if not numbers or _UNKNOWN in numbers:
            return None
        known = [one for one in numbers if one is not None]
        taken_at_most = max(known) if len(known) == len(numbers) else None
        return WholeDraw(self.dotted(draw.func), taken_at_most)

    def _numbers(
        self, taken: ast.expr, function: ast.AST | None, deep: int
    ) -> Iterator[int | None]:
        """The number, in all calls of the function that is given it; None for a batch's."""
        if isinstance(taken, ast.Constant) and type(taken.value) is int:
            yield taken.value
        elif _is_batch(taken):
            yield None
        elif isinstance(taken, ast.Name) and deep:
            given = list(self._given(taken.id, function)) or list(self._constants(taken.id))
            if not given:
                yield _UNKNOWN
            for value, by in given:
                yield from self._numbers(value, by, deep - 1)
        else:
            yield _UNKNOWN

    def _given(
        self, name: str, function: ast.AST | None
    ) -> Iterator[tuple[ast.expr, ast.AST | None]]:
        """What the module's calls give for a parameter."""
        if not isinstance(function, FUNCTIONS):
            return
        order = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
        if name not in order:
            return
        order = order[1:] if order[:1] in (["self"], ["cls"]) else order
        for call in ast.walk(self.module):
            if isinstance(call, ast.Call) and last_name(call) == function.name:
                given = dict(zip(order, call.args, strict=False))
                given |= {k.arg: k.value for k in call.keywords if k.arg}
                unknown = ast.Constant(value=None)  # a default is no batch size that is known
                yield given.get(name, unknown), function_at(self.module, call.lineno)

    def _constants(self, name: str) -> Iterator[tuple[ast.expr, ast.AST | None]]:
        """What the module sets the name to, where it does so once."""
        set_to = [
            n.value
            for n in ast.walk(self.module)
            if isinstance(n, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == name for t in n.targets)
        ]
        if len(set_to) == 1:
            yield set_to[0], None


def peeled(value: ast.expr) -> ast.expr:
    """What is drawn, without what is done with the few numbers afterwards."""
    while isinstance(value, ast.Call) and _CHEAP.fullmatch(last_name(value)):
        func = value.func
        on = func.value if isinstance(func, ast.Attribute) else None
        if isinstance(on, (ast.Call, ast.Subscript)):
            value = on
        elif value.args:
            value = value.args[0]
        else:
            return value
    return value


def _first(taken: ast.Subscript) -> ast.expr | None:
    """The k of `[:k]`."""
    part = taken.slice
    if not isinstance(part, ast.Slice) or part.step is not None:
        return None
    begins = part.lower is None or (isinstance(part.lower, ast.Constant) and part.lower.value == 0)
    return part.upper if begins else None


def _of_batch(draw: ast.Call) -> bool:
    """Whether it puts the samples of a batch into an order: those are few."""
    return any(_is_batch(node) for first in draw.args[:1] for node in ast.walk(first))


def _is_batch(node: ast.AST) -> bool:
    """Whether it is called like the size of a batch: `cfg.batch_size`, `args["batch"]`, `BS`."""
    name = node.slice if isinstance(node, ast.Subscript) else node
    if isinstance(name, ast.Constant):
        return isinstance(name.value, str) and bool(_BATCH.fullmatch(name.value))
    last = name.id if isinstance(name, ast.Name) else getattr(name, "attr", "")
    return bool(_BATCH.fullmatch(last))
