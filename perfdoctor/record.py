"""The Run: everything that was measured, and nothing that was concluded.

Whatever the way in, a Run is what comes out of collecting. Times are seconds, sizes are bytes,
one array element per training step unless said otherwise. Not measured is `None`, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from perfdoctor.ending import Ending

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a Run comes from. `kind` is bench, run, monitor, log or trace."""

    kind: str
    command: str | None = None
    path: str | None = None
    format: str | None = None
    framework: str | None = None


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One graphics processor."""

    name: str
    memory_bytes: int | None = None
    capability: str | None = None
    driver: str | None = None


@dataclass(frozen=True, kw_only=True)
class Git:
    """The state of the checkout that the user's code came from."""

    commit: str
    dirty: bool


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The machine and its software. `cores_usable` respects affinity and the cgroup quota."""

    python: str | None = None
    torch: str | None = None
    cuda: str | None = None
    platform: str | None = None
    device: str | None = None
    gpu: tuple[Gpu, ...] = ()
    cpu: str | None = None
    cores_usable: float | None = None
    cores_logical: int | None = None
    memory_bytes: int | None = None
    swap_bytes: int | None = None
    cgroup: dict[str, Any] = field(default_factory=dict)
    hostname_hash: str | None = None
    git: Git | None = None
    packages: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StageSeries:
    """One stage over the steps: seconds, NaN in steps where it did not run.

    `exposed_s` is what the step waited for; `hidden_s` is work behind other work. `mean_s` is the
    mean over all steps since the record before, where a log prints one step of many and an
    average: then only the average tells the share. `between`: it runs between the steps
    (validation, checkpoints) and is no part of `Run.step_s`; then the shares of all stages are
    of the steps and what lies between them.
    """

    name: str
    exposed_s: Floats
    hidden_s: Floats | None = None
    mean_s: Floats | None = None
    between: bool = False


@dataclass(frozen=True, kw_only=True)
class LoaderRecord:
    """What one DataLoader does for a batch, seen from inside its workers (one element a batch).

    Attributes:
        batch_s: fetching and collating one batch.
        collate_s: the collating part of it.
        cpu_s: processor time of the worker's thread in `batch_s`.
        first_batch_s: from `iter(loader)` to the first batch, once per iterator made.
        alone_s: seconds between batches with nothing else running (pass one).
        alone_samples: samples in those batches.
        read_bytes_per_s: bytes read through file calls in pass one, page cache included.
        disk_bytes_per_s: those that came from the disk.
        sample_s: seconds per sample in the dataset, a sample of them over the run.
        idle_share: part of the workers' time in which they wait because the queue is full.
        start_s: from making an iterator until its workers begin to fetch, once per iterator.
        iterators: how many were made.
        create_s: of `start_s`, what `iter(loader)` takes: creating the workers one by one.
        batch_bytes: size of a batch's tensors.
        end_s: waiting for the workers of an iterator to end, once per iterator that had some.
    """

    batch_s: Floats
    collate_s: Floats
    cpu_s: Floats
    first_batch_s: Floats
    alone_s: Floats | None = None
    alone_samples: int | None = None
    read_bytes_per_s: float | None = None
    disk_bytes_per_s: float | None = None
    sample_s: Floats | None = None
    idle_share: float | None = None
    start_s: Floats | None = None
    iterators: int | None = None
    create_s: Floats | None = None
    batch_bytes: int | None = None
    end_s: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A small experiment on captured batches: old time ÷ new time of the stages it `affects`.

    `low` and `high` are its 95 % interval over `pairs` interleaved pairs. `details` holds what
    else was seen (sizes, memory).
    """

    name: str
    speedup: float
    low: float
    high: float
    pairs: int
    affects: tuple[str, ...]
    details: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """An achieved rate beside the peak measured on this machine, in `unit`."""

    name: str
    achieved: float | None
    peak: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Peaks in bytes. `total_bytes` is what there is on the device that trains.

    On the CPU `training_peak_bytes` is of this process and its workers (their proportional set
    size, PSS), on a GPU what its allocator reserved.
    """

    total_bytes: int | None = None
    training_peak_bytes: int | None = None
    inference_peak_bytes: int | None = None
    workers_peak_bytes: int | None = None
    host_used_share: float | None = None
    trend_bytes_per_step: float | None = None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Why measuring ended: precision, budget, iterations or interrupted."""

    stop: str
    target_share: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class SkippedFile:
    """A file of the data that could not be read."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Track:
    """Where each record of a log lies in the training and in the file; one element a record.

    Attributes:
        files: the files read. file: index into them. line: 1-based.
        step: the training step's number, counted over the whole run.
        steps: how many training steps the record stands for.
        at_s: seconds from the run's first record to this one.
    """

    files: tuple[str, ...]
    file: NDArray[np.int32]
    line: NDArray[np.int64]
    step: Floats | None = None
    steps: Floats | None = None
    at_s: Floats | None = None

    @cached_property
    def weights(self) -> Floats | float:
        """`steps`, 1 where they are not known; one number where it is the same for all."""
        if self.steps is None or not self.steps.size:
            return 1.0
        told = self.steps > 0
        known = self.steps if told.all() else np.where(told, self.steps, 1.0)
        return float(known[0]) if (known == known[0]).all() else known


@dataclass(frozen=True, kw_only=True)
class EpochSeries:
    """One element an epoch; NaN where the log does not say.

    Attributes:
        number: as the log counts. time_s: the whole epoch, validation included where the log
            counts it so. train_s, validation_s: its parts. at_s: its end, since the run began.
        metrics: name → value at the end of the epoch. told: the lines that the metrics are from,
            where an observed script printed them; "" where it did not.
    """

    number: Floats
    time_s: Floats
    train_s: Floats | None = None
    validation_s: Floats | None = None
    at_s: Floats | None = None
    line: NDArray[np.int64] | None = None
    metrics: dict[str, Floats] = field(default_factory=dict)
    told: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of the wall clock: a stage, start_up, train, unexplained. `count`: how many times."""

    name: str
    seconds: float
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Hotspot:
    """A line of code and the share of the run's time it accounts for.

    `function` is the user's, `library` what it calls there. `process` is main or worker; the
    share of a worker's line is of the workers' time. `samples`: how often it was seen there.
    `same_each_time`: what is read there is the same for every sample of the data; None where
    nothing is read, or the source does not tell. `drawn_each_time`: what the line gives is drawn at
    random for each sample; None where the source does not tell. `repeated_in_workers`: each worker
    does it for all samples, and only then drops those of the others. `made_anew`: the line runs
    while this is made, "MFCC at train.py:76", for each sample the same ("Resample at train.py:80
    for each rate": for each with that). `same_in`: the outermost function around the line that
    gives the same result in every step; None where none is known.
    `permutes`: what puts all there is into a random order there to take a few, and `permutes_for`
    how many those are, None for as many as a batch has. `weighs`: what goes through the weights of
    all there is to draw a few by them, there or, where `prepares_weights`, at another line of the
    function, for which this one computes them; `weighs_for` how many are drawn, None for as many as
    a batch has. `weighs_same`: what draws there, for each sample of a data set, by weights that
    stay the same. `sorts`: what sorts all there is, to take the first few. `part_taken`: the
    window that alone is used of what the line makes for a sample. `makes`: the class of a
    module of torch that is made there within the steps, `fills` whether the values it is made with
    are overwritten at once. `loops`: those around a line of the validation; `outputs`: whether it
    joins the outputs of its batches, or is of the metrics that go over all of them.
    """

    file: str
    line: int
    function: str
    share: float
    library: str | None = None
    stage: str | None = None
    process: str = "main"
    samples: int | None = None
    same_each_time: bool | None = None
    drawn_each_time: bool | None = None
    repeated_in_workers: bool = False
    made_anew: str | None = None
    same_in: str | None = None
    permutes: str | None = None
    permutes_for: int | None = None
    weighs: str | None = None
    weighs_for: int | None = None
    prepares_weights: bool = False
    weighs_same: str | None = None
    sorts: str | None = None
    part_taken: str | None = None
    makes: str | None = None
    fills: bool = False
    loops: int | None = None
    outputs: Literal["joined", "scored"] | None = None


