"""Whether the machine is fit for trials: what others use of its cores, and the wait for one."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil


class Fitness:
    """CPU time since `begin`, that of this process and of all below it taken off.

    What has ended is in the time of whoever waited for it. For what was killed with its parent that
    is this process, where it takes in orphans (`belongings.py`).
    """

    def begin(self) -> None:
        """Counts from here."""
        self._start = (time.perf_counter(), _busy_s(), _own_s())

    def foreign_share(self) -> float | None:
        """Share of all cores that others used; None where too little time has passed to tell."""
        started, busy, own = self._start
        elapsed = time.perf_counter() - started
        if elapsed < _SHORT_S:
            return None
        foreign = (_busy_s() - busy) - (_own_s() - own)
        return min(1.0, max(0.0, foreign / elapsed / (psutil.cpu_count() or 1)))


#: The system counts in ticks of 10 ms, on every core.
_SHORT_S = 0.5


def _busy_s() -> float:
    """CPU seconds of everything since the machine started, time of guests counted once."""
    now = psutil.cpu_times()
    idle = now.idle + getattr(now, "iowait", 0.0)
    return float(sum(now)) - idle - getattr(now, "guest", 0.0) - getattr(now, "guest_nice", 0.0)


def _own_s() -> float:
    process = psutil.Process()
    return sum(_cpu_s(member) for member in (process, *process.children(recursive=True)))


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(times.user + times.system + ended)


@dataclass
class Waiting:
    """How long a training that was ready to run had no core, over the steps that were added."""

    waited_s: float = 0.0
    ran_s: float = 0.0

    def add(self, waited_s: float | None, ran_s: float) -> None:
        """Some steps: what their threads waited (None: not told), and the CPU time that they had.

        A thread that ends takes what it has waited with it, so that less than nothing may be left.
        """
        if waited_s is not None:
            self.waited_s += max(0.0, waited_s)
            self.ran_s += ran_s

    @property
    def share(self) -> float | None:
        """Of the time in which its threads had something to do; None where that is not told."""
        whole = self.waited_s + self.ran_s
        return self.waited_s / whole if whole > 0 else None
