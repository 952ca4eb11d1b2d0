"""How fast the machine itself is just now: two kernels, and how much others take of it."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import psutil

_REPEAT_S = 0.25
_LOOP = 20_000
_SIZE = 384


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """The shortest of many runs of a loop in Python and of a matrix product.

    Their geometric mean follows the drift of a training's steps with a correlation of 0.93 to
    0.97 on one machine. Across machines it does not.
    """

    python_s: float
    matmul_s: float

    @property
    def log(self) -> float:
        """Logarithm of their geometric mean."""
        return (math.log(self.python_s) + math.log(self.matmul_s)) / 2


def measure() -> Kernels:
    """Half a second's work."""
    matrix = np.random.default_rng(0).random((_SIZE, _SIZE), dtype=np.float32)
    return Kernels(python_s=_shortest(_count), matmul_s=_shortest(lambda: matrix @ matrix))


def _count() -> int:
    total = 0
    for i in range(_LOOP):
        total += i * i
    return total


def _shortest(work: Callable[[], object]) -> float:
    end, shortest = time.perf_counter() + _REPEAT_S, math.inf
    while True:
        start = time.perf_counter()
        work()
        now = time.perf_counter()
        shortest = min(shortest, now - start)
        if now >= end:
            return shortest


@dataclass(frozen=True)
class Usage:
    """Seconds on all processors so far: busy in all, and by this process and its children."""

    at_s: float
    busy_s: float
    own_s: float

    @classmethod
    def now(cls) -> Usage:
        """What the system counts; children count once they have ended."""
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        own = sum(u.ru_utime + u.ru_stime for u in used)
        # guest time is counted in user time as well
        guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        return cls(time.monotonic(), sum(times) - idle - guest, own)

    def foreign_share(self, later: Usage) -> float:
        """Part of the machine that other programs took until `later`."""
        wall = (later.at_s - self.at_s) * (psutil.cpu_count() or 1)
        foreign = (later.busy_s - self.busy_s) - (later.own_s - self.own_s)
        return max(0.0, foreign / wall) if wall > 0 else 0.0
