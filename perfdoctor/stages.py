"""The stages of a training step, and the timeline that attributes every moment to one of them.

The timeline is a list of marks. Each mark says which stage begins there; the time from one mark
to the next belongs to that stage and to no other. So nested stages are never counted twice and
the stages of a step add up to the step by construction.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

DATA_LOADING = "data_loading"
H2D_COPY = "h2d_copy"
FORWARD = "forward"
LOSS = "loss"
BACKWARD = "backward"
OPTIMIZER = "optimizer"
ARCH_STEP = "arch_step"
OTHER = "other"

#: Every stage name that has a fixed meaning, in the order in which they are shown.
STAGES = (
    DATA_LOADING,
    H2D_COPY,
    FORWARD,
    LOSS,
    BACKWARD,
    OPTIMIZER,
    ARCH_STEP,
    "communication",
    "validation",
    "checkpoint",
    "logging",
    "metrics",
    OTHER,
)

#: Not a stage: perfdoctor's own work between steps, which belongs to no step.
PAUSED = "(paused)"

_STEP = "(step)"


def in_order(names: Iterator[str] | list[str] | set[str]) -> list[str]:
    """Fixed stages in their order, then the user's own by name, then `other`."""
    rank = {name: index for index, name in enumerate(STAGES[:-1])}
    return sorted(names, key=lambda name: (name == OTHER, rank.get(name, len(rank)), name))


class Clock(Protocol):
    """Where marks get their time from. A mark is opaque; only the clock can compare two."""

    def now(self) -> Any:
        """A mark for this moment (on a GPU: for the moment its queue reaches this point)."""

    def seconds(self, start: Any, end: Any) -> float | None:
        """Seconds from one mark to another; None while the device has not reached `end`."""

    def host_seconds(self, start: Any, end: Any) -> float:
        """The same interval as the host's clock saw it."""


class HostClock:
    """`time.perf_counter_ns`; right wherever work is finished when the call returns."""

    def now(self) -> int:
        """Nanoseconds of the monotonic clock."""
        return time.perf_counter_ns()

    def seconds(self, start: int, end: int) -> float:
        """Seconds between two marks."""
        return (end - start) * 1e-9

    host_seconds = seconds


@dataclass(frozen=True)
class StepTimes:
    """One step: seconds per stage on the clock that counts (`exposed_s`) and on the host's."""

    exposed_s: dict[str, float]
    host_s: dict[str, float]

    @property
    def total_s(self) -> float:
        """Wall time of the step; the sum of its stages."""
        return sum(self.exposed_s.values())


class StageTimeline:
    """Collects marks in one thread and turns them into `StepTimes`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stack = [OTHER]
        self._marks: list[tuple[str, Any]] = []
        self._owner = (os.getpid(), threading.get_ident())

    def begin_step(self) -> None:
        """The last step, if there was one, ends here and the next begins."""
        self._marks.append((_STEP, self._clock.now()))

    @property
    def in_step(self) -> bool:
        """Whether a step has begun."""
        return bool(self._marks)

    def enter(self, stage: str) -> None:
        """`stage` begins; what ran until now is interrupted."""
        self._stack.append(stage)
        self._marks.append((stage, self._clock.now()))

    def leave(self) -> None:
        """The innermost stage ends; the one around it goes on.

        A stage that outlives the step it began in (in a generator, say) has been forgotten.
        """
        if len(self._stack) > 1:
            self._stack.pop()
        self._marks.append((self._stack[-1], self._clock.now()))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """`enter` and `leave` around a block."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def is_current(self) -> bool:
        """Whether the caller runs in the process and thread that this timeline watches."""
        return self._owner == (os.getpid(), threading.get_ident())

    def drain(self) -> list[StepTimes]:
        """Every finished step whose times are known; forgets their marks."""
        steps: list[StepTimes] = []
        begin = 0
        for index, (name, _) in enumerate(self._marks):
            if index and name == _STEP:
                step = self._resolve(begin, index)
                if step is None:
                    break
                steps.append(step)
                begin = index
        del self._marks[:begin]
        return steps

    def restart(self) -> None:
        """Forgets the unfinished step; the next `begin_step` starts afresh."""
        self._marks.clear()
        del self._stack[1:]

    def _resolve(self, begin: int, end: int) -> StepTimes | None:
        exposed: dict[str, float] = {}
        host: dict[str, float] = {}
        for (name, start), (_, stop) in pairwise(self._marks[begin : end + 1]):
            seconds = self._clock.seconds(start, stop)
            if seconds is None:
                return None
            if name == PAUSED:
                continue
            stage = OTHER if name == _STEP else name
            exposed[stage] = exposed.get(stage, 0.0) + seconds
            host[stage] = host.get(stage, 0.0) + self._clock.host_seconds(start, stop)
        exposed.setdefault(OTHER, 0.0)
        host.setdefault(OTHER, 0.0)
        return StepTimes(exposed, host)


class Staged(Protocol):
    """Who wants to know of the user's own stages."""

    def enter(self, stage: str) -> None:
        """`stage` begins."""

    def leave(self) -> None:
        """The innermost stage ends."""

    def is_current(self) -> bool:
        """Whether the caller runs in the process and thread that is watched."""


_active: Staged | None = None


def activate(staged: Staged | None) -> None:
    """From now on `stage()` reports to `staged`."""
    global _active
    _active = staged


@contextmanager
def activated(timeline: StageTimeline) -> Iterator[StageTimeline]:
    """Makes `timeline` the one that `stage()` reports to."""
    global _active
    before, _active = _active, timeline
    try:
        yield timeline
    finally:
        _active = before


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Names a part of the training step: `with perfdoctor.stage("graph_build"): ...`.

    The block appears as a stage of its own beside `forward`, `backward` and the rest, and its
    time is taken out of the stage around it. Costs nothing when nobody measures. In a dataset it
    is part of `data_loading`; made by a DataLoader worker it is shown as hidden work of its own,
    since the training loop does not wait for it directly.
    """
    timeline = _active
    if timeline is None or not timeline.is_current():
        yield
        return
    timeline.enter(name)
    try:
        yield
    finally:
        timeline.leave()
