"""A shorter switch interval of the interpreter, while only the main thread and ours run Python.

With the usual 5 ms the sampling thread never sees pure Python that runs for less than that between
two calls that release the interpreter's lock: in a loop that spent 60 % of its time so, 0 of 58
looks saw it; with 0.5 ms it was 40 % of them. Shorter still would see more, but the waiting thread
wakes once an interval, which costs while a call into C holds the lock for long. A switch happens
only where another thread waits for the lock, so for a script without threads of its own this costs
one early switch a look. Threads that do run Python would switch ten times as often: where one is
seen to, the usual value returns.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import FrameType

SHORT_S = 0.0005
_WAITING_FILES = (
    "threading.py queue.py queues.py selectors.py connection.py socket.py ssl.py subprocess.py"
    " popen_fork.py popen_forkserver.py popen_spawn_posix.py"
)
#: Files in which a thread that waits for work has its innermost frame.
_WAITING = frozenset(_WAITING_FILES.split())
#: Looks in which another thread ran Python, after which this steps aside: a wait that has just
#: ended is seen now and then, a thread that works is seen all the time.
_ALLOWED = 5
#: One such look is forgiven after this many quiet ones.
_FORGIVE = 50


class ShortTurns:
    """Sets the switch interval and gives it back; a value that the script sets stays."""

    def __init__(self) -> None:
        self._before_s: float | None = None
        self._set_s: float | None = None
        self._pid = os.getpid()
        self._busy = 0
        self._quiet = 0

    @property
    def active(self) -> bool:
        """Whether the interval is short because of this."""
        return self._before_s is not None

    def begin(self) -> None:
        """Shortens the interval."""
        before_s = sys.getswitchinterval()
        if self._before_s is not None or before_s <= SHORT_S:
            return
        sys.setswitchinterval(SHORT_S)
        self._before_s, self._set_s = before_s, sys.getswitchinterval()
        os.register_at_fork(after_in_child=self._end_in_child)

    def end(self) -> None:
        """Gives back what was there before, unless the script has set another since."""
        before_s, self._before_s = self._before_s, None
        if before_s is not None and sys.getswitchinterval() == self._set_s:
            sys.setswitchinterval(before_s)

    def look(self, frames: Mapping[int, FrameType], watched: int, own: int) -> None:
        """Ends it where the threads besides these two are seen to work."""
        if self._before_s is None or len(frames) <= 2:
            return
        if any(_works(frames[i]) for i in frames if i not in (watched, own)):
            self._busy += 1
            self._quiet = 0
            if self._busy > _ALLOWED:
                self.end()
            return
        self._quiet += 1
        if self._quiet >= _FORGIVE:
            self._quiet, self._busy = 0, max(0, self._busy - 1)

    def _end_in_child(self) -> None:
        if os.getpid() != self._pid:
            self.end()


def _works(frame: FrameType) -> bool:
    return os.path.basename(frame.f_code.co_filename) not in _WAITING  # noqa: PTH119 - in a look
