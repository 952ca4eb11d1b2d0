"""An object that a dataset makes for each sample, although each time it is the same one.

`MFCC()(wav)` in `__getitem__` builds its filters for every sample. The stack tells that something
is being made there, the source that nothing of the sample goes into it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from pathlib import PurePath

from perfdoctor.collect.script.source import (
    Function,
    function_at,
    heads,
    module_of,
    statement_at,
)
from perfdoctor.collect.script.stacks import Frame

_ASKED = frozenset(["__getitem__", "__getitems__"])
#: Class methods that make an object, beside `__init__`.
_MAKERS = frozenset(["__init__", "from_pretrained"])
_OWN = frozenset(["self", "cls"])


def made_anew(stack: Sequence[Frame], is_user: Callable[[Frame], bool]) -> str | None:
    """What is made and where, "MFCC at train.py:76"; None where nothing is, or each time another.

    `stack`: innermost frame first, of a look while a batch is made.
    """
    asked = [i for i, frame in enumerate(stack) if frame.name in _ASKED and is_user(frame)]
    for i in range(max(asked, default=0), 0, -1):
        called, caller = stack[i - 1], stack[i]
        if called.name in _MAKERS and is_user(caller):
            made = _made(caller.file, caller.line, called)
            return made and f"{made} at {PurePath(caller.file).name}:{caller.line}"
    return None


def _made(file: str, line: int, called: Frame) -> str | None:
    """The class, where the call at the line gets nothing that changes."""
    module = module_of(file)
    function = None if module is None else function_at(module, line)
    statement = None if function is None else statement_at(function, line)
    if function is None or statement is None:
        return None
    calls = [n for part in heads(statement) for n in ast.walk(part) if isinstance(n, ast.Call)]
    name = called.function.rpartition(".")[0].rpartition(".")[2]
    makes = [call for call in calls if _ends(call, called.name, name)]
    changing = _assigned(function)
    if len(makes) != 1 or not all(_constant(part, changing) for part in _parts(makes[0])):
        return None
    return name


def _ends(call: ast.Call, maker: str, made: str) -> bool:
    """Whether the call is written as one that makes such an object."""
    last = call.func.attr if isinstance(call.func, ast.Attribute) else None
    last = call.func.id if isinstance(call.func, ast.Name) else last
    return last == (made if maker == "__init__" else maker)


def _parts(call: ast.Call) -> list[ast.expr]:
    return [call.func, *call.args, *(keyword.value for keyword in call.keywords)]


def _assigned(function: Function) -> frozenset[str]:
    """Names that the function is given or sets itself."""
    given = {n.arg for n in ast.walk(function) if isinstance(n, ast.arg)}
    stored = {
        n.id
        for n in ast.walk(function)
        if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)
    }
    return frozenset((given | stored) - _OWN)


def _constant(part: ast.expr, changing: frozenset[str]) -> bool:
    """What a call gives is not known, and `self.paths[i]` is another one for each i."""
    for node in ast.walk(part):
        if isinstance(node, ast.Name) and node.id in changing:
            return False
        if isinstance(node, (ast.Call, ast.Await, ast.NamedExpr, ast.Yield)):
            return False
    return True
