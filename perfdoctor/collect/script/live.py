"""The run as it is now, for whoever shows it while it lasts. Read in the sampling thread."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.step_rows import MOST_LABELS, SAMPLES, WIDTH
from perfdoctor.live_view import LiveStage, LiveView
from perfdoctor.stages import in_order

_START_UP = "start_up"
#: What is not part of steps, as in `assembly`, which may not be imported here: it needs numpy.
_OUTSIDE = (_START_UP, "validation", "checkpoint", "unexplained")
#: How often the view is asked for.
PERIOD_S = 1.0
#: "Recent" is so long (rounded, ten: views are a second apart), or as long as the last step.
_RECENT_S = 9.5
#: Moments kept, at one a second: "recent" is never longer.
_MOST_MOMENTS = 128
#: Ends of steps kept, for the median of the recent ones; however slow steps are, so many count.
_MOST_ENDS, _FEWEST_ENDS = 128, 4
#: On a device the unfinished step is known from the host alone, whose queue runs ahead: it counts
#: only where it lasts so long that it is something else, a validation say.
_LONG_NS = 2_000_000_000
#: Values in the course of the throughput; past these, two become one.
_MOST_RATES = 32
#: Width of a bin of step times: the median is as exact.
_BIN = math.log(1.005)


class Live(Protocol):
    """Who shows it."""

    def show(self, view: LiveView | None) -> None:
        """The run as it is now; None before its first step. In another thread than `close`."""

    def close(self) -> None:
        """Nothing more is shown, and what was is taken away. May be asked more than once."""


@dataclass(frozen=True)
class _Moment:
    """Nanoseconds per label, samples and epochs until then; `spent` with the unfinished step."""

    at_s: float
    steps: int
    totals: list[int]
    spent: list[int]


@dataclass
class StepTimes:
    """The median of any number of step times, within half a per cent, in bounded memory."""

    weights: dict[int, float] = field(default_factory=dict)

    def add(self, seconds: float, weight: float) -> None:
        """So many steps of this time."""
        if seconds > 0:
            index = math.floor(math.log(seconds) / _BIN)
            self.weights[index] = self.weights.get(index, 0.0) + weight

    def median(self) -> float | None:
        """Seconds; None without steps."""
        half = sum(self.weights.values()) / 2
        for index in sorted(self.weights):
            half -= self.weights[index]
            if half <= 0:
                return math.exp((index + 0.5) * _BIN)
        return None


@dataclass
class Course:
    """The throughput over the run, in at most `most` stretches of equal length."""

    most: int = _MOST_RATES
    length_s: float = PERIOD_S
    stretches: list[tuple[float, float]] = field(default_factory=list)

    def add(self, samples: float, seconds: float) -> None:
        """What was trained since the last time, and the steps' time."""
        if seconds <= 0:
            return
        if not self.stretches or self.stretches[-1][1] >= self.length_s:
            if len(self.stretches) == self.most:
                halves = zip(self.stretches[::2], self.stretches[1::2], strict=True)
                self.stretches = [(a[0] + b[0], a[1] + b[1]) for a, b in halves]
                self.length_s *= 2
            self.stretches.append((0.0, 0.0))
        before = self.stretches[-1]
        self.stretches[-1] = before[0] + samples, before[1] + seconds

    def rates(self) -> tuple[float, ...]:
        """Samples per second, oldest first; the last stretch as far as it has come."""
        return tuple(samples / seconds for samples, seconds in self.stretches)


