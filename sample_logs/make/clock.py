"""A clock that may run faster than the wall, so that a run of hours fits into seconds."""

from __future__ import annotations

import time
from datetime import datetime, timedelta


class Clock:
    """Seconds and dates as the run sees them: `speed` of them pass in one second of ours."""

    def __init__(self, speed: float = 1.0, start: str = "2024-03-04 09:00:00") -> None:
        self.speed = speed
        self._start = datetime.fromisoformat(start)
        self.restart()

    def restart(self) -> None:
        """It is `start` now."""
        self._zero = time.perf_counter()

    def seconds(self) -> float:
        """Since the start."""
        return (time.perf_counter() - self._zero) * self.speed

    def now(self) -> datetime:
        """The date and time that the run sees."""
        return self._start + timedelta(seconds=self.seconds())

    def sleep(self, seconds: float) -> None:
        """Seconds of this clock."""
        if seconds > 0:
            time.sleep(seconds / self.speed)


def hms(seconds: float) -> str:
    """As `str(timedelta)`: 0:01:23."""
    return str(timedelta(seconds=int(seconds)))
