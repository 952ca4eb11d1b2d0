"""What was observed of a script, in the shape of a Run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.loaders_seen import label_roles
from perfdoctor.collect.script.observer import Observer
from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.step_rows import EPOCH, MOST_LABELS, SAMPLES, Rows
from perfdoctor.ending import Ending
from perfdoctor.record import (
    Bools,
    Environment,
    EpochSeries,
    Floats,
    Hotspot,
    LoaderRecord,
    Memory,
    Run,
    Source,
    Span,
    StageSeries,
    Track,
)
from perfdoctor.stages import DATA_LOADING, OTHER, in_order

START_UP, SHUT_DOWN = "start_up", "shut_down"
VALIDATION, CHECKPOINT, UNEXPLAINED = "validation", "checkpoint", "unexplained"
#: What runs between the steps, and would make the one after it look slow.
BETWEEN = (VALIDATION, CHECKPOINT, UNEXPLAINED)
_NS = 1e-9
#: Stage → the parts of it that are known to be another stage, as shares of it.
Split = Mapping[str, Mapping[str, float]]
#: Epochs of fewer steps may well begin one step after another (our own choice).
_LONG_EPOCH = 10
#: Of several trainings the longest is told alone if it takes this part of all steps' time (our own
#: choice); and so many steps show a trend (as PD701 has it).
_HALF, _FEWEST_STEPS = 0.5, 100


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Everything that goes into a Run besides the recorder's rows.

    Attributes:
        split: stage → the parts of it that are known to be another stage, as shares of it.
        longest: of several trainings, the steps before the longest and up to its end.
    """

    name: str
    source: Source
    environment: Environment
    configuration: Mapping[str, Any]
    ending: Ending
    split: Split = field(default_factory=dict)
    hotspots: tuple[Hotspot, ...] = ()
    loader: LoaderRecord | None = None
    step_cpu_s: float | None = None
    memory: Memory = field(default_factory=Memory)
    utilisation: Mapping[str, Floats] = field(default_factory=dict)
    started_at: float | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    longest: tuple[int, int | None] | None = None


def assemble(recorder: Recorder, stage_of: Sequence[str], seen: Observed) -> Run:
    """The Run. `stage_of` names the stage of each label. Call after `Recorder.end`."""
    rows = recorder.steps.rows()
    single = _by_stage(rows.single, stage_of, seen.split)
    means = _by_stage(rows.sums, stage_of, seen.split) if rows.stride > 1 else None
    within = [values for name, values in single.items() if name not in BETWEEN]
    count = rows.single.shape[0]
    epochs = _begun(rows.sums[:, EPOCH] > 0, rows.stride)
    step_s = np.sum(within, axis=0) if within else np.zeros(count)
    trend_of = _records(seen.longest, rows.stride, step_s.size)
    longest = trend_of if _is_most(trend_of, step_s) else None
    return Run(
        name=seen.name,
        source=seen.source,
        environment=seen.environment,
        configuration=dict(seen.configuration),
        step_s=step_s,
        samples=rows.single[:, SAMPLES].astype(np.float64),
        stages=tuple(_series(name, single, means, rows.stride) for name in in_order(set(single))),
        epoch_start=epochs,
        notes=(*seen.notes, *_of_several(longest, rows.stride, count)),
        steps_per_epoch=_steps_per_epoch(epochs, rows.stride),
        loader=seen.loader,
        step_cpu_s=seen.step_cpu_s,
        memory=seen.memory,
        utilisation=dict(seen.utilisation),
        warnings=seen.warnings,
        mean_step_s=_mean_steps(means, rows.stride),
        sampled=rows.stride > 1,
        track=_track(recorder, rows),
        trend_of=trend_of,
        longest=longest,
        epochs=_epochs(recorder, rows, stage_of, epochs, trend_of),
        spans=tuple(_spans(recorder, stage_of, seen.split)),
        wall_s=sum(recorder.totals[:MOST_LABELS]) * _NS,
        started_at=seen.started_at,
        hotspots=seen.hotspots,
        ending=seen.ending,
    )


def stages_of(observer: Observer) -> list[str]:
    """The stage of each label."""
    names = list(observer.recorder.names)
    names[r.AFTER_FORWARD] = OTHER
    names[r.WITHOUT_GRADIENTS] = names[r.FORWARD] if observer.acts else VALIDATION
    if observer.acts:
        names[r.VALIDATION] = OTHER  # what the lines there do tells what it is
    for label, role in label_roles(observer.loaders.values()).items():
        names[label] = VALIDATION if role == "validation" else DATA_LOADING
    return [DATA_LOADING if name.startswith("loader ") else name for name in names]


def seconds_by_stage(recorder: Recorder, stage_of: Sequence[str]) -> dict[str, float]:
    """Seconds of each stage over all that was observed."""
    seconds: dict[str, float] = {}
    for stage, spent in zip(stage_of, recorder.totals, strict=False):
        if spent:
            seconds[stage] = seconds.get(stage, 0.0) + spent * _NS
    return seconds


def divided(seconds: Mapping[str, Any], split: Split) -> dict[str, Any]:
    """Seconds of stages (numbers or arrays) once what is known to be another stage is moved."""
    found = dict(seconds)
    for source, parts in split.items():
        if source not in seconds:
            continue
        whole = seconds[source]
        for stage, share in parts.items():
            found[stage] = found.get(stage, 0.0) + share * whole
        found[source] = found[source] - min(1.0, sum(parts.values())) * whole
    return found


