"""Signals that kill: the report first, then the same death.

Only where the default action is in place. Whoever asks is told so, and a handler of the script's
own replaces this one without a trace.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import functools
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from perfdoctor.collect.script.ending import Closing
from perfdoctor.ending import Ending

#: What a scheduler, a launcher or a lost terminal sends. Ctrl-C is an exception already.
DEADLY = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))

_DEFAULT = int(signal.SIG_DFL)


class Watch:
    """Closes before a deadly signal ends the process. To be made and undone in the main thread."""

    def __init__(self, closing: Closing) -> None:
        self._closing = closing
        self._postponed = False
        self._handler = self._on_signal  # one object, to be known by `is`
        self._set = _signal.signal
        self._get = _signal.getsignal
        self._wrappers: tuple[Callable[..., Any], Callable[..., Any]] | None = None

    def install(self) -> None:
        """Takes the deadly signals whose default action is in place; leaves the others alone."""
        for number in DEADLY:
            if self._get(number) == _DEFAULT:
                self._set(number, self._handler)
        self._wrap()

    def undo(self) -> None:
        """Everything as it was; a handler that the script installed stays."""
        for number in DEADLY:
            if self._get(number) is self._handler:
                self._set(number, _DEFAULT)
        if self._wrappers == (_signal.signal, _signal.getsignal):
            _replace(self._set, self._get)

    def _wrap(self) -> None:
        # In `_signal`, which `signal` calls: `from signal import signal` made earlier is met too.
        @functools.wraps(self._set)
        def signal(*args: Any) -> Any:
            return self._seen(self._set(*self._meant(args)))

        @functools.wraps(self._get)
        def getsignal(*args: Any) -> Any:
            return self._seen(self._get(*args))

        self._wrappers = (signal, getsignal)
        _replace(signal, getsignal)

    def _meant(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """A script that puts the default action back gets this watch back."""
        match args:
            case (int(number), int(action)) if number in DEADLY and action == _DEFAULT:
                return (number, self._handler if self._closing.here else action)
        return args

    def _seen(self, action: Any) -> Any:
        return _DEFAULT if action is self._handler else action

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._closing.busy and not self._postponed:  # the second one does not wait
            self._postponed = True
            self._closing.afterwards = functools.partial(self._die, number)
            return
        name = signal.Signals(number).name
        self._closing.close(Ending("signal", name, 128 + number))
        self._die(number)

    def _die(self, number: int) -> None:
        self._set(number, _DEFAULT)
        signal.raise_signal(number)
        os.kill(os.getpid(), number)  # the calling thread may have blocked it


def _replace(setter: Callable[..., Any], getter: Callable[..., Any]) -> None:
    _signal.signal, _signal.getsignal = setter, getter
