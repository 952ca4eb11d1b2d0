"""Runs a script in this process as if nobody observed it."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import NoReturn

from perfdoctor.collect.script import frames
from perfdoctor.collect.script.ending import (
    Closing,
    StopScript,
    close_before_os_exit,
    ending_of,
)
from perfdoctor.collect.script.main_module import Prepared, Script, enter, missing, prepare
from perfdoctor.collect.script.signals import Watch
from perfdoctor.ending import Ending

__all__ = ["Ending", "Script", "StopScript", "execute", "stop_script"]

_observed: Closing | None = None
_signals: Watch | None = None


class _Leave(BaseException):
    """Leaves the interpreter like an uncaught exception that has been shown already."""


def execute(script: Script, finish: Callable[[Ending], None]) -> NoReturn:
    """Runs the script as `__main__` and leaves the interpreter as the script would.

    To be called in the main thread. It leaves by an exception that only the interpreter should
    catch (SystemExit or a private BaseException).

    Args:
        script: what to run.
        finish: called once, however the script ends: after its threads and its atexit handlers
            where it ends by itself, at once where a signal or `os._exit` ends it. Forked
            children never call it. What it raises is one warning line on stderr.

    Raises:
        PerfdoctorError: there is no such script; `finish` is not called.
    """
    prepared = prepare(script)
    closing = Closing(finish)
    undo = [_watch(closing), enter(prepared, script)]
    error = _outcome(prepared)
    try:
        unfound = missing(error, script)
        if unfound is not None:
            closing.cancel()
            for step in undo:
                step()
            raise unfound from None
        closing.ending = ending_of(error)
        if closing.called_early:
            atexit.register(closing.close, closing.ending)
        _leave(error)
    finally:
        del error  # or a cycle keeps the script's objects beyond their time


def stop_script() -> None:
    """Ends the observed script from within its main thread; elsewhere it does nothing.

    Raises:
        StopScript: a SystemExit with code 0, so that `finally` blocks and context managers run.
    """
    if _observed is None or not _observed.here or _observed.busy or _observed.ending is not None:
        return
    if threading.current_thread() is threading.main_thread():
        raise StopScript(0)


def look_for_signals() -> None:
    """In another thread, now and then: answers a deadly signal that the main thread does not."""
    if _signals is not None:
        _signals.look()


def _watch(closing: Closing) -> Callable[[], None]:
    """Sees to it that every way to end closes; returns what undoes it."""
    global _observed
    _observed = closing
    frames.hide_from_traceback_module()
    global _signals
    _signals = signals = Watch(closing)
    signals.install()
    restore_exit = close_before_os_exit(closing)

    def at_end() -> None:
        if closing.ending is None:  # the script called atexit._run_exitfuncs, and goes on
            closing.called_early = True
            return
        closing.close(closing.ending)
        if closing.ending.how == "interrupted":
            _die_by_interrupt_at_the_end()  # `finish` may have compiled something

    def undo() -> None:
        atexit.unregister(at_end)
        restore_exit()
        signals.undo()

    # First registered, last called: after the script's own handlers.
    atexit.register(at_end)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: None if closing.here else undo())
    return undo


def _outcome(prepared: Prepared) -> BaseException | None:
    """What the script raised, without perfdoctor's frames; None if it ran to its end."""
    try:
        prepared.run()
    except BaseException as error:
        frames.strip(error)
        return error
    return None


def _leave(error: BaseException | None) -> NoReturn:
    try:
        if error is None:
            raise SystemExit(0)
        if isinstance(error, SystemExit):
            raise error
        _show(error)
        if type(error) is not KeyboardInterrupt:
            raise SystemExit(1)
        _mute(error)
        _die_by_interrupt_at_the_end()
        raise _Leave
    finally:
        del error


def _show(error: BaseException) -> None:
    """What the interpreter does with an uncaught exception (_PyErr_PrintEx in pythonrun.c)."""
    _remember(error)
    hook = getattr(sys, "excepthook", None)
    if hook is None:
        _write("sys.excepthook is missing\n")
        return _display(error)
    try:
        hook(type(error), error, error.__traceback__)
    except SystemExit:
        raise
    except BaseException as failure:
        failed = failure
    else:
        return None
    frames.strip(failed)
    _write("Error in sys.excepthook:\n")
    _display(failed)
    _write("\nOriginal exception was:\n")
    return _display(error)


def _display(error: BaseException) -> None:
    sys.__excepthook__(type(error), error, error.__traceback__)


def _write(text: str) -> None:
    with suppress(Exception):  # stderr may be None, closed or the script's own
        sys.stderr.write(text)


def _remember(error: BaseException) -> None:
    sys.last_type, sys.last_value = type(error), error
    sys.last_traceback = error.__traceback__
    if sys.version_info >= (3, 12):
        sys.last_exc = error


def _mute(error: BaseException) -> None:
    """Lets the interpreter show nothing more, and forgets that it was asked to."""
    script_hook = sys.excepthook

    def once(kind: type[BaseException], value: BaseException, tb: TracebackType | None) -> None:
        sys.excepthook = script_hook
        _remember(error)

    sys.excepthook = once


def _die_by_interrupt_at_the_end() -> None:
    """Makes the interpreter end itself by SIGINT when it is done, as after an uncaught Ctrl-C.

    It remembers a KeyboardInterrupt that leaves source run from text (run_eval_code_obj in
    pythonrun.c), caught or not, and asks at its very end (exit_sigint in main.c).
    """
    try:
        exec("raise KeyboardInterrupt")
    except KeyboardInterrupt:
        return
