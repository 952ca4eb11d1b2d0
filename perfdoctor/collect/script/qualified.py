"""Names of functions with their classes, also for Python 3.10, whose code objects know no class.

There a function is looked for, by its name and first line, in the module that its file is: nothing
of frames or of what they hold is needed.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any

#: Classes in classes, and wrappers around functions, that are looked into.
_DEEPEST, _MOST_WRAPPERS = 3, 4


def qualified_name(code: CodeType) -> str:
    """Such as "Thread.join"; before 3.11 the plain name of what was made within a function."""
    known = getattr(code, "co_qualname", None)
    if known is not None:
        return str(known)
    return _names_in(code.co_filename).get((code.co_name, code.co_firstlineno), code.co_name)


@functools.lru_cache(maxsize=1024)
def _names_in(file: str) -> dict[tuple[str, int], str]:
    """Qualified names of what a file defines, as far as its module is imported."""
    found: dict[tuple[str, int], str] = {}
    for module in list(sys.modules.values()):
        held = getattr(module, "__dict__", None)
        if type(held) is dict and held.get("__file__") == file:
            for function in _functions(list(held.values()), held.get("__name__"), _DEEPEST):
                code = function.__code__
                found[code.co_name, code.co_firstlineno] = function.__qualname__
    return found


def _functions(values: Iterable[Any], module: object, deepest: int) -> Iterator[FunctionType]:
    for value in values:
        function = _unwrapped(value)
        if function is not None:
            yield function
        elif deepest and issubclass(type(value), type) and value.__module__ == module:
            yield from _functions(list(vars(value).values()), module, deepest - 1)


def _unwrapped(value: Any) -> FunctionType | None:
    """The function that is defined there, whatever decorates it as `functools.wraps` does."""
    for _ in range(_MOST_WRAPPERS):
        kind = type(value)
        if kind in (staticmethod, classmethod):
            value = value.__func__
        elif kind is property:
            value = value.fget
        elif kind is FunctionType:
            value = vars(value).get("__wrapped__", value)
    return value if type(value) is FunctionType else None
