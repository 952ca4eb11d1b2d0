"""Moments on the clock that counts: the host's, or a device's once that one is used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perfdoctor.collect.script.recorder import Recorder


class Marks:
    """Of one recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def can_time(self, tensors: Iterable[Any]) -> bool:
        """Whether the clock tells when work on these is done: on a GPU the host runs ahead."""
        on_host = all(getattr(tensor, "is_cpu", True) for tensor in tensors)
        return on_host or self._recorder.device_clock is not None

    def now(self) -> Any:
        """To be given to `seconds`."""
        clock = self._recorder.device_clock
        return self._recorder.clock() if clock is None else clock.now()

    def seconds(self, start: Any, end: Any) -> float | None:
        """None while a device has not come so far, or where two clocks met."""
        if isinstance(start, int) and isinstance(end, int):
            return (end - start) * 1e-9
        clock = self._recorder.device_clock
        if clock is None or isinstance(start, int) or isinstance(end, int):
            return None
        return clock.seconds(start, end)
