"""Modules of torch that are made within the steps: the line that makes one, and what becomes of it.

A constructor allocates all parameters and draws initial values for them. What is looked at while
that runs belongs to the line that makes the outermost module, however deep in it the time goes.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from perfdoctor.collect.script.source import (
    FUNCTIONS,
    blocks,
    function_at,
    heads,
    levels,
    module_of,
    statement_at,
)
from perfdoctor.collect.script.stacks import Frame

#: Where the `__init__` of a class begins, by file and first line → the class's name.
Constructors = Mapping[tuple[str, int], str]

#: Parts of torch that make modules by themselves, as when they compile.
_COMPILES = re.compile(r"[\\/]torch[\\/](?:_\w+|fx|jit|export|ao|distributed)[\\/]")
#: Callers that are looked at for what becomes of a module that is returned.
_CALLERS = 4
#: What gives a module other values, by the name of the call, and what of it a module is given by.
_FILLS = re.compile(
    r"load_state|load_\w*(?:weight|param)|copy_|restore|vector_to_param|hard_update"
)
_FILLS_ITS_OWN = frozenset(["load_state_dict", "copy_"])
#: What may be asked of a module before it computes anything.
_PREPARES = re.compile(
    r"^(?:to|cuda|cpu|half|float|double|bfloat16|eval|train|requires_grad_|zero_grad|\w*parameters"
    r"|\w*modules|\w*buffers|state_dict|children|apply)$"
)
#: Optimizers, and what makes one.
_OPTIMIZERS = re.compile(r"^[A-Z]|optim")
_FILLED, _USED, _KEPT, _RETURNED = "filled", "used", "kept", "returned"
#: Its parameters are given to something, as to an optimizer: it is trained for itself.
_TRAINED = "trained"


@dataclass(frozen=True)
class MadeModel:
    """A module that is made; `index` is the frame in whose line, `name` its class.

    `filled`: it is given other values before it computes anything, as far as the source tells.
    """

    index: int
    name: str
    filled: bool


def constructors() -> dict[tuple[str, int], str]:
    """Those of all classes of modules that are loaded; of torch's own those of `torch.nn`."""
    torch_nn = sys.modules.get("torch.nn")
    found: dict[tuple[str, int], str] = {}
    for kind in _classes(getattr(torch_nn, "Module", None)):
        init: Any = vars(kind).get("__init__")
        init = inspect.unwrap(init)
        if isinstance(init, FunctionType) and not init.__code__.co_filename.startswith("<"):
            found[init.__code__.co_filename, init.__code__.co_firstlineno] = kind.__name__
    return found


def made_model(
    stack: Sequence[Frame], known: Constructors, is_user: Callable[[Frame], bool]
) -> MadeModel | None:
    """The outermost module that is made in a stack, innermost frame first, by a line of the user's.

    None where nothing is made, or what is made may be kept: made once only, at its first use, or
    as the next one that is trained.
    """
    making = [i for i, frame in enumerate(stack) if (frame.file, frame.first_line) in known]
    if not making:
        return None
    outer = making[-1]
    index = next((i for i in range(outer + 1, len(stack)) if is_user(stack[i])), None)
    if index is None or any(_COMPILES.search(f.file) for f in stack[outer + 1 : index]):
        return None
    name = known[stack[outer].file, stack[outer].first_line]
    called = name if index == outer + 1 else stack[index - 1].name
    fate = _fate([frame for frame in stack[index:] if is_user(frame)], called)
    if fate == _KEPT:
        return None
    return MadeModel(index, name, filled=fate == _FILLED)


def _classes(base: type | None) -> Iterator[type]:
    """A class and all below it; of torch's own those of `torch.nn`."""
    left: list[type] = [] if base is None else [base]
    seen = set(left)
    while left:
        kind = left.pop()
        below: list[type] = type.__subclasses__(kind)
        new = [one for one in below if one not in seen]
        seen.update(new)
        left.extend(new)
        module = str(kind.__module__)
        if not module.startswith("torch.") or module.startswith("torch.nn."):
            yield kind


def _fate(callers: Sequence[Frame], called: str) -> str:
    """What becomes of what a call in the first frame's line makes, also where it is returned."""
    for frame in callers[:_CALLERS]:
        fate = _RETURNED if frame.name == "<lambda>" else _becomes(frame.file, frame.line, called)
        if fate != _RETURNED:
            return fate
        called = frame.name
    return _KEPT


@functools.lru_cache(maxsize=256)
def _becomes(file: str, line: int, called: str) -> str:
    module = module_of(file)
    if module is None:
        return _KEPT
    try:
        around = function_at(module, line) or module
        statement = statement_at(around, line)
        return _KEPT if statement is None else _of_statement(around, statement, line, called)
    except RecursionError:
        return _KEPT


