"""The times of steps and stages in numbers, and the stages' shares of all time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from perfdoctor.pace import Weights, part_of, seconds_per_step, step_weights, weighted
from perfdoctor.record import Floats, Run, Span, StageSeries
from perfdoctor.report import StageStat, Stat, Steps
from perfdoctor.stages import DATA_LOADING, OTHER, in_order
from perfdoctor.stats import describe

#: A wait as long as the step it lies in, in so many of the records, is none: something overlaps.
_OVERLAPPING = 0.2
#: So much of what the epochs tell of validation must find room in the rest of the wall clock.
_MOSTLY = 0.9


def step_stats(run: Run, kept: slice) -> Steps | None:
    """The steps of the records in `kept`; None where the run does not tell how long they take."""
    time = describe(run.step_s[kept])
    if time is None:
        return None
    weights = step_weights(run)
    time = _with_means(time, seconds_per_step(run)[kept], part_of(weights, kept))
    whole_s = weighted(seconds_per_step(run), weights)[0] if run.longest else time.total_s
    return Steps(
        count=time.count,
        warmup_discarded=kept.start,
        time=time,
        first_s=run.first_s,
        host=None if run.host_s is None else describe(run.host_s[kept]),
        cpu_s=run.step_cpu_s,
        before_training=0 if run.longest is None else run.longest[0],
        share=min(1.0, time.total_s / whole_s) if whole_s > 0 else 1.0,
    )


def _with_means(stat: Stat, step_s: Floats, weights: Weights) -> Stat:
    """Total and mean over all steps and not only over those that were printed."""
    total_s, steps = weighted(step_s, weights)
    return replace(stat, total_s=total_s, mean_s=total_s / steps)


def stage_stats(run: Run, kept: slice) -> dict[str, StageStat]:
    """Each stage over the records in `kept`, in the order of `perfdoctor.stages`.

    Of several trainings the times are those of the longest; the shares are of all of them, and
    where a stage is not in the longest, so are its times.
    """
    by_name = {series.name: series for series in run.stages}
    if waits_overlap(run):
        by_name = {n: s for n, s in by_name.items() if n not in (DATA_LOADING, OTHER)}
    if run.longest is None:
        return _shared_out(run, by_name, _each(run, by_name, kept), kept)
    every = slice(0, None)
    shared = _shared_out(run, by_name, _each(run, by_name, every), every)
    longest = _each(run, by_name, kept)
    return {name: replace(longest.get(name, s), share=s.share) for name, s in shared.items()}


def _each(run: Run, series: Mapping[str, StageSeries], kept: slice) -> dict[str, StageStat]:
    """Without their shares."""
    weights = part_of(step_weights(run), kept)
    found = {name: _stage(series[name], kept, weights) for name in in_order(list(series))}
    return {name: stat for name, stat in found.items() if stat is not None}


def waits_overlap(run: Run) -> bool:
    """Whether the log's time for data is no part of its step, and so no wait within it.

    It is as long as the step or longer in too many records, where some computing must be left:
    the loader works while the model does, or the field means something else.
    """
    data = next((series for series in run.stages if series.name == DATA_LOADING), None)
    if data is None or run.source.kind != "log" or data.exposed_s.size != run.step_s.size:
        return False
    known = np.isfinite(data.exposed_s) & (run.step_s > 0)
    as_long = known & (data.exposed_s >= run.step_s)
    return bool(known.any()) and bool(as_long.sum() / known.sum() >= _OVERLAPPING)


def spans_of(run: Run) -> tuple[Span, ...]:
    """The parts of the wall clock, in agreement with the stages and with the epochs.

    A wait that overlaps the step is part of the training. Validation that only the epochs tell of
    is taken out of what nothing else explains.
    """
    spans = list(run.spans)
    if waits_overlap(run):
        spans = [replace(s, name="train") if s.name == DATA_LOADING else s for s in spans]
    validation_s = None if run.epochs is None else run.epochs.validation_s
    if validation_s is None or not spans or any(s.name == "validation" for s in spans):
        return tuple(spans)
    named = [s for s in spans if s.name != "unexplained"]
    free_s = max(0.0, (run.wall_s or 0.0) - sum(s.seconds for s in named))
    told_s = float(np.nansum(validation_s))
    if free_s < _MOSTLY * told_s or told_s <= 0:
        return tuple(spans)
    count = int(np.isfinite(validation_s).sum())
    return (*named, Span(name="validation", seconds=min(told_s, free_s), count=count))


def _stage(series: StageSeries, kept: slice, weights: Weights) -> StageStat | None:
    exposed = series.exposed_s[kept]
    stat = describe(exposed)
    if stat is None:
        return None
    hidden = None if series.hidden_s is None else series.hidden_s[kept]
    seen = hidden is not None and bool(np.isfinite(hidden).any())
    return StageStat(
        **_fields(_with_means(stat, exposed, weights)),
        share=0.0,
        hidden_s=float(np.nanmedian(hidden)) if hidden is not None and seen else None,
        calls_per_step=stat.count / exposed.size,
        between=series.between,
    )


def _fields(stat: Stat) -> dict[str, Any]:
    return {name: getattr(stat, name) for name in stat.__dataclass_fields__}


def _shared_out(
    run: Run, series: Mapping[str, StageSeries], stages: Mapping[str, StageStat], kept: slice
) -> dict[str, StageStat]:
    """Each stage with its share of the time of all steps.

    Where a log prints averages (one printed step of many misleads: a loader's workers deliver in
    turns), stages with an average get their share from it, and the others what is left, as their
    own times divide it.
    """
    weights = part_of(step_weights(run), kept)
    told = {name: stat.total_s for name, stat in stages.items()}
    means = {name: m[kept] for name in stages if (m := series[name].mean_s) is not None}
    if means and run.mean_step_s is not None:
        total_s = weighted(seconds_per_step(run)[kept], weights)[0]
        spent = {name: weighted(values, weights)[0] for name, values in means.items()}
        others = {name: seconds for name, seconds in told.items() if name not in means}
        rest = max(0.0, total_s - sum(spent.values()))
        scale = rest / sum(others.values()) if sum(others.values()) > 0 else 0.0
        told = spent | {name: seconds * scale for name, seconds in others.items()}
    else:
        total_s = weighted(run.step_s[kept], weights)[0]
    total_s += sum(told[name] for name, stat in stages.items() if stat.between)
    return {
        name: replace(stat, share=min(1.0, told[name] / total_s) if total_s > 0 else 0.0)
        for name, stat in stages.items()
    }
