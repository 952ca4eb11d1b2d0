"""Several configurations, runs or ranks beside each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from perfdoctor.ending import Ending
from perfdoctor.report.numbers import Interval


@dataclass(frozen=True, kw_only=True)
class ComparedConfiguration:
    """One row of a comparison.

    `relative` is its samples/s ÷ the first measured row's, from paired interleaved blocks; for
    logged runs the rate that most of them tell ÷ that of the best. A configuration that failed
    has an `error` and no numbers. `epoch_p50_s`, `steps_per_s`, `verdict` and `best_metric` are
    for runs that were logged. `note`: why it was not compared with the others.
    """

    label: str
    configuration: dict[str, Any]
    samples_per_s: float | None = None
    step_p50_s: float | None = None
    relative: float | None = None
    relative_ci: Interval | None = None
    peak_bytes: int | None = None
    bottleneck: str | None = None
    error: str | None = None
    steps_per_s: float | None = None
    epoch_p50_s: float | None = None
    wall_s: float | None = None
    verdict: str | None = None
    best_metric: float | None = None
    note: str | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Configurations measured in interleaved blocks. `best` lists those not beaten by any other.

    `notes`: what to know of how runs that were logged are compared. `measure`: the rate that
    their `relative` is of: samples/s, tokens/s, steps/s or epochs/h.
    """

    varied: tuple[str, ...]
    rows: tuple[ComparedConfiguration, ...]
    best: tuple[int, ...]
    notes: tuple[str, ...] = ()
    measure: str | None = None


@dataclass(frozen=True, kw_only=True)
class RankRow:
    """One of several processes that train together.

    Attributes:
        own_s: median time of a step outside of waiting for other ranks. wait_s: the median of
            that waiting, an estimate. None where the ranks do not wait for each other.
        between_s: mean time per step of what lies between the steps, such as validation.
        stages: median seconds per step. peak_bytes: its peak of memory.
        ending: how it ended; None where it left no report.
        note: why there is no report, or what else is to know.
    """

    rank: int
    steps: int | None = None
    step_p50_s: float | None = None
    samples_per_s: float | None = None
    own_s: float | None = None
    wait_s: float | None = None
    between_s: float | None = None
    stages: dict[str, float] = field(default_factory=dict)
    peak_bytes: int | None = None
    ending: Ending | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class RankSkew:
    """How unequal the ranks are, from steps (or stretches of them) seen side by side.

    Attributes:
        slowest: the rank with the largest `own_s`; `skew` is how much that is above the median
            rank's (of an even number the faster of the middle two), as a share of the latter.
        slowest_in: part of the stretches in which it was the slowest. stretches: how many.
        stage, stage_excess_s: where it loses most, and how much more that takes each step.
        step_s: mean time of a step, with what lies between; `even_step_s` the same if no rank
            was slower than the median one. speedup: their ratio with its 95 % interval.
        communication_s: mean time per step that even the rank waits in collectives that waits
            least, where nothing hides it.
        between_s: mean time per step that one rank does more between the steps than the median
            one; `between_rank` which, and `between_stage` mostly what.
    """

    slowest: int
    skew: float
    slowest_in: float
    stretches: int
    step_s: float
    even_step_s: float
    speedup: float
    speedup_ci: Interval | None = None
    stage: str | None = None
    stage_excess_s: float | None = None
    communication_s: float | None = None
    between_s: float = 0.0
    between_rank: int | None = None
    between_stage: str | None = None
