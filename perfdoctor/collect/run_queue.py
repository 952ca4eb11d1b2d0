"""How long a process's threads were ready to run and had no core."""

from __future__ import annotations

from pathlib import Path

_TASKS = Path("/proc/self/task")


def run_queue_s() -> float | None:
    """Seconds so far, all threads together; None where the system does not tell.

    The second field of /proc/PID/task/TID/schedstat, in nanoseconds (Linux,
    Documentation/scheduler/sched-stats.rst).
    """
    waited = 0
    try:
        for task in _TASKS.iterdir():
            waited += int((task / "schedstat").read_text().split()[1])
    except (OSError, ValueError, IndexError):  # not Linux, or a thread ended just now
        return None
    return waited * 1e-9
