"""Looks at a thread each time it has used so much processor time: a timer sends it a signal.

A thread that looks at another needs the interpreter's lock, so it sees the other where that gives
the lock up: of a loop that spent 58 % of its time in regular expressions and 42 % in `torch.tensor`
it saw the first in 18 % of its looks, since only the second releases the lock. A signal is answered
by the watched thread itself, at the end of the bytecode that it interrupts: 44 % there, of 38 %.

The timer counts the thread's own processor time, so it never interrupts a wait (`EINTR`). The
signal is SIGURG, as Go's runtime uses it to stop its threads, for the same reasons: nobody who does
not ask for it is harmed, as its default is to be ignored (a pending one survives `exec`), and who
does ask must expect spurious ones. Where the script handles it, nothing is sent.

Sources: timer_create(2), SIGEV_THREAD_ID; golang/proposal 24543, "Other considerations".
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from perfdoctor.collect.script.stacks import Sampled, StackTable

#: Together with the other thread's looks about half a per cent of a core.
_SHARE = 0.0025
_LONGEST_S = 1.0
_NEWEST = 0.2
_THREAD_CPUTIME = 3  # CLOCK_THREAD_CPUTIME_ID
_TO_THREAD = 4  # SIGEV_THREAD_ID
_NS = 1_000_000_000


class CpuLooks:
    """Adds up the stacks of the thread that starts it, by its processor time.

    Args:
        label: the label under which a look counts; called in the watched thread.
        is_user: tells the user's files, for stacks that are lumped.
        interval_s: mean processor time between looks; longer where they take more than their
            share.

    Attributes:
        seconds: processor time that looks have accounted for.
        stretch: what a second of processor time took by the wall clock, waits for a core
            included, save those at the end of another wait; looks count so much more.
    """

    def __init__(
        self, label: Callable[[], int], is_user: Callable[[str], bool], interval_s: float
    ) -> None:
        self.seconds = 0.0
        self.stretch = 1.0
        self._label = label
        self._interval_s = interval_s
        self._stacks = StackTable(is_user)
        self._random = random.Random(0x5EED)
        self._timer: ctypes.c_void_p | None = None
        self._pid = os.getpid()
        self._last_s = 0.0
        self._cost_s: float | None = None

    @property
    def active(self) -> bool:
        """Whether a timer runs; never in a forked child, which inherits none."""
        return self._timer is not None and os.getpid() == self._pid

    def start(self) -> bool:
        """Begins to look at this thread; False where that is not possible."""
        signalled = getattr(signal, "SIGURG", None)
        if not sys.platform.startswith("linux") or signalled is None:
            return False
        if threading.current_thread() is not threading.main_thread():
            return False  # handlers run in the main thread only
        if signal.getsignal(signalled) not in (signal.SIG_DFL, _answer):
            return False
        with suppress(OSError, AttributeError):
            self._timer = _made_timer(signalled)
        if self._timer is None:
            return False
        _watching[0] = self
        signal.signal(signalled, _answer)
        signal.siginterrupt(signalled, False)
        self._last_s = time.thread_time()
        self._arm()
        return True

    def stop(self) -> None:
        """Ends it, in any thread; a signal that is under way is answered by nothing."""
        timer, self._timer = self._timer, None
        if timer is None or os.getpid() != self._pid:
            return
        _libc().timer_delete(timer)
        if _watching[0] is self:
            _watching[0] = None
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGURG) is _answer:
            signal.signal(signal.SIGURG, signal.SIG_DFL)

    def snapshot(self) -> list[Sampled]:
        """What was seen so far."""
        return self._stacks.snapshot()

    def look(self, frame: FrameType | None) -> None:
        """One look, in the watched thread."""
        if not self.active:
            return
        now_s = time.thread_time()
        since_s, self._last_s = now_s - self._last_s, now_s
        self.seconds += since_s
        if frame is not None:
            stack = self._stacks.stack_of(frame)
            self._stacks.add(self._label(), stack, since_s * self.stretch)
        cost_s = time.thread_time() - now_s
        mean_s = cost_s if self._cost_s is None else self._cost_s
        self._cost_s = mean_s + _NEWEST * (min(cost_s, 2 * mean_s) - mean_s)
        self._arm()

    def _arm(self) -> None:
        """The next look; jittered, lest looks fall into step with the training."""
        if (timer := self._timer) is None:
            return
        wanted_s = max(self._interval_s, (self._cost_s or 0.0) / _SHARE)
        pause_s = min(wanted_s, max(_LONGEST_S, self._interval_s)) * (0.5 + self._random.random())
        _libc().timer_settime(timer, 0, ctypes.byref(_ITimer(_Time(0, 0), _Time.of(pause_s))), None)


_watching: list[CpuLooks | None] = [None]


def _answer(_signal: int, frame: FrameType | None) -> None:
    """The handler. What goes wrong here would be raised in the script's code."""
    looks = _watching[0]
    if looks is None:
        return
    try:
        looks.look(frame)
    except Exception:
        looks.stop()


class _Time(ctypes.Structure):
    _fields_ = (("s", ctypes.c_long), ("ns", ctypes.c_long))

    @classmethod
    def of(cls, seconds: float) -> _Time:
        whole, rest = divmod(max(1, int(seconds * _NS)), _NS)
        return cls(whole, rest)


class _ITimer(ctypes.Structure):
    _fields_ = (("every", _Time), ("first", _Time))


class _Event(ctypes.Structure):
    """struct sigevent of Linux: 64 bytes."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread", ctypes.c_int),
        ("rest", ctypes.c_byte * 44),
    )


_libraries: list[ctypes.CDLL] = []


def _libc() -> ctypes.CDLL:
    """Where `timer_create` is: the C library, or librt before glibc 2.34. Raises OSError."""
    if not _libraries:
        library = ctypes.CDLL(None)
        _libraries.append(
            library if hasattr(library, "timer_create") else ctypes.CDLL("librt.so.1")
        )
    return _libraries[0]


def _made_timer(number: int) -> ctypes.c_void_p | None:
    """A timer of the calling thread's processor time; None where the system refuses."""
    event = _Event(signal=number, notify=_TO_THREAD, thread=threading.get_native_id())
    timer = ctypes.c_void_p()
    failed = _libc().timer_create(_THREAD_CPUTIME, ctypes.byref(event), ctypes.byref(timer))
    return None if failed else timer
