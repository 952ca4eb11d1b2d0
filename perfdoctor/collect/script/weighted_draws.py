"""Lines that go through the weights of all there is to draw a few by them, by their source.

`np.random.choice(n, batch_size, p=p)` checks and adds up all n weights for each batch, and what
prepares them, `p = priorities**alpha` and `p /= p.sum()`, goes through all of them as well. Of the
latter only those lines are named that compute each weight by itself, or their sum, and whose result
is used for nothing but the draw and the weights of what was drawn.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from perfdoctor.collect.script.sample_calls import last_name
from perfdoctor.collect.script.source import blocks, loops_at, module_of, statement_at
from perfdoctor.collect.script.whole_draws import GENERATORS, DrawSource, peeled

#: What gives each weight from a number of its own, or one number for all of them.
_OF_EACH = re.compile(
    r"(?:as_?)?(?:array|tensor)|fromiter|from_numpy|numpy|tolist|list|len|astype|float(?:32|64)?"
    r"|double|cpu|detach|copy|clone|pow(?:er)?|sqrt|exp|log|abs|fabs|clip|clamp(?:_min)?|maximum"
    r"|minimum|softmax|sum|max|min|reshape|view|flatten|ravel|squeeze"
)
_NODES = (
    *(ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Constant, ast.BinOp, ast.UnaryOp),
    *(ast.Call, ast.keyword, ast.ListComp, ast.GeneratorExp, ast.comprehension, ast.operator),
    *(ast.unaryop, ast.expr_context),
)
#: What a generator of NumPy's is called that the module does not make itself.
_CALLED_SO = re.compile(r"(?:\w+\.)*\w*(?:rng|np_random|random_state|generator)\w*", re.IGNORECASE)
#: What tells of an array how large it is.
_SIZES = ("shape", "size", "ndim", "dtype", "device", "sum")
#: Who draws one is no reader of batches: an action, a token.
_FEWEST = 2
#: Draws from each row of a matrix as well.
_IN_ROWS = "torch.multinomial"
_Assigned = ast.Assign | ast.AugAssign | ast.AnnAssign


@dataclass(frozen=True)
class WeightedDraw:
    """What draws, by its whole name; how many are taken, None for a batch's number; `prepares`:
    the line does not draw, but computes the weights for it."""

    how: str
    taken: int | None
    prepares: bool = False


@functools.lru_cache(maxsize=256)
def weighted_draw(file: str, line: int) -> WeightedDraw | None:
    """What a line does for a draw by the weights of all; None where it does nothing for one, or
    the source does not tell."""
    module = module_of(file)
    if module is None:
        return None
    try:
        return _weighted_draw(DrawSource(module, line), line)
    except RecursionError:
        return None


def _weighted_draw(source: DrawSource, line: int) -> WeightedDraw | None:
    around = source.function or source.module
    here = statement_at(around, line)
    draws = [(one, _drawn(source, one)) for one in _statements(around)]
    found = [(one, *drawn) for one, drawn in draws if drawn is not None]
    if here is None or len(found) != 1 or source.shared(here):
        return None
    statement, weights, draw = found[0]
    if draw.how == _IN_ROWS and not _is_one_row(around, weights):
        return None
    if here is statement:
        return draw
    prepares = _preparing(around, statement, weights)
    return WeightedDraw(draw.how, draw.taken, prepares=True) if here in prepares else None


def _statements(around: ast.AST) -> Iterator[ast.stmt]:
    """Those of a function itself, not of functions and classes within it."""
    for block in blocks(around):
        for one in block:
            yield one
            if not isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield from _statements(one)


# -- the draw --------------------------------------------------------------------------------


def _drawn(source: DrawSource, statement: ast.stmt) -> tuple[ast.expr, WeightedDraw] | None:
    """The weights of a statement that does nothing but draw by them, and the draw."""
    if not isinstance(statement, (ast.Assign, ast.AnnAssign, ast.Return)) or not statement.value:
        return None
    call = peeled(statement.value)
    found = drawn_by(source, call) if isinstance(call, ast.Call) else None
    if found is None or not isinstance(call, ast.Call):
        return None
    weights, taken = found
    told = source.told(call, _only(taken))
    if told is None or (told.taken is not None and told.taken < _FEWEST):
        return None
    return weights, WeightedDraw(told.how, told.taken)


def drawn_by(source: DrawSource, call: ast.Call) -> tuple[ast.expr, ast.expr] | None:
    """By which weights a call draws, and how many; None where it does not."""
    name, last = source.dotted(call.func), last_name(call)
    if last == "choice" and _is_numpys(source, call):
        given = _given(call, ("a", "size", "replace", "p"))
        return _both(given, "p", "size")
    if name == _IN_ROWS:
        return _both(_given(call, ("input", "num_samples")), "input", "num_samples")
    if name == "random.choices":  # with sums that are kept (`cum_weights`) it is quick
        return _both(_given(call, ("population", "weights")), "weights", "k")
    return None


def _is_numpys(source: DrawSource, call: ast.Call) -> bool:
    if source.dotted(call.func) == "numpy.random.choice" or source.is_of(call, GENERATORS):
        return True
    owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    return bool(_CALLED_SO.fullmatch(owner))


def _given(call: ast.Call, order: Sequence[str]) -> dict[str, ast.expr]:
    given = dict(zip(order, call.args, strict=False))
    return given | {k.arg: k.value for k in call.keywords if k.arg}


def _both(
    given: Mapping[str, ast.expr], weights: str, taken: str
) -> tuple[ast.expr, ast.expr] | None:
    by, count = given.get(weights), given.get(taken)
    none = isinstance(by, ast.Constant) and by.value is None
    return None if by is None or count is None or none else (by, count)


def _only(taken: ast.expr) -> ast.expr:
    """The k of `(k,)`."""
    one = isinstance(taken, (ast.Tuple, ast.List)) and len(taken.elts) == 1
    return taken.elts[0] if one and isinstance(taken, (ast.Tuple, ast.List)) else taken


# -- what prepares the weights ---------------------------------------------------------------


def _preparing(around: ast.AST, draw: ast.stmt, weights: ast.expr) -> list[ast.stmt]:
    """The statements before it, in the same loop, that compute the weights and nothing else."""
    turn = loops_at(around, draw.lineno)
    before = [one for one in _statements(around) if one.lineno < draw.lineno]
    before = [one for one in before if loops_at(around, one.lineno) == turn]
    asked = _names(weights)
    found: list[ast.stmt] = []
    for one in reversed(before):
        name = _set_to(one)
        if name in asked and isinstance(one, _Assigned) and one.value and _of_each(one.value):
            found.append(one)
            asked |= _names(one.value)
    return _used_for_it(around, draw, found)


def _is_one_row(around: ast.AST, weights: ast.expr) -> bool:
    """Whether the weights are numbers that are kept: what a model or a softmax gives has rows, and
    few are drawn of each."""
    set_to = [
        one.value
        for one in _statements(around)
        if _set_to(one) in _names(weights) and isinstance(one, _Assigned)
    ]
    values = [weights, *(value for value in set_to if value is not None)]
    calls = [n for value in values for n in ast.walk(value) if isinstance(n, ast.Call)]
    return all(map(_of_each, values)) and "softmax" not in map(last_name, calls)


def _used_for_it(around: ast.AST, draw: ast.stmt, found: list[ast.stmt]) -> list[ast.stmt]:
    """Without those whose result is used otherwise, and then what only those use."""
    while True:
        inside = {id(node) for one in (*found, draw) for node in ast.walk(one)}
        free = {id(node) for one in ast.walk(around) for node in _of_drawn(one)}
        others = {
            node.id
            for node in ast.walk(around)
            if isinstance(node, ast.Name) and id(node) not in inside | free
        }
        left = [one for one in found if _set_to(one) not in others]
        if len(left) == len(found):
            return found
        found = left


def _of_drawn(node: ast.AST) -> Iterator[ast.AST]:
    """The name in `p[index]`, `len(p)` and `p.shape`: no use of all the weights."""
    part = isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice)
    size = isinstance(node, ast.Attribute) and node.attr in _SIZES
    if isinstance(node, (ast.Subscript, ast.Attribute)) and (part or size):
        yield node.value
    elif isinstance(node, ast.Call) and last_name(node) == "len":
        yield from node.args


def _of_each(value: ast.expr) -> bool:
    """Whether it is arithmetic with each of many numbers, or their sum."""
    nodes = list(ast.walk(value))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    plain = all(isinstance(node, _NODES) for node in nodes)
    return plain and all(_OF_EACH.fullmatch(last_name(call)) for call in calls)


def _set_to(statement: ast.stmt) -> str:
    """The one name that it sets; nothing where it does anything else."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target: ast.expr = statement.targets[0]
    elif isinstance(statement, (ast.AugAssign, ast.AnnAssign)):
        target = statement.target
    else:
        return ""
    return target.id if isinstance(target, ast.Name) else ""


def _names(value: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
