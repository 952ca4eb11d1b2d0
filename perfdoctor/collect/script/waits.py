"""How long a thread stood still: neither computing, nor ready and without a core."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from perfdoctor.collect.script.cpu_looks import CpuLooks

#: Processor time that no signal told of: longer than any call into C that a signal has to wait
#: for. Then somebody else answers the signals, and the looks count as if there were none.
_LOST_S = 60.0


class Waits:
    """Reads the clocks of one thread; made in that thread.

    The time without a core is the second field of /proc/PID/task/TID/schedstat, in nanoseconds
    (Linux, Documentation/scheduler/sched-stats.rst); taken for none where the system does not
    tell.
    """

    def __init__(self, thread_id: int) -> None:
        self._thread_id = thread_id
        self._status = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._first: tuple[float, float] | None = None
        self._last = (0.0, 0.0)

    def since_last(self, wall_s: float, looks: CpuLooks) -> float:
        """Seconds of the last `wall_s` in which it stood still; tells `looks` how much a second
        of computing takes, and ends them where they see nothing."""
        now = self._read()
        if now is None:
            return wall_s
        if self._first is None:
            self._first = self._last = now
            return 0.0
        busy_s = sum(now) - sum(self._last)
        self._last = now
        cpu_s, queued_s = now[0] - self._first[0], now[1] - self._first[1]
        if cpu_s > 0:
            looks.stretch = 1 + queued_s / cpu_s
        if cpu_s - looks.seconds > _LOST_S:
            looks.stop()
        return max(0.0, wall_s - busy_s)

    def _read(self) -> tuple[float, float] | None:
        try:
            cpu_s = time.clock_gettime(time.pthread_getcpuclockid(self._thread_id))
        except (OSError, OverflowError):
            return None
        try:
            queued_s = int(self._status.read_bytes().split()[1]) * 1e-9
        except (OSError, ValueError, IndexError):
            queued_s = 0.0
        return cpu_s, queued_s
