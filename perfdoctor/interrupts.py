"""Every way out that can be heard leads through `finally`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Ctrl-C, what a CI runner sends to a job that is cancelled, and a terminal that is closed.
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def _raise(number: int, frame: FrameType | None) -> None:
    """Only once: what follows tidies up, and people press Ctrl-C twice."""
    for known in _numbers():
        signal.signal(known, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def heard() -> Iterator[None]:
    """While it lasts, SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does; the first does.

    What is ignored, as under `nohup`, stays so.
    """
    with _handled(_raise):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """While it lasts, for tidying up, neither they nor another Ctrl-C have an effect."""
    with _handled(signal.SIG_IGN):
        yield


def _numbers() -> list[int]:
    return [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]


@contextmanager
def _handled(handler: object) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [n for n in _numbers() if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
