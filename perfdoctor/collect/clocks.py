"""Where device time comes from."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from perfdoctor.stages import Clock, HostClock

CudaMark = tuple[int, Any]


class CudaClock:
    """Marks are CUDA events on the device's stream, resolved when the device has passed them.

    The time between two events is what the device's queue spent between them, waiting for the
    host included, so intervals of the overlapped loop are exposed times and nothing is ever
    synchronised.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def now(self) -> CudaMark:
        """Records an event; returns at once."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return time.perf_counter_ns(), event

    def seconds(self, start: CudaMark, end: CudaMark) -> float | None:
        """Seconds on the device; None while it has not reached `end`."""
        if not end[1].query():
            return None
        milliseconds: float = start[1].elapsed_time(end[1])
        return milliseconds * 1e-3

    def host_seconds(self, start: CudaMark, end: CudaMark) -> float:
        """Seconds the host took to issue the same work."""
        return (end[0] - start[0]) * 1e-9


def clock_for(device: torch.device) -> Clock:
    """Events on CUDA, the host's clock elsewhere."""
    return CudaClock(device) if device.type == "cuda" else HostClock()


def synchronise(device: torch.device) -> None:
    """Waits until everything queued on `device` is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type != "cpu":
        module = getattr(torch, device.type, None)
        if module is not None and hasattr(module, "synchronize"):
            module.synchronize()


def timed(device: torch.device, work: Callable[[], Any]) -> float:
    """Seconds that `work` takes alone, the device idle before and after."""
    synchronise(device)
    start = time.perf_counter_ns()
    work()
    synchronise(device)
    return (time.perf_counter_ns() - start) * 1e-9
