"""How long the overlapped loop goes on, and driving it that long."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from perfdoctor.collect.options import BenchOptions, Progress
from perfdoctor.collect.training import TrainingLoop
from perfdoctor.record import Floats, Sampling
from perfdoctor.stats import median_half_width, warmup_length

#: The step's median must be known this well, as half the width of its 95 % interval.
TARGET_SHARE = 0.02
#: Even where the median is known sooner: hardware counters and rare waits need some time.
_MIN_SECONDS = 3.0
_MIN_STEPS = 30
#: Steps between two looks at the clock take about this long.
_CHUNK_S = 0.5
_MAX_CHUNK = 2_000


@dataclass(frozen=True)
class StopRule:
    """When enough has been sampled. `budget_s` counts from `started_s` on the monotonic clock.

    `turn_lengths` are the cycles in which steps may repeat: workers, architecture steps.
    """

    options: BenchOptions
    budget_s: float
    started_s: float
    turn_lengths: tuple[int, ...] = ()

    def elapsed_s(self) -> float:
        """Seconds since sampling began."""
        return time.perf_counter() - self.started_s

    @property
    def deadline_s(self) -> float | None:
        """When the budget ends, on the monotonic clock; None where the steps are counted."""
        return None if self.options.iterations is not None else self.started_s + self.budget_s

    def progress(self, steps: int) -> tuple[float, float]:
        """(done, total), in steps where their number is fixed, else in seconds."""
        if self.options.iterations is not None:
            total = self.options.iterations + (self.options.warmup or 0)
            return min(steps, total), total
        return min(self.elapsed_s(), self.budget_s), self.budget_s

    def remaining_steps(self, done: int) -> int | None:
        """Steps left where the user fixed their number."""
        if self.options.iterations is None:
            return None
        return self.options.iterations + (self.options.warmup or 0) - done

    def reason(self, step_s: Floats) -> str | None:
        """Why to stop now: precision or budget, or iterations if they are fixed; None to go on."""
        remaining = self.remaining_steps(step_s.size)
        if remaining is not None:
            return "iterations" if remaining <= 0 else None
        if self.elapsed_s() >= self.budget_s:
            return "budget"
        if self.elapsed_s() >= _MIN_SECONDS and self._is_precise(step_s):
            return "precision"
        return None

    def _is_precise(self, step_s: Floats) -> bool:
        fixed = self.options.warmup
        kept = step_s[fixed if fixed is not None else warmup_length(step_s) :]
        if kept.size < _MIN_STEPS:
            return False
        return median_half_width(kept, self.turn_lengths) <= TARGET_SHARE


def sample(loop: TrainingLoop, budget_s: float, progress: Progress) -> Sampling:
    """Steps the loop until its stop rule says why to end.

    Ctrl-C ends it as well, with the steps made so far.

    Raises:
        KeyboardInterrupt: before a single step was made.
    """
    turns = (max(1, loop.num_workers), loop.workload.arch_every)
    rule = StopRule(loop.options, budget_s, time.perf_counter(), turns)
    reason: str | None = None
    try:
        while reason is None:
            loop.run_steps(_chunk(loop, rule), rule.deadline_s)
            loop.pause()
            issued = rule.remaining_steps(len(loop.steps.infos))
            all_made = issued is not None and issued <= 0
            step_s = (loop.finish() if all_made else loop.collect()).step_s()
            reason = rule.reason(step_s) if step_s.size else None
            progress("measuring the training loop", *rule.progress(step_s.size))
            loop.resume()
        loop.finish()
    except KeyboardInterrupt:
        if not loop.abandon().times:
            raise
        reason = "interrupted"
    return Sampling(stop=reason, target_share=TARGET_SHARE, seconds=rule.elapsed_s())


def _chunk(loop: TrainingLoop, rule: StopRule) -> int:
    recent = [step.total_s for step in loop.steps.times[-20:]]
    size = 2 if not recent else int(_CHUNK_S / max(1e-6, float(np.median(recent))))
    size = max(1, min(_MAX_CHUNK, size))
    remaining = rule.remaining_steps(len(loop.steps.infos))
    return size if remaining is None else max(1, min(size, remaining))