@dataclass(frozen=True, kw_only=True)
class UnreadLine:
    """A line that should have held a record and could not be read."""

    path: str
    line: int
    text: str


@dataclass(frozen=True, kw_only=True)
class LogFile:
    """What was read of one file.

    Attributes:
        format: its name. reason: why that one. lines: in the file. records: lines that gave
            values. unread: lines that look like records and gave none.
    """

    path: str
    format: str
    reason: str
    lines: int
    records: int
    unread: int = 0
    unread_samples: tuple[UnreadLine, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measured training.

    Attributes:
        name: the model or file that was measured.
        notes: how it was recognised and set up, as sentences.
        configuration: the settings really used.
        step_s: wall time of each step, the sum of its stages.
        samples: samples in each step.
        host_s: the same steps by the host's clock, where the device's clock counts.
        warmup: steps to discard, where the user fixed it; else found from the data.
        first_s: time of the very first step, compilation included; not in `step_s`.
        stages: the overlapped loop. alone: each stage measured by itself.
        epoch_start: True where a step was the first of an epoch.
        block: number of the interleaved block each step belongs to.
        utilisation: samples of hardware use over the run; percentages as 0–100.
        latency_s: inference on one sample, one element a call.
        tokens_per_sample: length of a token sequence, for language models.
        step_cpu_s: processor seconds of this process per step outside loading.
        rates: samples_per_s, tokens_per_s as a log prints them; one element a record.
        mean_step_s: mean over the steps since the record before, see `StageSeries.mean_s`.
        sampled: each element of `step_s` is one step, of which a log prints one in `track.steps`,
            and not their mean.
        track: where the records of a log lie. Only from logs, as are all that follow.
        epochs: the epochs a log tells of. spans: its wall clock in parts. wall_s: all of it.
        started_at: seconds since 1970, where the log has dates.
        ranks: how many processes wrote it. restarts: indices of records after which steps repeat.
        logs: the files it was read from.
        finished: the log says itself that the training has ended.
        trend_of: the records of the training that takes longest (first, last + 1), where a script
            trains one model after another, or more of one later. longest: the same where it takes
            most of the time, and is told alone.
        hotspots: lines of code and their shares, where the script was observed. ending: how that
            script ended.
        counters: totals of events over what was measured, units in their names: pauses for garbage
            (`gc_pause_s`), graphs compiled anew (`recompiles`), the import of torch
            (`import_torch_s`), and what a trace counts.
    """

    name: str
    source: Source
    environment: Environment
    configuration: dict[str, Any]
    step_s: Floats
    samples: Floats
    stages: tuple[StageSeries, ...]
    epoch_start: Bools
    notes: tuple[str, ...] = ()
    block: NDArray[np.int64] | None = None
    host_s: Floats | None = None
    warmup: int | None = None
    first_s: float | None = None
    alone: tuple[StageSeries, ...] = ()
    steps_per_epoch: int | None = None
    loader: LoaderRecord | None = None
    probes: tuple[Probe, ...] = ()
    limits: tuple[Limit, ...] = ()
    memory: Memory = Memory()
    utilisation: dict[str, Floats] = field(default_factory=dict)
    latency_s: Floats | None = None
    step_cpu_s: float | None = None
    tokens_per_sample: float | None = None
    sampling: Sampling | None = None
    skipped: tuple[SkippedFile, ...] = ()
    warnings: tuple[str, ...] = ()
    rates: dict[str, Floats] = field(default_factory=dict)
    mean_step_s: Floats | None = None
    sampled: bool = False
    track: Track | None = None
    epochs: EpochSeries | None = None
    spans: tuple[Span, ...] = ()
    wall_s: float | None = None
    started_at: float | None = None
    ranks: int = 1
    restarts: tuple[int, ...] = ()
    logs: tuple[LogFile, ...] = ()
    finished: bool = False
    trend_of: tuple[int, int] | None = None
    longest: tuple[int, int] | None = None
    hotspots: tuple[Hotspot, ...] = ()
    ending: Ending | None = None
    counters: dict[str, float] = field(default_factory=dict)
