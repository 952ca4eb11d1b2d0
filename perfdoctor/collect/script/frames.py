"""Tracebacks in which perfdoctor does not stand."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import CodeType, FunctionType, TracebackType
from typing import Any

# The folder `perfdoctor/collect`: wrappers in here stand between the script and what it calls.
_OURS = str(Path(__file__).resolve().parents[1]) + os.sep

# What `warnings` leaves out when it counts frames (is_internal_filename in _warnings.c).
_INTERNAL = "importlib._bootstrap"

#: Code that passes for another function's: its lines up to this one are shown, those below not.
#: By `id`, with the code so that it lives on: Python hashes all of a code's contents, which takes
#: longer than anything else that is done for a frame.
_disguised: dict[int, tuple[int, CodeType]] = {}

# `warnings` names the place above the outermost frame like this (from C, since 3.13 anew).
_ABOVE = ("<sys>", 0) if sys.version_info >= (3, 13) else ("sys", 1)
_BASES = 6
_C_COUNTS = sys.version_info < (3, 12)  # until then calls in C counted as recursion too


def _base() -> FunctionType:
    """A function whose frame looks to `warnings` as if there was no frame."""
    code: CodeType = compile("lambda run, *args: run(*args)", _ABOVE[0], "eval").co_consts[0]
    code = code.replace(co_firstlineno=_ABOVE[1], co_name="<module>")
    return FunctionType(code, {"__name__": "sys"})


_BASE = _base()


def call_at_base(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function so that its frames seem to be the outermost.

    Stacks printed by `traceback` end there, and a warning with a `stacklevel` that leads beyond
    is placed where Python places it. The frames below do not count against the recursion limit.
    """
    in_c = function is exec and _C_COUNTS
    sys.setrecursionlimit(sys.getrecursionlimit() + _depth() + _BASES + in_c)
    return _BASE(*[_BASE] * (_BASES - 1), function, *args)


def _depth() -> int:
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None:
        in_c = _C_COUNTS and frame.f_code.co_name == "<module>"  # run by `exec`
        frame, depth = frame.f_back, depth + 1 + in_c
    return depth


def unnoticed(code: CodeType) -> CodeType:
    """The code of a wrapper, for `stacklevel` of `warnings` to lead where it would without it."""
    return code.replace(co_filename=f"{code.co_filename}:{_INTERNAL}")


def disguised(code: CodeType, original: CodeType, lines: int) -> CodeType:
    """The code of a wrapper, to be taken for `original` by whoever asks for the file.

    Its first `lines` lines are those of `original`. Further down it calls `original`, and then it
    is left out of tracebacks.
    """
    first = original.co_firstlineno
    code = code.replace(co_filename=original.co_filename, co_firstlineno=first)
    if sys.version_info >= (3, 11):
        code = code.replace(co_qualname=original.co_qualname)
    _disguised[id(code)] = (first + lines - 1, code)
    return code


def strip(error: BaseException) -> None:
    """Takes perfdoctor's frames out of an exception and all that it is chained to or groups."""
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        found = todo.pop()
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        with suppress(Exception):
            found.with_traceback(_without_ours(found.__traceback__))
        todo += [found.__cause__, found.__context__]
        grouped = getattr(found, "exceptions", ())
        todo += grouped if isinstance(grouped, tuple) else ()


def _without_ours(tb: TracebackType | None) -> TracebackType | None:
    links: list[TracebackType] = []
    while tb is not None:
        code = tb.tb_frame.f_code
        if code is _BASE.__code__:
            links.clear()
        elif not _is_ours(code, tb.tb_lineno):
            links.append(tb)
        tb = tb.tb_next
    following: list[TracebackType | None] = [*links[1:], None]
    for link, after in zip(links, following, strict=False):
        link.tb_next = after
    return links[0] if links else None


def _is_ours(code: CodeType, line: int | None) -> bool:
    shown = _disguised.get(id(code))
    if shown is not None:
        return line is not None and line > shown[0]
    return code.co_filename.startswith(_OURS)


def hide_from_traceback_module() -> None:
    """Lets `traceback` (print_exc, print_stack, format_stack …, `logging`) leave our frames out."""
    summary = traceback.StackSummary
    # The one place through which all go: since 3.11 the first, before that the second.
    for name in ("_extract_from_extended_frame_gen", "extract"):
        method = vars(summary).get(name)
        if isinstance(method, classmethod):
            original = method.__func__
            if not hasattr(original, "_perfdoctor"):
                setattr(summary, name, classmethod(_hiding(original)))
            return


def _hiding(original: Callable[..., Any]) -> Callable[..., Any]:
    # No generator and no inner function in the loop: `walk_stack(None)` counts the frames above.
    def without_ours(cls: type, frame_gen: Iterable[Any], **options: Any) -> Any:
        # In a few words: anomaly detection comes here for every operation, with every frame.
        kept, base, ours, known = [], _BASE.__code__, _OURS, _disguised
        for item in frame_gen:
            code = item[0].f_code
            if code is base:
                break
            if code.co_filename.startswith(ours) or id(code) in known:
                line = item[1][0] if isinstance(item[1], tuple) else item[1]
                if _is_ours(code, line):
                    continue
            kept.append(item)
        return original(cls, kept, **options)

    setattr(without_ours, "_perfdoctor", True)  # noqa: B010
    return without_ours
