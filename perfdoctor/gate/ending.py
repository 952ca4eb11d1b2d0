"""Every way out that can be heard leads through `finally`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: What a CI runner sends to a job that is cancelled, and a terminal that is closed.
_SIGNALS = ("SIGTERM", "SIGHUP")


def _raise(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def heard() -> Iterator[None]:
    """While it lasts, SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does."""
    with _handled(_raise, _SIGNALS):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """While it lasts, for tidying up, neither they nor another Ctrl-C have an effect."""
    with _handled(signal.SIG_IGN, ("SIGINT", *_SIGNALS)):
        yield


@contextmanager
def _handled(handler: object, names: tuple[str, ...]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, handler) for number in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
