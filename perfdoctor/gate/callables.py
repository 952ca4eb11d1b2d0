"""A session of any callable, within this process: for tests."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from perfdoctor.errors import PerfdoctorError
from perfdoctor.gate import calibration
from perfdoctor.gate.baseline_file import Session
from perfdoctor.gate.sessions import FEWEST, Process, session_of

#: The calls of a session are made in so many blocks, of at least so many calls.
BLOCKS, FEWEST_CALLS = 10, 5
#: A block of very short calls is made so long.
_BLOCK_S = 0.05
_WARM_UP_S = 0.2


@dataclass(frozen=True)
class Timing:
    """A session and what people read of it: seconds of a call, and how many were made."""

    session: Session
    call_s: float
    calls: int


def measure_callable(
    work: Callable[[], object], max_seconds: float, clock: Callable[[], float] = time.perf_counter
) -> Timing:
    """Calls it over and over.

    What it queues on a GPU is waited for. Blocks of one process resemble each other: how much
    code that has not changed differs is told by the sessions of other runs.

    Raises:
        PerfdoctorError: it takes so long that there is no time for the fewest calls.
    """
    before, usage = calibration.measure(), calibration.Usage.now()
    once_s = _warm(work, clock)
    calls = max(FEWEST_CALLS, round(_BLOCK_S / max(once_s, 1e-9)))
    if FEWEST * FEWEST_CALLS * once_s > max_seconds:
        raise PerfdoctorError(
            f"one call takes {once_s:.3g} s: {FEWEST * FEWEST_CALLS} of them do not fit into "
            f"{max_seconds:g} s; give max_seconds",
            slug="call-too-long",
        )
    calls = min(calls, max(FEWEST_CALLS, int(max_seconds / BLOCKS / max(once_s, 1e-9))))
    blocks: list[tuple[float, ...]] = []
    end = clock() + max_seconds
    while len(blocks) < BLOCKS and (len(blocks) < FEWEST or clock() < end):
        blocks.append(_block(work, calls, clock))
    foreign = usage.foreign_share(calibration.Usage.now())
    processes = [Process({"step:p25": _quartile(b), "step:p50": float(np.median(b))}, b)
                 for b in blocks]  # fmt: skip
    session = session_of(processes, before, calibration.measure(), foreign)
    typical = math.exp(float(np.mean([math.log(p.values["step:p25"]) for p in processes])))
    return Timing(session, typical, calls * len(blocks))


def _warm(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Calls it for a while; the shortest call's seconds."""
    end, shortest = clock() + _WARM_UP_S, math.inf
    while True:
        start = clock()
        work()
        _wait_for_device()
        now = clock()
        shortest = min(shortest, now - start)
        if now >= end:
            return shortest


def _block(work: Callable[[], object], calls: int, clock: Callable[[], float]) -> tuple[float, ...]:
    taken = []
    for _ in range(calls):
        _wait_for_device()
        start = clock()
        work()
        _wait_for_device()
        taken.append(max(clock() - start, 1e-9))
    return tuple(taken)


def _quartile(block: tuple[float, ...]) -> float:
    return float(np.quantile(block, 0.25))


def _wait_for_device() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
