"""Keeps torch.compile from tracing what is ours: what differs between torch's versions is here.

Until about torch 2.6 the compiler looks at every frame that runs below a compiled module's call,
the wrapper's calls into the observer too. It then has to be told of each function to leave it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

_OURS = "perfdoctor.collect.script."


def leave_untraced(torch: Any, *further: FunctionType) -> None:
    """All functions of this package, and `further` ones; where torch leaves them alone anyway,
    nothing is done. Does not import the compiler."""
    skip = _skip(torch)
    if skip is None:
        return
    for code in {*_own_codes(), *(function.__code__ for function in further)}:
        skip(code)


def _skip(torch: Any) -> Any:
    compiler = getattr(getattr(torch, "_C", None), "_dynamo", None)
    return getattr(getattr(compiler, "eval_frame", None), "skip_code", None)


def _own_codes() -> Iterator[CodeType]:
    for name, module in list(sys.modules.items()):
        if name.startswith(_OURS) and module is not None:
            for thing in list(vars(module).values()):
                if getattr(thing, "__module__", None) == name:
                    yield from _codes_of(thing)


def _codes_of(thing: Any) -> Iterator[CodeType]:
    members = vars(thing).values() if isinstance(thing, type) else (thing,)
    for member in members:
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if isinstance(function, FunctionType):
            yield from _with_inner(function.__code__)


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)