class LiveWatch:
    """Tells how the run is now, from the recorder's sums.

    Args:
        name: what runs.
        stage_of: the stage of each label.
        machine: the newest sample of each counter.
        clock: seconds.
    """

    def __init__(
        self,
        name: str,
        recorder: Recorder,
        *,
        stage_of: Callable[[], Sequence[str]],
        machine: Callable[[], Mapping[str, float]] = dict,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._name = name
        self._recorder = recorder
        self._stage_of, self._machine = stage_of, machine
        self._clock = clock
        self._began_s = clock()
        self._ends: deque[float] = deque(maxlen=_MOST_ENDS)
        nothing = [0] * WIDTH
        self._moments = deque([_Moment(self._began_s, 0, nothing, nothing)], maxlen=_MOST_MOMENTS)
        self._times, self._course = StepTimes(), Course()

    def stepped(self) -> None:
        """A step has ended; the one call on the training's way."""
        self._ends.append(self._clock())

    def view(self) -> LiveView | None:
        """The run now; None before the first step."""
        if not self._recorder.steps.steps:
            return None
        last, now = self._moments[-1], self._now()
        self._moments.append(now)
        base, stages = self._base(now), self._stage_of()
        recent, whole = _seconds(base, now, stages), _seconds(self._zero, now, stages)
        recent.pop(_START_UP, None)
        within = [i for i, name in enumerate(stages) if name not in _OUTSIDE]
        self._course.add(*_trained(last, now, within))
        recent_step_s = self._step_times(last, now, base)
        return LiveView(
            name=self._name,
            elapsed_s=now.at_s - self._began_s,
            steps=now.steps,
            recent_s=sum(recent.values()),
            stages=_stages(recent, whole),
            recent_step_s=recent_step_s,
            whole_step_s=self._times.median(),
            recent_rate=_rate(base, now, within),
            whole_rate=_rate(self._zero, now, within),
            rates=self._course.rates(),
            machine=self._machine(),
        )

    @property
    def _zero(self) -> _Moment:
        return _Moment(self._began_s, 0, [0] * WIDTH, [0] * WIDTH)

    def _now(self) -> _Moment:
        """Sums of the main thread, read while it runs: at worst one interval counts twice or
        never, and only until the next time."""
        unfinished, totals = self._recorder.unfinished(), list(self._recorder.totals)
        if self._recorder.on_device and sum(unfinished[:MOST_LABELS]) < _LONG_NS:
            unfinished = [0] * WIDTH
        spent = [a + b for a, b in zip(totals, unfinished, strict=True)]
        return _Moment(self._clock(), self._recorder.steps.steps, totals, spent)

    def _base(self, now: _Moment) -> _Moment:
        """When "recent" began: long enough ago, and at least one step."""
        moments = self._moments
        while now.at_s - moments[1].at_s >= _RECENT_S and moments[1].steps < now.steps:
            moments.popleft()
        return moments[0]

    def _step_times(self, last: _Moment, now: _Moment, base: _Moment) -> float | None:
        """The median of the recent steps; the new ones are added to those of the whole run."""
        ends = list(self._ends)
        made = now.steps - last.steps
        steps = [b - a for a, b in pairwise(ends)]
        new = steps[-made:] if made > 0 else []
        for step_s in new:
            self._times.add(step_s, made / len(new))
        recent = sum(end >= base.at_s for end in ends)
        counted = sorted(steps[-max(recent, _FEWEST_ENDS) :])
        return counted[len(counted) // 2] if counted else None


def _seconds(start: _Moment, end: _Moment, stage_of: Sequence[str]) -> dict[str, float]:
    """Seconds of each stage between two moments, of those that took any."""
    seconds: dict[str, float] = {}
    for label, stage in enumerate(stage_of):
        spent = end.spent[label] - start.spent[label]
        if spent > 0:
            seconds[stage] = seconds.get(stage, 0.0) + spent * 1e-9
    return seconds


def _stages(recent: Mapping[str, float], whole: Mapping[str, float]) -> tuple[LiveStage, ...]:
    all_recent, all_whole = sum(recent.values()) or 1.0, sum(whole.values()) or 1.0
    names = [n for n in (_START_UP,) if n in whole] + in_order(set(whole) - {_START_UP})
    return tuple(LiveStage(n, recent.get(n, 0.0) / all_recent, whole[n] / all_whole) for n in names)


def _trained(start: _Moment, end: _Moment, within: Sequence[int]) -> tuple[float, float]:
    """Samples of the steps that ended between, and the seconds of these steps."""
    nanoseconds = sum(end.totals[i] - start.totals[i] for i in within)
    return end.totals[SAMPLES] - start.totals[SAMPLES], nanoseconds * 1e-9


def _rate(start: _Moment, end: _Moment, within: Sequence[int]) -> float | None:
    samples, seconds = _trained(start, end, within)
    return samples / seconds if samples > 0 and seconds > 0 else None
