"""Every way out that can be heard leads through `finally`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

#: Ctrl-C, what a CI runner sends to a job that is cancelled, and a terminal that is closed.
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

#: While a report is written the fourth press ends that too: a pipe that nobody reads, say.
_PATIENCE = 4

_listening = False
_presses = 0
_owner = os.getpid()


def _first(number: int, frame: FrameType | None) -> None:
    """Not the second one: what follows tidies up, and people press Ctrl-C twice.

    The third one again, since Python drops what is raised inside a destructor.
    """
    _leave_to_child(number)
    note()
    if _presses != 2:
        raise KeyboardInterrupt


def _each(number: int, frame: FrameType | None) -> None:
    _leave_to_child(number)
    note()
    raise KeyboardInterrupt


def _none_of_the_next() -> Callable[[int, FrameType | None], None]:
    last = _presses + _PATIENCE

    def none(number: int, frame: FrameType | None) -> None:
        _leave_to_child(number)
        note()
        if _presses >= last:
            raise KeyboardInterrupt

    return none


def _leave_to_child(number: int) -> None:
    """A forked process has inherited the handler; a signal does to it what it does to any.

    Raises:
        KeyboardInterrupt: for Ctrl-C, as Python does by itself.
    """
    if os.getpid() == _owner:
        return
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@contextmanager
def heard() -> Iterator[None]:
    """While it lasts, SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does, if not the second.

    What is ignored, as under `nohup`, stays so. Within another one it changes nothing.
    """
    global _listening, _owner, _presses
    if _listening or not _in_main_thread():
        yield
        return
    _listening, _presses, _owner = True, 0, os.getpid()
    try:
        with _handled(_first):
            yield
    finally:
        _listening = False


@contextmanager
def kept() -> Iterator[None]:
    """While it lasts, for writing what is known, the first three raise in what is `hasty` alone."""
    with _handled(_none_of_the_next()):
        yield


@contextmanager
def hasty() -> Iterator[None]:
    """What may be left out of what is `kept`: the next one raises KeyboardInterrupt again.

    Raises:
        KeyboardInterrupt: also at once, where it was pressed twice.
    """
    if not _listening:
        yield
        return
    if hurried():
        raise KeyboardInterrupt
    with _handled(_each):
        yield


@contextmanager
def undisturbed(names: Sequence[str] = _SIGNALS) -> Iterator[None]:
    """While it lasts, for tidying up, neither they nor another Ctrl-C have an effect."""
    with _handled(signal.SIG_IGN, names):
        yield


def note() -> None:
    """Ctrl-C was pressed, and another handler has heard it."""
    global _presses
    _presses += 1


def hurried() -> bool:
    """Whether it was pressed again, since the outermost `heard` began: what can wait is left."""
    return _listening and _presses > 1


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def _handled(handler: object, names: Sequence[str] = _SIGNALS) -> Iterator[None]:
    if not _in_main_thread():
        yield
        return
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    numbers = [n for n in known if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
