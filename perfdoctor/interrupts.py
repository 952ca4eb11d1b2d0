"""Every way out that can be heard leads through `finally`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

#: Ctrl-C, what a CI runner sends to a job that is cancelled, and a terminal that is closed.
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

_listening = False
_presses = 0


def _first(number: int, frame: FrameType | None) -> None:
    """Not the second one: what follows tidies up, and people press Ctrl-C twice.

    The third one again, since Python drops what is raised inside a destructor.
    """
    note()
    if _presses != 2:
        raise KeyboardInterrupt


def _each(number: int, frame: FrameType | None) -> None:
    note()
    raise KeyboardInterrupt


def _none(number: int, frame: FrameType | None) -> None:
    note()


@contextmanager
def heard() -> Iterator[None]:
    """While it lasts, SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does, if not the second.

    What is ignored, as under `nohup`, stays so. Within another one it changes nothing.
    """
    global _listening, _presses
    if _listening or not _in_main_thread():
        yield
        return
    _listening, _presses = True, 0
    try:
        with _handled(_first):
            yield
    finally:
        _listening = False


@contextmanager
def kept() -> Iterator[None]:
    """While it lasts, for writing what is known, none of them raises, but in what is `hasty`."""
    with _handled(_none):
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
