"""The Report: what a Run amounts to. Every renderer takes one, and schema.py writes it as JSON.

Seconds end in `_s`, bytes in `_bytes`, shares are 0–1. `None` means not measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from perfdoctor.ending import Ending
from perfdoctor.record import (
    Environment,
    Hotspot,
    Limit,
    LogFile,
    Probe,
    Sampling,
    SkippedFile,
    Source,
)

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
    """The training steps. `first_s` is the very first one, compilation included."""

    count: int
    warmup_discarded: int
    time: Stat
    first_s: float | None = None
    host: Stat | None = None
    cpu_s: float | None = None


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
        at_epoch_start: whether nearly all of them are first in an epoch.
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
    `iterators`, `create` what of it creating them one by one takes, `idle_share` the part of the
    workers' time in which the queue is full.
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


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One number that a finding rests on."""

    metric: str
    value: float
    unit: str
    threshold: float | None = None
    where: str | None = None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """New ÷ old throughput of the whole training, from `model`, with its interval.

    Where only an upper bound is known, `high` is that and `speedup` a cautious value below it.
    """

    speedup: float
    low: float
    high: float
    model: str

    @property
    def is_bound(self) -> bool:
        """Whether only an upper bound is known, as the model's name then says."""
        return self.model.endswith("bound")


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Throughput and peak memory at one batch size; `error`: why there is neither."""

    batch_size: int
    samples_per_s: float | None = None
    peak_bytes: int | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A change that was made and measured both ways.

    Attributes:
        outcome: verified, refuted, inconclusive or not_testable; `reason` why.
        speedup, low, high: new ÷ old throughput with its 90 % interval, from so many `pairs`.
        loss_parity: whether the losses of the first steps stayed the same.
        experiment: its name. change: what was changed.
        compile_s: time of compiling; `pays_back_steps` is after how many steps it is worth it.
        peak_bytes_before, peak_bytes_after: peak memory without and with the change.
        seconds: that the trial took. curve: further batch sizes, where that was the change.
    """

    outcome: str
    speedup: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    loss_parity: str | None = None
    experiment: str | None = None
    change: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    compile_s: float | None = None
    pays_back_steps: int | None = None
    peak_bytes_before: int | None = None
    peak_bytes_after: int | None = None
    seconds: float | None = None
    curve: tuple[CurvePoint, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verification:
    """All trials of one run of `--verify`.

    Attributes:
        control: nothing changed, measured like a change.
        foreign_cpu_share: of all cores, what other programs used meanwhile; None: not told.
        together: all verified changes at once; `alone_product` is the product of their gains.
        ceilings: experiments that show what a stage could bring at most.
        patch: code with the verified changes; environment: variables; profile: the same as
            settings of a project.
        scored: recommendations with a prediction and a trial that tells a gain;
            `within_interval` of them fell into the predicted interval, and `error` is the median
            of |log(measured ÷ predicted)|.
    """

    budget_s: float
    spent_s: float
    control: Trial | None = None
    foreign_cpu_share: float | None = None
    together: Trial | None = None
    alone_product: float | None = None
    ceilings: dict[str, Trial] = field(default_factory=dict)
    patch: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    profile: str = ""
    scored: int = 0
    within_interval: int = 0
    error: float | None = None
    interrupted: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a rule saw, with the change it advises.

    Attributes:
        title: the fault, in one line. advice: the change, in one or two sentences.
        change: the same change for programs, e.g. {"num_workers": 2}.
        snippet: code to paste.
        cause: findings of one cause are merged into one recommendation.
        confidence: 0–1, that the finding is real and the change helps.
        effort: flag, lines or redesign. safety: exact, numerics or semantics.
        optional: not a fault; room for more on a healthy run.
    """

    stage: str
    title: str
    advice: str
    change: dict[str, Any]
    snippet: str
    evidence: tuple[Evidence, ...]
    cause: str
    predicted: Prediction | None = None
    confidence: float = 0.8
    effort: str = "flag"
    safety: str = "exact"
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Another way to mend the same cause, next best."""

    rule: str
    name: str
    advice: str
    snippet: str
    predicted: Prediction | None = None


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """A finding, ranked, with the rule it came from and the other choices for its cause.

    `unpredicted`: why there is no prediction, where there is none.
    """

    rank: int
    rule: str
    name: str
    title: str
    stage: str
    advice: str
    change: dict[str, Any]
    snippet: str
    evidence: tuple[Evidence, ...]
    effort: str
    safety: str
    confidence: float
    optional: bool = False
    predicted: Prediction | None = None
    verified: Trial | None = None
    choices: tuple[Choice, ...] = ()
    unpredicted: str | None = None


@dataclass(frozen=True, kw_only=True)
class Together:
    """What several recommendations bring at once, as `Prediction`; the model's own prediction.

    `rules`: whose recommendations. `product` of what each of them brings alone, to compare.
    """

    speedup: float
    low: float
    high: float
    model: str
    rules: tuple[str, ...]
    product: float


@dataclass(frozen=True, kw_only=True)
class Abstained:
    """A rule that could not decide, what it would have needed, and the command to measure that.

    `measure_with` is for reports of logs, which lack what was not printed. `reason`: why what is
    there does not do.
    """

    rule: str
    missing: str
    measure_with: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The verdict in one word and one sentence. `bottleneck` is a stage, or none.

    `of`: what `share` is a part of: step, or run.
    """

    verdict: str
    bottleneck: str
    share: float
    confidence: float
    summary: str
    of: str = "step"


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


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Configurations measured in interleaved blocks. `best` lists those not beaten by any other.

    `notes`: what to know of how runs that were logged are compared.
    """

    varied: tuple[str, ...]
    rows: tuple[ComparedConfiguration, ...]
    best: tuple[int, ...]
    notes: tuple[str, ...] = ()


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


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that perfdoctor says about one training."""

    schema_version: int
    tool: dict[str, str]
    created_at: str
    name: str
    source: Source
    environment: Environment
    configuration: dict[str, Any]
    steps: Steps | None
    stages: dict[str, StageStat]
    throughput: Throughput | None
    notes: tuple[str, ...] = ()
    epochs: Epochs | None = None
    alone: dict[str, Stat] = field(default_factory=dict)
    loader: Loader | None = None
    inference: Stat | None = None
    utilisation: dict[str, Usage] = field(default_factory=dict)
    memory: MemoryUse = MemoryUse()
    limits: dict[str, Limit] = field(default_factory=dict)
    probes: dict[str, Probe] = field(default_factory=dict)
    sampling: Sampling | None = None
    hotspots: tuple[Hotspot, ...] = ()
    diagnosis: Diagnosis | None = None
    recommendations: tuple[Recommendation, ...] = ()
    together: Together | None = None
    abstained: tuple[Abstained, ...] = ()
    comparison: Comparison | None = None
    skipped: tuple[SkippedFile, ...] = ()
    warnings: tuple[str, ...] = ()
    series: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    stalls: Stalls | None = None
    wall: Wall | None = None
    forecast: Forecast | None = None
    ranks: int = 1
    rank_table: tuple[RankRow, ...] = ()
    rank_skew: RankSkew | None = None
    restarts: tuple[int, ...] = ()
    logs: tuple[LogFile, ...] = ()
    ending: Ending | None = None
    counters: dict[str, float] = field(default_factory=dict)
    verification: Verification | None = None
