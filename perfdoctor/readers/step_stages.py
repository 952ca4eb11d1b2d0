"""The parts of a step that a log prints, and whether the printed step has them in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from perfdoctor.readers.means import taken_out, windows
from perfdoctor.readers.records import Records
from perfdoctor.readers.row_values import column, differences
from perfdoctor.readers.steps import Steps
from perfdoctor.readers.timing import StepTimes
from perfdoctor.record import Floats, StageSeries
from perfdoctor.stages import OTHER, STAGES

#: A part that is longer than the whole by more than rounding is no part of it; it matters where
#: what is too long makes so much of the whole.
_LONGER, _ROUNDED_S, _MATTERS = 1.05, 2e-3, 0.05
#: What is printed fits the time between the lines within this part; so well that it is no chance.
_FITS, _EXACTLY = 0.25, 0.1
_FEWEST = 3
_BESIDE = "Step times are the printed ones and the waiting for data that is printed beside them."


def step_stages(
    records: Records, steps: Steps, times: StepTimes | None, left_out: Sequence[str] = ()
) -> tuple[StageSeries, ...]:
    """The stages that the log prints, none longer than its step."""
    found = []
    for stage in STAGES:
        if stage in (OTHER, "validation", *left_out):
            continue
        values = column(records, steps, f"{stage}_s")
        if values is None:
            values = column(records, steps, f"{stage}_s_mean")
        if values is None:
            continue
        single = column(records, steps, f"{stage}_s")
        means = windows(column(records, steps, f"{stage}_s_mean"), steps, single)
        if times is not None:
            if times.of_means:
                values = taken_out(values, steps)
            if times.divisor is not None:
                values = values / times.divisor
            values = np.minimum(values, np.where(np.isfinite(times.step_s), times.step_s, np.inf))
        found.append(StageSeries(name=stage, exposed_s=values, mean_s=means))
    return tuple(found)


def other_stage(stages: Sequence[StageSeries], step_s: Floats) -> tuple[StageSeries, ...]:
    """What no printed stage explains."""
    if not stages:
        return ()
    explained = np.sum([np.nan_to_num(s.exposed_s) for s in stages], axis=0)
    rest = np.maximum(step_s - explained, 0.0)
    return (StageSeries(name=OTHER, exposed_s=rest),) if np.isfinite(rest).any() else ()


def with_waiting(
    records: Records, steps: Steps, times: StepTimes | None
) -> tuple[StepTimes | None, str | None]:
    """The step times and, where it cannot be in them since it is longer, the printed waiting for
    data on top, if the lines' times show that or it is an exception; else a note that it is left
    out: what is usually longer may as well go on at the same time."""
    if times is None or not times.told or times.mean_s is not None:
        return times, None
    data = column(records, steps, "data_loading_s")
    if data is None:
        return times, None
    waited = data if times.divisor is None else data / times.divisor
    too_long = waited > _LONGER * times.step_s + _ROUNDED_S
    excess_s = float((waited - times.step_s)[too_long].sum())
    whole = times.step_s + np.nan_to_num(waited)
    alone, both = _fits(records, steps, times.step_s), _fits(records, steps, whole)
    if excess_s <= _MATTERS * float(np.nansum(times.step_s)):
        beside = not alone and _fits(records, steps, whole, _EXACTLY)
        return (replace(times, step_s=whole, how=_BESIDE), None) if beside else (times, None)
    seldom = too_long.sum() <= 0.5 * np.isfinite(waited).sum()
    if not alone and (both or seldom):
        return replace(times, step_s=whole, how=_BESIDE), None
    many = f"{int(too_long.sum()):,} of {int(np.isfinite(waited).sum()):,}"
    return times, (
        f"In {many} records the printed waiting for data is longer than the printed step: it is no "
        "part of it and is left out. Steps may take as much longer."
    )


def _fits(records: Records, steps: Steps, step_s: Floats, within: float = _FITS) -> bool:
    """Whether so many seconds a step passed between the lines."""
    time = column(records, steps, "time")
    if time is None:
        return False
    gaps, told = differences(time, steps), step_s * steps.covers
    known = np.isfinite(gaps) & np.isfinite(told)
    if known.sum() < _FEWEST or gaps[known].sum() <= 0:
        return False
    return bool(abs(np.log(told[known].sum() / gaps[known].sum())) < np.log1p(within))
