"""What was measured, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Stat:
    """A series in numbers. Intervals are 95 %; absent where there are too few samples."""

    count: int
    total_s: float
    mean_s: float
    std_s: float
    min_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    max_s: float
    p50_ci: Interval | None = None
    p95_ci: Interval | None = None
    p99_ci: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class StageStat(Stat):
    """One stage of the overlapped loop.

    Attributes:
        share: part of the wall time of all steps; the shares of all stages add up to 1.
        hidden_s: median time per step of this stage's work done behind other work.
        calls_per_step: part of the steps in which it ran.
        between: whether it runs between the steps and is no part of their time.
    """

    share: float
    hidden_s: float | None = None
    calls_per_step: float = 1.0
    between: bool = False


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The training steps. `first_s` is the very first one, compilation included.

    Attributes:
        warmup_discarded: steps before those that count, of which `before_training` are of models
            that the script trained before this one.
        share: the part of all steps' time that is this training's, where there are several.
    """

    count: int
    warmup_discarded: int
    time: Stat
    first_s: float | None = None
    host: Stat | None = None
    cpu_s: float | None = None
    before_training: int = 0
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Economics:
    """What the epochs brought for their time.

    Attributes:
        metric: its name; `lower_is_better` as the name tells.
        best, best_epoch: its best value and where. target_epoch: where it first came within 0.1 %
            of the best (relative to the whole improvement).
        after_best_s: time of the epochs after the best one; `after_best_share` of all epochs.
        saved_s: what early stopping with `patience` epochs would have saved. The patience is
            long enough for the best epoch to be reached.
        target: the value that the configuration asks for; then `target_epoch` is where it was
            reached.
        best_told: the line that tells the best value, as an observed script printed it.
    """

    metric: str
    lower_is_better: bool
    best: float
    best_epoch: float
    after_best_s: float | None = None
    after_best_share: float | None = None
    patience: int | None = None
    saved_s: float | None = None
    target_epoch: float | None = None
    target: float | None = None
    best_told: str | None = None


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """When an unfinished run would end, with the 95 % interval of the time left.

    `unit` is what `steps_left` counts: step, or epoch where a log tells of no steps.
    `training_only`: the log does not tell what is done between the steps, so that is not counted.
    """

    steps_left: float
    left_s: float
    low_s: float
    high_s: float
    unit: str = "step"
    training_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Epochs:
    """Epochs seen. `start` is the wait for the first batch after making an iterator.

    `time` is of whole epochs, `validation` of the validation in each.
    """

    count: int
    steps_per_epoch: int | None = None
    start: Stat | None = None
    time: Stat | None = None
    validation: Stat | None = None
    economics: Economics | None = None


@dataclass(frozen=True, kw_only=True)
class ChangePoint:
    """Where the speed changed for good: the record's index, its step and its place in the log.

    `before` and `after` are median rates on both sides in the trend's unit, `p` the significance.
    `step_before` is the step of the last record at the old speed.
    """

    index: int
    before: float
    after: float
    p: float
    step: float | None = None
    step_before: float | None = None
    at_s: float | None = None
    where: str | None = None


@dataclass(frozen=True, kw_only=True)
class Stalls:
    """Steps much slower than the rest.

    Attributes:
        count: how many. excess_s: median time each takes more than a usual step.
        share: of the time of all steps that they take more than usual steps.
        period_steps: where they come at regular distances.
        at_epoch_start: whether nearly all of that time is in steps that are first in an epoch.
    """

    count: int
    excess_s: float
    share: float
    period_steps: float | None = None
    at_epoch_start: bool = False


@dataclass(frozen=True, kw_only=True)
class Trend:
    """The rate at the start and the end of the run, in `unit`; `shape` as in the contract."""

    first: float
    last: float
    change: float
    shape: str
    change_points: tuple[ChangePoint, ...] = ()
    unit: str = "samples/s"


@dataclass(frozen=True, kw_only=True)
class WallPart:
    """A part of the wall clock; `count` times."""

    name: str
    seconds: float
    share: float
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Wall:
    """All of the wall clock, from the first to the last thing that was seen."""

    total_s: float
    parts: tuple[WallPart, ...]
    started_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Rates over all steps after warm-up, stalls included; medians over the records of a log."""

    samples_per_s: float | None = None
    steps_per_s: float | None = None
    samples_per_s_ci: Interval | None = None
    tokens_per_s: float | None = None
    trend: Trend | None = None
    median_samples_per_s: float | None = None
    median_tokens_per_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Loader:
    """The DataLoader by itself. `batch` is one worker's time for one batch.

    `sample` is the dataset's time for one sample, `start` the start of the workers for each of
    `iterators`, `create` what of it creating them one by one takes, `end` waiting for them to end,
    `idle_share` the part of the workers' time in which the queue is full.
    """

    batch: Stat
    collate: Stat
    batch_cpu_s: float
    capacity_samples_per_s: float | None = None
    read_bytes_per_s: float | None = None
    disk_bytes_per_s: float | None = None
    sample: Stat | None = None
    idle_share: float | None = None
    start: Stat | None = None
    iterators: int | None = None
    create: Stat | None = None
    batch_bytes: int | None = None
    end: Stat | None = None


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """Peaks in bytes; `peak_share` is of `total_bytes`."""

    peak_bytes: int | None = None
    peak_share: float | None = None
    inference_peak_bytes: int | None = None
    workers_peak_bytes: int | None = None
    total_bytes: int | None = None
    host_used_share: float | None = None
    trend_bytes_per_step: float | None = None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """A hardware counter over the run, from `count` samples; percentages as 0–100."""

    mean: float
    p50: float
    p95: float
    count: int | None = None
