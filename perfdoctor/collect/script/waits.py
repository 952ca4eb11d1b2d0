"""How long a thread stood still, neither computing nor ready and without a core.

Where it gets no core as it wakes up, that belongs to the wait: on a machine whose cores are taken,
a line that waits for a disk a thousand times a second is slow for that, and no other line is.
"""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path

from perfdoctor.collect.script.cpu_looks import CpuLooks

#: Processor time that no signal told of: longer than any call into C that a signal has to wait
#: for. Then somebody else answers the signals, and the looks count as if there were none.
_LOST_S = 60.0
#: Of a line of /proc/PID/task/TID/stat the number, the name (15 bytes) and the state.
_STATE_BYTES = 64
_NOT_OPEN = -1
#: Less of the time without a core than this is not worth one more file to read.
_MUCH_QUEUED = 0.05
_SWITCHES = re.compile(rb"voluntary_ctxt_switches:\s*(\d+)")


class Waits:
    """Reads the clocks of one thread; made in that thread.

    The time without a core is the second field of /proc/PID/task/TID/schedstat, in nanoseconds
    (Linux, Documentation/scheduler/sched-stats.rst); taken for none where the system does not
    tell.
    """

    def __init__(self, thread_id: int) -> None:
        self._thread_id = thread_id
        self._status = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._switches = self._status.with_name("status")
        self._counts = [0, 0]
        self._after_waits_s = 0.0
        self._state = Path(f"/proc/self/task/{threading.get_native_id()}/stat")
        self._state_file: int | None = _NOT_OPEN
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
        busy_s, queued_now_s = sum(now) - sum(self._last), now[1] - self._last[1]
        self._last = now
        # Who wakes up has to wait for a core where others have them: that belongs to the wait.
        after_s = queued_now_s * self._woken() if queued_now_s > _MUCH_QUEUED * wall_s else 0.0
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
        try:
            found = _SWITCHES.findall(self._switches.read_bytes())
        except OSError:
            found = []
        if len(found) != len(self._counts):
            return 0.0
        last, self._counts = self._counts, [int(count) for count in found]
        own, taken = (a - b for a, b in zip(self._counts, last, strict=True))
        return own / (own + taken) if own + taken > 0 else 0.0

    def still(self) -> bool:
        """Whether it stands still at this moment; True where the system does not tell.

        One call that lets go of the interpreter's lock: a thread that waits for nothing else has
        it then, and counts as running. Opening the file each time would let it go on in between.
        """
        if self._state_file == _NOT_OPEN:
            try:
                self._state_file = os.open(self._state, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                self._state_file = None
        # "42 (python) S 1 …": a name may hold a parenthesis.
        state = self._stat().rpartition(b")")[2].split()[:1]
        return state != [b"R"]

    def close(self) -> None:
        """Leaves no file open, and closes none that the script opened in its place."""
        if self._stat() and self._state_file is not None:
            os.close(self._state_file)
        self._state_file = None

    def _stat(self) -> bytes:
        """The beginning of the line; nothing once it cannot be read: a script may close all files
        that it does not know, and open others in their place."""
        if self._state_file is None or self._state_file == _NOT_OPEN:
            return b""
        try:
            text = os.pread(self._state_file, _STATE_BYTES, 0)
        except OSError:
            text = b""
        if not text.startswith(f"{self._state.parent.name} (".encode()):
            self._state_file, text = None, b""
        return text

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
