"""How long a thread stood still, neither computing nor ready and without a core.

Where it gets no core as it wakes up, that belongs to the wait: on a machine whose cores are taken,
a line that waits for a disk a thousand times a second is slow for that, and no other line is.
"""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import suppress
from pathlib import Path

from perfdoctor.collect.script.cpu_looks import CpuLooks

#: Processor time that no signal told of: longer than any call into C that a signal has to wait
#: for. Then somebody else answers the signals, and the looks count as if there were none.
_LOST_S = 60.0
#: Of a line of /proc/PID/task/TID/stat the number, the name (15 bytes) and the state; all of the
#: other files.
_STATE_BYTES, _ALL_BYTES = 64, 16 * 1024


class Waits:
    """Reads the clocks of one thread; made in that thread.

    The time without a core is the second field of /proc/PID/task/TID/schedstat, in nanoseconds
    (Linux, Documentation/scheduler/sched-stats.rst); taken for none where the system does not
    tell.
    """

    def __init__(self, thread_id: int, tasks: Path = Path("/proc/self/task")) -> None:
        self._thread_id = thread_id
        number = threading.get_native_id()
        # "42 (python) S 1 …": a name may hold a parenthesis.
        self._state = _Kept(tasks / f"{number}/stat", rb"%d \(.*\) +(\S)" % number, _STATE_BYTES)
        self._queued = _Kept(tasks / f"{number}/schedstat", rb"\d+ (\d+) \d+\s*\Z")
        self._switches = _Kept(
            tasks / f"{number}/status",
            rb"Name:.*?^Pid:\s+%d\n.*?^voluntary_ctxt_switches:\s+(\d+)\n"
            rb"nonvoluntary_ctxt_switches:\s+(\d+)\n" % number,
        )
        self._counts = (0, 0)
        self._after_waits_s = 0.0
        self._first: tuple[float, float] | None = None
        self._last = (0.0, 0.0)

    def since_last(self, wall_s: float, looks: CpuLooks) -> float:
        """Seconds of the last `wall_s` in which it stood still; tells `looks` how much a second
        of computing takes, and ends them where they see nothing."""
        now, woken = self._read(), self._woken()
        if now is None:
            return wall_s
        if self._first is None:
            self._first = self._last = now
            return 0.0
        busy_s, queued_now_s = sum(now) - sum(self._last), now[1] - self._last[1]
        self._last = now
        # Who wakes up has to wait for a core where others have them: that belongs to the wait.
        after_s = queued_now_s * woken
        self._after_waits_s += after_s
        cpu_s = now[0] - self._first[0]
        queued_s = now[1] - self._first[1] - self._after_waits_s
        if cpu_s > 0:
            looks.stretch = 1 + queued_s / cpu_s
        if cpu_s - looks.seconds > _LOST_S:
            looks.stop()
        return min(wall_s, max(0.0, wall_s - busy_s) + after_s)

    def _woken(self) -> float:
        """The part of the times it was given a core since the last call that came after a wait of
        its own, and not after another took the core from it."""
        counts = self._switches.read()
        if len(counts) != len(self._counts):
            return 0.0
        last, self._counts = self._counts, (int(counts[0]), int(counts[1]))
        own, taken = (a - b for a, b in zip(self._counts, last, strict=True))
        return own / (own + taken) if own + taken > 0 else 0.0

    def still(self) -> bool:
        """Whether it stands still at this moment; True where the system does not tell.

        A thread that waits for nothing but the interpreter's lock has it while the file is read,
        and counts as running.
        """
        return self._state.read() != (b"R",)

    def close(self) -> None:
        """Leaves no file open, and closes none that the script opened in its place."""
        for file in (self._state, self._queued, self._switches):
            file.close()

    def _read(self) -> tuple[float, float] | None:
        try:
            cpu_s = time.clock_gettime(time.pthread_getcpuclockid(self._thread_id))
        except (OSError, OverflowError):
            return None
        queued = self._queued.read()
        return cpu_s, int(queued[0]) * 1e-9 if queued else 0.0


class _Kept:
    """A file that stays open between readings: each is one call that lets go of the interpreter's
    lock, where opening and closing it anew would be five.

    A script may close all files that it does not know, and open others in their place: what does
    not look like this one, or is not it, is left alone from then on.
    """

    def __init__(self, path: Path, like: bytes, size: int = _ALL_BYTES) -> None:
        self._path = path
        self._like = re.compile(like, re.DOTALL | re.MULTILINE)
        self._size = size
        self._opened = self._told = False
        self._file: int | None = None
        self._status: os.stat_result | None = None

    def read(self) -> tuple[bytes, ...]:
        """The groups of `like`; none where it cannot be read."""
        if not self._opened:
            self._opened = self._told = True
            self._open()
        if self._file is None or not self._told:
            return ()
        try:
            found = self._like.match(os.pread(self._file, self._size, 0))
        except OSError:
            found = None
        self._told = found is not None
        return () if found is None else found.groups()

    def close(self) -> None:
        """Closes it, if it is still the one that was opened."""
        file, self._file, self._opened = self._file, None, True
        if file is None or self._status is None:
            return
        with suppress(OSError):
            if os.path.samestat(os.fstat(file), self._status):
                os.close(file)

    def _open(self) -> None:
        with suppress(OSError):
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            self._status = os.fstat(self._file)
