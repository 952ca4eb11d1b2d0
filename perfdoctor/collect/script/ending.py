"""How the script ended, and the one call that follows however it did."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from perfdoctor.ending import Ending
from perfdoctor.errors import PerfdoctorError, first_line

# What a thread that calls os._exit waits for a report that another thread is just writing.
_PATIENCE_S = 10.0


class StopScript(SystemExit):
    """Ends the script from inside, so that its `finally` blocks and context managers run."""


def ending_of(error: BaseException | None) -> Ending:
    """What an exception that left the script (None: it ran to its end) says about its end."""
    if error is None:
        return Ending("finished", "", 0)
    if isinstance(error, StopScript):
        return Ending("stopped", "", 0)
    if isinstance(error, SystemExit):
        return _exit_ending(error.code)
    if type(error) is KeyboardInterrupt:
        return Ending("interrupted", "KeyboardInterrupt", 130)
    return Ending("exception", _line(error), 1)


def _exit_ending(code: object) -> Ending:
    if code is None:
        return Ending("exit", "", 0)
    if isinstance(code, int):
        return Ending("exit", "", int(code))
    text = ""
    with suppress(Exception):
        text = str(code).strip().partition("\n")[0]
    return Ending("exit", text, 1)


def _line(error: BaseException) -> str:
    if isinstance(error, PerfdoctorError):  # meant to be read
        return str(error)
    try:
        return first_line(error)
    except Exception:
        return type(error).__name__


class Closing:
    """Calls `finish` once, in the process that made this and in no child that it forks.

    Attributes:
        ending: how the script ended; None while it runs.
        afterwards: called when `finish` has returned.
        called_early: the handlers of `atexit` were run, and forgotten, while the script ran.
    """

    def __init__(self, finish: Callable[[Ending], None]) -> None:
        self.ending: Ending | None = None
        self.afterwards: Callable[[], None] | None = None
        self.called_early = False
        self._finish = finish
        self._process = os.getpid()
        self._once = threading.Lock()
        self._closer: int | None = None
        self._closed = threading.Event()

    @property
    def here(self) -> bool:
        """Is this the observed process, and not a child that it forked?"""
        return os.getpid() == self._process

    @property
    def busy(self) -> bool:
        """Is `finish` running?"""
        return self._closer is not None and not self._closed.is_set()

    def close(self, ending: Ending) -> None:
        """Calls `finish` if nobody did; what goes wrong in it is one line on stderr."""
        if not self.here:
            return
        if not self._once.acquire(blocking=False):
            if self._closer != threading.get_ident():
                self._closed.wait(_PATIENCE_S)
            return
        self._closer = threading.get_ident()
        try:
            self._finish(ending)
        except BaseException as error:
            _warn(f"perfdoctor: warning: the report was not finished: {_line(error)}")
        finally:
            self._closed.set()
        if self.afterwards is not None:
            self.afterwards()

    def cancel(self) -> None:
        """From now on there is nothing to call."""
        if self._once.acquire(blocking=False):
            self._closed.set()


def _warn(line: str) -> None:
    with suppress(Exception):
        print(line, file=sys.stderr, flush=True)  # noqa: T201


def close_before_os_exit(closing: Closing) -> Callable[[], None]:
    """Makes `os._exit` close first; returns what undoes it.

    It closes in the thread that calls: the main thread may be the one that is stuck for good.
    """
    original = os._exit

    @functools.wraps(original)
    def _exit(*args: Any, **kwargs: Any) -> Any:
        status = args[0] if args else kwargs.get("status")
        if isinstance(status, int) and closing.here:
            closing.close(_after(closing.ending, status))
        return original(*args, **kwargs)

    def undo() -> None:
        if os._exit is _exit:
            setattr(os, "_exit", original)  # noqa: B010  (mypy knows os._exit as a constant)

    setattr(os, "_exit", _exit)  # noqa: B010
    return undo


def _after(ending: Ending | None, status: int) -> Ending:
    """`os._exit` in a clean-up after an exception: it is the exception that ended the script."""
    if ending is not None and ending.how in ("exception", "interrupted"):
        return replace(ending, code=status)
    return Ending("os._exit", "", status)
