"""The clocks of the loops: the wall's, and one that need not wait."""

from __future__ import annotations

import time
from datetime import datetime, timedelta


class Clock:
    """Seconds of the wall since `restart`, and dates as if the run had begun at `start`."""

    def __init__(self, start: str = "2024-03-04 09:00:00") -> None:
        self._start = datetime.fromisoformat(start)
        self.restart()

    def restart(self) -> None:
        """It is `start` now."""
        self._zero = time.perf_counter()

    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self._zero

    def now(self) -> datetime:
        """The date and time that the run sees."""
        return self._start + timedelta(seconds=self.seconds())

    def sleep(self, seconds: float) -> None:
        """Wait; at least this long."""
        time.sleep(max(seconds, 0.0))


class FastClock(Clock):
    """Waits pass at once, and the rest is the CPU time of this process.

    So a run of hours takes seconds, and other programs on the machine do not disturb what was
    planted in it. `pace` seconds are really waited for each second, where processes run abreast.
    """

    def __init__(self, start: str = "2024-03-04 09:00:00", pace: float = 0.0) -> None:
        self._pace = pace
        super().__init__(start)

    def restart(self) -> None:
        """It is `start` now."""
        self._waited = 0.0
        self._zero = time.process_time()

    def seconds(self) -> float:
        """Waited and computed since the start."""
        return self._waited + time.process_time() - self._zero

    def sleep(self, seconds: float) -> None:
        """Let the clock run on."""
        self._waited += max(seconds, 0.0)
        time.sleep(max(seconds, 0.0) * self._pace)


def hms(seconds: float) -> str:
    """As `str(timedelta)`: 0:01:23."""
    return str(timedelta(seconds=int(seconds)))