def _by_stage(table: Any, stage_of: Sequence[str], split: Split) -> dict[str, Floats]:
    """Seconds of each stage in each row."""
    seconds: dict[str, Floats] = {OTHER: np.zeros(table.shape[0])}
    for label, stage in enumerate(stage_of):
        column = table[:, label] * _NS
        if stage != START_UP and (stage == OTHER or column.any()):
            seconds[stage] = seconds.get(stage, 0.0) + column
    return divided(seconds, split)


def _series(
    name: str, single: Mapping[str, Floats], means: Mapping[str, Floats] | None, stride: int
) -> StageSeries:
    """NaN in steps in which it did not run."""
    count = single[OTHER].size
    values = single.get(name, np.zeros(count))
    mean = None if means is None else means.get(name, np.zeros(count)) / stride
    exposed = values if name == OTHER else np.where(values > 0, values, np.nan)
    return StageSeries(name=name, exposed_s=exposed, mean_s=mean, between=name in BETWEEN)


def _mean_steps(means: Mapping[str, Floats] | None, stride: int) -> Floats | None:
    if means is None:
        return None
    total: Floats = np.sum([v for name, v in means.items() if name not in BETWEEN], axis=0)
    return total / stride


def _begun(starts: Bools, stride: int) -> Bools:
    """In which steps an epoch began.

    Two loaders (one of the weights' data, one of the architecture's) begin in neighbouring steps
    with one and the same epoch: a start right after another where epochs are long is none.
    """
    first = np.flatnonzero(starts)
    gaps = np.diff(first)
    if stride > 1 or gaps.size < 2 or np.median(gaps) < _LONG_EPOCH:
        return starts
    kept: Bools = starts.copy()
    kept[first[1:][gaps == 1]] = False
    return kept


def _steps_per_epoch(epochs: Bools, stride: int) -> int | None:
    starts = np.flatnonzero(epochs)
    return int(np.median(np.diff(starts))) * stride if starts.size > 1 else None


def _records(
    steps: tuple[int, int | None] | None, stride: int, count: int
) -> tuple[int, int] | None:
    """The records of these steps; None where they are too few."""
    if steps is None:
        return None
    first, last = steps[0] // stride, count if steps[1] is None else steps[1] // stride
    return (first, last) if (last - first) * stride >= _FEWEST_STEPS else None


def _is_most(records: tuple[int, int] | None, step_s: Floats) -> bool:
    """Whether these take most of all steps' time."""
    return records is not None and bool(step_s[slice(*records)].sum() >= _HALF * step_s.sum())


def _of_several(longest: tuple[int, int] | None, stride: int, count: int) -> tuple[str, ...]:
    """Which training the times of steps are of, where models are trained one after another."""
    if longest is None:
        return ()
    first, last = longest[0] * stride + 1, longest[1] * stride
    return (
        "The script trains one model after another, or more of it later: the times of steps are "
        f"those of the longest part, steps {first:,} to {last:,} of {count * stride:,}.",
    )


def _epochs(
    recorder: Recorder,
    rows: Rows,
    stage_of: Sequence[str],
    starts: Bools,
    trend_of: tuple[int, int] | None,
) -> EpochSeries | None:
    """Epochs by the time they took, of several trainings those of the longest; None where there is
    one only, or rows were thinned.

    What runs between the steps, before an epoch's first one, belongs to the epoch before.
    """
    first = np.flatnonzero(starts)
    if first.size < 2 or rows.stride > 1:
        return None
    of_label = rows.sums[:, :MOST_LABELS] * _NS
    between = of_label[:, [i for i, stage in enumerate(stage_of) if stage in BETWEEN]].sum(axis=1)
    labels = [i for i, stage in enumerate(stage_of) if stage != START_UP]
    spent = np.add.reduceat(of_label[:, labels].sum(axis=1), first)
    counted_s = float(of_label.sum())
    rest_s = sum(recorder.totals[:MOST_LABELS]) * _NS - counted_s - recorder.after_s
    following = np.append(between[first[1:]], max(0.0, rest_s))
    time_s = spent - between[first] + following
    if trend_of is not None:
        time_s = time_s[(first >= trend_of[0]) & (first < trend_of[1])]
    return EpochSeries(number=np.arange(1.0, time_s.size + 1), time_s=time_s)


def _track(recorder: Recorder, rows: Rows) -> Track:
    """Steps by number and time; there are no files."""
    count = rows.sums.shape[0]
    spent_s = rows.sums[:, :MOST_LABELS].sum(axis=1) * _NS
    return Track(
        files=(),
        file=np.zeros(0, dtype=np.int32),
        line=np.zeros(0, dtype=np.int64),
        step=np.arange(1, count + 1, dtype=np.float64) * rows.stride,
        steps=np.full(count, float(rows.stride)),
        at_s=np.cumsum(spent_s),
    )


def _spans(recorder: Recorder, stage_of: Sequence[str], split: Split) -> list[Span]:
    """The whole wall clock: start-up, every stage, shut-down."""
    seconds = seconds_by_stage(recorder, stage_of)
    seconds[OTHER] = seconds.get(OTHER, 0.0) - recorder.after_s
    seconds = divided(seconds, split)
    start = {START_UP: seconds.pop(START_UP, 0.0)}
    told = start | {n: seconds[n] for n in in_order(set(seconds))} | {SHUT_DOWN: recorder.after_s}
    return [Span(name=name, seconds=value) for name, value in told.items() if value > 0]
