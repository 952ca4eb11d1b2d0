"""An object that a dataset makes for each sample, although each time it is the same one.

`MFCC()(wav)` in `__getitem__` builds its filters for every sample. The stack tells that something
is being made there, the source that nothing of the sample goes into it. A module, such as
`Resample(rate, 16_000)(wav)`, is not made of the sample's data: it is the same one for each rate.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Sequence
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


def made_anew(
    stack: Sequence[Frame],
    is_user: Callable[[Frame], bool],
    modules: Collection[tuple[str, int]] = (),
) -> str | None:
    """What is made and where, "MFCC at train.py:76", or "Resample at train.py:76 for each rate";
    None where nothing is, or each time another.

    `stack`: innermost frame first, of a look while a batch is made. `modules`: where constructors
    of modules begin, by file and first line.
    """
    asked = [i for i, frame in enumerate(stack) if frame.name in _ASKED and is_user(frame)]
    for i in range(max(asked, default=0), 0, -1):
        called, caller = stack[i - 1], stack[i]
        if called.name in _MAKERS and is_user(caller):
            module = (called.file, called.first_line) in modules
            return _made(caller, called, module=module)
    return None


def _made(caller: Frame, called: Frame, *, module: bool) -> str | None:
    """Where the call at the line gets nothing that changes; or it makes a module, of names only."""
    tree = module_of(caller.file)
    function = None if tree is None else function_at(tree, caller.line)
    statement = None if function is None else statement_at(function, caller.line)
    if function is None or statement is None:
        return None
    calls = [n for part in heads(statement) for n in ast.walk(part) if isinstance(n, ast.Call)]
    name = called.function.rpartition(".")[0].rpartition(".")[2]
    makes = [call for call in calls if _ends(call, called.name, name)]
    if len(makes) != 1:
        return None
    changing, parts = _assigned(function), _parts(makes[0])
    by = [ast.unparse(part) for part in parts if not _constant(part, changing)]
    named = all(isinstance(p, ast.Name) for p in parts if not _constant(p, changing))
    if by and not (module and named):
        return None
    each = f" for each {' and '.join(by)}" if by else ""
    return f"{name} at {PurePath(caller.file).name}:{caller.line}{each}"


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
