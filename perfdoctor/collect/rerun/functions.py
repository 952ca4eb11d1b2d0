"""Functions of the user's that are called less often, whoever holds them.

A function's code is exchanged for a call of ours: a class, a module, a decorator may hold it.
"""

from __future__ import annotations

import functools
import gc
import inspect
import os
import sys
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

from perfdoctor.errors import PerfdoctorError

#: A function, by its file and first line.
Place = tuple[str, int]
_PYTHON = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - as in frames
_OURS = str(Path(__file__).parents[2]) + os.sep  # unresolved, as in frames
_NO_CALLS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def place_of(code: CodeType) -> Place:
    """Where a function is written."""
    return code.co_filename, code.co_firstlineno


def is_library(file: str) -> bool:
    """Whether a file is none of the user's."""
    return "site-packages" in file or "dist-packages" in file or file.startswith(("<", _PYTHON))


def callers() -> Iterator[FrameType]:
    """The frames of whoever called that are none of perfdoctor's, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_OURS):
            yield frame
        frame = frame.f_back


def functions_at(places: Collection[Place]) -> list[FunctionType]:
    """All functions written there. None where one of them does not run when it is called."""
    found = [f for f in gc.get_objects() if type(f) is FunctionType]
    found = [f for f in found if place_of(f.__code__) in places]
    return [] if any(f.__code__.co_flags & _NO_CALLS for f in found) else found


def _template(*args: Any, **kwargs: Any) -> Any:
    ours: Any = "ours"
    return ours(*args, **kwargs)


@contextmanager
def called_by(function: FunctionType, caller: Callable[..., Any]) -> Iterator[None]:
    """Whoever calls the function calls `caller` with a copy of it instead."""
    code = function.__code__
    copy = FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    ours = functools.partial(caller, copy)
    constants = tuple(ours if one == "ours" else one for one in _template.__code__.co_consts)
    exchanged = _template.__code__.replace(co_consts=constants, co_freevars=code.co_freevars)
    function.__code__ = exchanged
    try:
        yield
    finally:
        function.__code__ = code


class LastResults:
    """What functions returned last, in place of what calls that are left out would return."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def of(self, key: Hashable, call: Callable[[], Any], *, wanted: bool) -> Any:
        """Of a call that is wanted, or has none before it, its own; else that of the last one."""
        if wanted or key not in self._known:
            self._known[key] = call()
        return self._known[key]


def not_left_out(what: str, why: str, slug: str) -> PerfdoctorError:
    """Something of the script's cannot be left out."""
    return PerfdoctorError(f"the script's {what} cannot be left out: {why}", slug=slug)
