"""Ctrl-C that is not lost.

Python drops a KeyboardInterrupt that is raised inside a destructor or a callback, and a DataLoader
that ends its workers spends much time there. So the press is also remembered, and every step asks.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from perfdoctor.interrupts import note

_pressed = False


def _on_press(number: int, frame: FrameType | None) -> None:
    global _pressed
    _pressed = True
    note()
    raise KeyboardInterrupt


@contextmanager
def heeded() -> Iterator[None]:
    """While this lasts, `check` knows of every Ctrl-C. Does nothing outside the main thread."""
    global _pressed
    _pressed = False
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, _on_press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def check() -> None:
    """Raises the KeyboardInterrupt that was dropped, if one was."""
    global _pressed
    if _pressed:
        _pressed = False
        raise KeyboardInterrupt
