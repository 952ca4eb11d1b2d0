"""Clocks that only move when told to: no test sleeps, and none reads the real time."""

from __future__ import annotations


class FakeClock:
    """A host clock; `advance` moves it."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def advance(self, seconds: float) -> None:
        self.time_s += seconds

    def now(self) -> float:
        return self.time_s

    def seconds(self, start: float, end: float) -> float | None:
        return end - start

    def host_seconds(self, start: float, end: float) -> float:
        return end - start


class FakeDeviceClock(FakeClock):
    """A device whose queue lags: `work` is queued at once and runs when the device gets to it.

    A mark holds the host's time and the device's time at which the queue reaches it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.device_s = 0.0
        self.reached_s = 0.0

    def work(self, seconds: float) -> None:
        self.device_s = max(self.device_s, self.time_s) + seconds

    def catch_up(self) -> None:
        self.reached_s = max(self.device_s, self.time_s)

    def now(self) -> tuple[float, float]:  # type: ignore[override]
        self.device_s = max(self.device_s, self.time_s)
        return self.time_s, self.device_s

    def seconds(self, start, end):  # type: ignore[no-untyped-def, override]
        return None if end[1] > self.reached_s else end[1] - start[1]

    def host_seconds(self, start, end):  # type: ignore[no-untyped-def, override]
        return end[0] - start[0]
