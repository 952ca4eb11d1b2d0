"""Signals that kill: the report first, then the same death.

Only where the default action is in place. Whoever asks is told so, and a handler of the script's
own replaces this one without a trace.

Python calls a handler only between two instructions of the main thread. One that is stuck in a call
into C, a collective whose other ranks are gone, would never die of the signal that the default
action obeys at once. So the number of each signal is written to a pipe as it comes
(`signal.set_wakeup_fd`), and another thread looks there now and then.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import functools
import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from perfdoctor.collect.script.ending import Closing
from perfdoctor.ending import Ending

#: What a scheduler, a launcher or a lost terminal sends. Ctrl-C is an exception already.
DEADLY = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))

_DEFAULT = int(signal.SIG_DFL)
#: How long the main thread may take to answer a signal, before another one answers for it.
PATIENCE_S = 1.0


class Watch:
    """Closes before a deadly signal ends the process. To be made and undone in the main thread."""

    def __init__(self, closing: Closing, clock: Callable[[], float] = time.monotonic) -> None:
        self._closing = closing
        self._postponed = False
        self._handler = self._on_signal  # one object, to be known by `is`
        self._set = _signal.signal
        self._get = _signal.getsignal
        self._wrappers: tuple[Callable[..., Any], Callable[..., Any]] | None = None
        self._clock = clock
        self._pipe: tuple[int, int] | None = None
        self._inode = 0
        self._unanswered: tuple[int, float] | None = None
        self._set_wakeup = signal.set_wakeup_fd

    def install(self) -> None:
        """Takes the deadly signals whose default action is in place; leaves the others alone."""
        for number in DEADLY:
            if self._get(number) == _DEFAULT:
                self._set(number, self._handler)
        self._wrap()
        self._listen()

    def look(self) -> None:
        """In another thread, now and then: answers for a main thread that does not."""
        if self._pipe is None or not self._closing.here or self._closing.busy:
            return
        deadly = [number for number in _read(self._pipe[0], self._inode) if number in DEADLY]
        if deadly and self._unanswered is None and self._get(deadly[0]) is self._handler:
            self._unanswered = deadly[0], self._clock()
        if self._unanswered is None or self._clock() - self._unanswered[1] < PATIENCE_S:
            return
        number = self._unanswered[0]
        self._closing.close(_ending(number))
        _die_anywhere(number)

    def undo(self) -> None:
        """Everything as it was; a handler that the script installed stays."""
        for number in DEADLY:
            if self._get(number) is self._handler:
                self._set(number, _DEFAULT)
        if self._wrappers == (_signal.signal, _signal.getsignal):
            _replace(self._set, self._get)
        self._stop_listening()

    def _listen(self) -> None:
        if os.name != "posix":
            return
        reader, writer = os.pipe()
        for end in (reader, writer):
            os.set_blocking(end, False)
        before = self._set_wakeup(writer, warn_on_full_buffer=False)
        if before != -1:  # someone listens already
            self._set_wakeup(before)
            os.close(reader)
            os.close(writer)
            return
        self._pipe, self._inode = (reader, writer), os.fstat(reader).st_ino

        @functools.wraps(self._set_wakeup)
        def set_wakeup_fd(*args: Any, **options: Any) -> Any:
            found = self._set_wakeup(*args, **options)
            return -1 if self._pipe is not None and found == self._pipe[1] else found

        signal.set_wakeup_fd = _signal.set_wakeup_fd = set_wakeup_fd

    def _stop_listening(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is None:
            return
        theirs = self._set_wakeup(-1)
        if theirs not in (-1, pipe[1]):
            self._set_wakeup(theirs)
        signal.set_wakeup_fd = _signal.set_wakeup_fd = self._set_wakeup
        if _is_pipe(pipe[0], self._inode):
            for end in pipe:
                os.close(end)

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
        self._closing.close(_ending(number))
        self._die(number)

    def _die(self, number: int) -> None:
        self._set(number, _DEFAULT)
        signal.raise_signal(number)
        os.kill(os.getpid(), number)  # the calling thread may have blocked it


def _ending(number: int) -> Ending:
    return Ending("signal", signal.Signals(number).name, 128 + number)


def _read(reader: int, inode: int) -> bytes:
    """What is there, of this pipe: a script may have closed it, and opened a file of its own."""
    try:
        return os.read(reader, 4096) if _is_pipe(reader, inode) else b""
    except OSError:  # nothing there
        return b""


def _is_pipe(reader: int, inode: int) -> bool:
    try:
        return os.fstat(reader).st_ino == inode
    except OSError:
        return False


def _die_anywhere(number: int) -> None:
    """As the default action would have it; Python sets handlers in the main thread alone."""
    import ctypes

    ctypes.CDLL(None).signal(number, None)
    os.kill(os.getpid(), number)


def _replace(setter: Callable[..., Any], getter: Callable[..., Any]) -> None:
    _signal.signal, _signal.getsignal = setter, getter