def _of_statement(around: ast.AST, statement: ast.stmt, line: int, called: str) -> str:
    """What goes into an attribute, a table or a list may be there in the next step, what is made on
    a condition may be made once, and what is given to another call at once may be trained there."""
    if isinstance(statement, ast.Return):
        return _RETURNED
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)):
        return _KEPT
    inside = levels(around, line)
    after = [s for level in reversed(inside) for s in level.block[level.index + 1 :]]
    target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
    fate = _does_after(after, target)
    if fate in (_FILLED, _RETURNED):
        return fate
    sometimes = any(isinstance(level.owner, (ast.If, ast.Try)) for level in inside)
    used = fate != _TRAINED and isinstance(target, ast.Name) and _makes(statement.value, called)
    return _USED if used and not sometimes else _KEPT


def _makes(value: ast.expr | None, called: str) -> bool:
    """Whether it is such a call, or what that gives does: `Net()`, `Net().cuda()`, `Net()(x)`."""
    while isinstance(value, ast.Call):
        if _called(value) == called:
            return True
        value = value.func.value if isinstance(value.func, ast.Attribute) else value.func
    return False


def _does_after(statements: Sequence[ast.stmt], target: ast.expr) -> str | None:
    """What is done first with what has this name: "twin", "self.twin"."""
    if not isinstance(target, (ast.Name, ast.Attribute)):
        return None
    name = ast.unparse(target)
    found = [fate for part in _in_order(statements, name) if (fate := _does(part, name))]
    first = next((fate for fate in found if fate != _TRAINED), None)
    return _TRAINED if _TRAINED in found and first in (None, _USED) else first


def _in_order(statements: Sequence[ast.stmt], name: str) -> Iterator[ast.AST]:
    """What is evaluated one after the other; a loop over its parameters is one."""
    for statement in statements:
        if isinstance(statement, ast.For) and _about(statement.iter, name):
            yield statement
        elif not isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
            yield from heads(statement)
            for block in blocks(statement):
                yield from _in_order(block, name)


def _does(part: ast.AST, name: str) -> str | None:
    """What is done with it there; None where it is only prepared, or not named."""
    if not _about(part, name):
        return None
    nodes = list(ast.walk(part))
    calls = [(_called(n), n) for n in nodes if isinstance(n, ast.Call)]
    if any(_fills(called, call, name) for called, call in calls):
        return _FILLED
    if any(isinstance(n, ast.Attribute) and _sets_data(n, part, name) for n in nodes):
        return _FILLED
    if isinstance(part, ast.For):
        return _FILLED if any(_FILLS.search(called) for called, _ in calls) else None
    if any(_uses(called, call, name) for called, call in calls):
        return _USED
    if any(_is_given_parameters(called, call, name) for called, call in calls):
        return _TRAINED
    return _RETURNED if isinstance(part, ast.Return) else None


def _fills(called: str, call: ast.Call, name: str) -> bool:
    """`twin.load_state_dict(state)`, `twin.bias.copy_(b)`, `copy_weights(model, twin)`."""
    if not _FILLS.search(called):
        return False
    if isinstance(call.func, ast.Attribute) and _about(call.func.value, name):
        return True
    return called not in _FILLS_ITS_OWN and any(_about(part, name) for part in call.args)


def _sets_data(node: ast.Attribute, part: ast.AST, name: str) -> bool:
    """`twin.bias.data = ...`, or of what a loop over its parameters gives."""
    stored = node.attr == "data" and isinstance(node.ctx, ast.Store)
    return stored and (isinstance(part, ast.For) or _about(node, name))


def _uses(called: str, call: ast.Call, name: str) -> bool:
    """Whether a call computes with it: `twin(x)`, `twin.loss(x)`, `loss(twin, x)`."""
    if _is(call.func, name):
        return True
    if isinstance(call.func, ast.Attribute) and _is(call.func.value, name):
        return not _PREPARES.search(called)
    return any(_is(argument, name) for argument in call.args)


def _is_given_parameters(called: str, call: ast.Call, name: str) -> bool:
    """`SGD(twin.parameters(), 0.1)`."""
    asked = (n for n in ast.walk(call) if isinstance(n, ast.Call) and _about(n.func, name))
    return bool(_OPTIMIZERS.search(called)) and any(
        _called(n).endswith("parameters") for n in asked
    )


def _about(part: ast.AST, name: str) -> bool:
    """Whether it is named in there."""
    return any(_is(node, name) for node in ast.walk(part))


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node) == name


def _called(call: ast.Call) -> str:
    """What is called, without what it is of."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""
