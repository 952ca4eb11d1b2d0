"""Numbers on all weights or gradients that are made for a log: histograms, norms, means.

A loop over a model's parameters may just as well train, average or check them. It makes a record
where the source shows that it changes none of them, and that what it makes goes to a log and
decides nothing: in its own function, or in the one that called that.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from perfdoctor.collect.script.source import (
    FUNCTIONS,
    call_name,
    function_at,
    heads,
    levels,
    module_of,
)
from perfdoctor.collect.script.stacks import Frame
from perfdoctor.collect.script.uses import (
    FORS,
    Uses,
    call_names,
    closure,
    given,
    loads,
    names_kept,
    statements,
    uses,
)

#: What gives all parameters, or a number on all of them.
_READS = re.compile(
    r"\b(?:(?:named_)?(?:parameters|modules|children)|state_dict|parameters_to_vector|grad_norm"
    r"|get_total_norm|_foreach_norm)$"
)
#: And the attributes that do.
_HELD = frozenset(["grad", "param_groups"])
_HISTOGRAM = re.compile(r"\b(?:histc|histogram\w*)$")
#: What trains, or changes what it is given (`p.add_(…)`).
_TRAINS = re.compile(r"[^_]_$|\b(?:backward|step|zero_grad|\w+_step)$")

_IsUser = Callable[[Frame], bool]


def recorded(inside: Sequence[Frame], is_user: _IsUser) -> bool:
    """Whether these frames make such a record: innermost first, up to that of the training loop."""
    for depth, frame in enumerate(inside):
        if is_user(frame):
            found = _made_at(frame.file, frame.line)
            if found is not None:
                return _is_for_log(found, frame, filter(is_user, inside[depth + 1 :]))
    return False


def _is_for_log(found: Uses, frame: Frame, callers: Iterable[Frame]) -> bool:
    """Follows what is returned to those who asked for it."""
    logged = found.logged
    for caller in callers:
        if found.decides or not found.returned:
            break
        asked = _function(frame)
        if _function(caller) != asked:  # what a generator runs in is the same
            found, frame = _given_at(caller.file, caller.line, asked[1]), caller
            logged = logged or found.logged
    return (logged or found.kept) and not found.decides


@functools.lru_cache(maxsize=2048)
def _made_at(file: str, line: int) -> Uses | None:
    """What becomes of the numbers on parameters that are made at this line; None: of none are."""
    module = module_of(file)
    if module is None:
        return None
    function = function_at(module, line) or module
    statement = _reading(module, function, line)
    if statement is None:
        return None
    if _changes(statement):
        return Uses(decides=True)
    targets = _targets(statement)
    through = {name for target in targets for name in target}
    tensors = {target[-1] for target in targets if target}
    found = uses(function, statement, names_kept(statement) - through, tensors)
    # A histogram of weights is for people to look at, wherever it is kept until then.
    return replace(found, kept=True) if _counts(module, statement) else found


@functools.lru_cache(maxsize=2048)
def _given_at(file: str, line: int, name: str) -> Uses:
    """What becomes of what the function of that name has returned to this line."""
    module = module_of(file)
    function = None if module is None else function_at(module, line) or module
    way = [] if function is None else levels(function, line)
    if function is None or not way:
        return Uses()
    return given(function, way[-1].statement, name)


def _function(frame: Frame) -> tuple[str, str, int]:
    """File, name and line of the function that a frame's line is in."""
    module = module_of(frame.file)
    found = None if module is None else function_at(module, frame.line)
    return (frame.file, *(("", 0) if found is None else (found.name, found.lineno)))


def _reading(module: ast.Module, function: ast.AST, line: int) -> ast.stmt | None:
    """The outermost loop over parameters around the line, else its statement if that reads them, or
    makes a histogram of what was read."""
    way = [level.statement for level in levels(function, line)]
    loop = next((one for one in way if isinstance(one, FORS) and _is_over_parameters(one)), None)
    if loop is not None or not way:
        return loop
    if any(_reads(part) for part in heads(way[-1])):
        return way[-1]
    if not _counts(module, way[-1]):
        return None
    read = (one for one in statements(function) if any(_reads(part) for part in heads(one)))
    made = {name for one in read for name in names_kept(one)}
    return way[-1] if loads(way[-1], closure(statements(function), made)) else None


def _counts(module: ast.Module, statement: ast.stmt) -> bool:
    """Whether it makes a histogram, itself or in a function of the module that it calls."""
    names = call_names(statement)
    asked = {name.rpartition(".")[2] for name in names}
    helpers = (n for n in ast.walk(module) if isinstance(n, FUNCTIONS) and n.name in asked)
    return any(map(_HISTOGRAM.search, names.union(*map(call_names, helpers))))


def _is_over_parameters(loop: ast.For | ast.AsyncFor) -> bool:
    if _reads(loop.iter):
        return True
    own = set(_stored(loop.target)[-1:])
    return any(isinstance(n, ast.Name) and n.id in own for n in _whose_gradients(loop))


def _whose_gradients(loop: ast.AST) -> Iterator[ast.expr]:
    held = (n for n in ast.walk(loop) if isinstance(n, ast.Attribute) and n.attr == "grad")
    return (node.value for node in held)


def _reads(part: ast.AST) -> bool:
    return any(
        (isinstance(node, ast.Call) and _READS.search(call_name(node)))
        or (isinstance(node, ast.Attribute) and node.attr in _HELD)
        for node in ast.walk(part)
    )


def _changes(statement: ast.stmt) -> bool:
    """Whether it trains or changes the tensors that it goes through."""
    calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
    if any(_TRAINS.search(call_name(c)) or "out" in {k.arg for k in c.keywords} for c in calls):
        return True
    own = {name for target in _targets(statement) for name in target}
    stores = (n for n in ast.walk(statement) if isinstance(getattr(n, "ctx", None), ast.Store))
    return any(_root(n) in own for n in stores if not isinstance(n, ast.Name))


def _targets(statement: ast.stmt) -> list[list[str]]:
    """The names that each loop and comprehension in it goes through."""
    loops = (*FORS, ast.comprehension)
    return [_stored(node.target) for node in ast.walk(statement) if isinstance(node, loops)]


def _stored(target: ast.expr) -> list[str]:
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name)]


def _root(node: ast.AST) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
