"""Whether times that are printed are sums: since the run began, the epoch, or the line before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.records import Records
from perfdoctor.readers.row_values import column, differences
from perfdoctor.readers.steps import Steps
from perfdoctor.record import Bools, Floats

#: Values that grow in so many of their differences are sums.
_GROWING = 0.9
_FEWEST = 3
_CREEPS_S = 600.0
#: Times of single steps cannot add up to so much more than passes; sums are a good part of it, and
#: all of it at most, rounding included.
_TOO_MUCH, _PART, _FITS = 1.5, 1 / 3, 1.1


def is_sum(records: Records, values: Floats, steps: Steps, *, named: bool = False) -> bool:
    """As `is_cumulative`, but what the lines' times tell counts more."""
    grows = is_cumulative(values, steps, named=named)
    if not grows or named:
        return grows
    return clock_says_sum(records, values, steps) is not False


def clock_says_sum(records: Records, values: Floats, steps: Steps) -> bool | None:
    """Whether values or their differences are what passed between the lines; None: no clock."""
    gaps = column(records, steps, "time")
    gaps = None if gaps is None else differences(gaps, steps)
    if gaps is None or (gaps > 1).sum() < 2:
        return None
    sums = differences(values, steps)
    if not np.isfinite(sums / gaps).any():
        return False
    with np.errstate(invalid="ignore", divide="ignore"):
        alone = np.nanmedian(np.abs(np.log(values / gaps)))
        per_step = np.nanmedian(np.abs(np.log(values * steps.covers / gaps)))
        as_sum = np.nanmedian(np.abs(np.log(sums / gaps)))
    return bool(as_sum <= min(alone, per_step))


def is_since_the_line_before(records: Records, values: Floats, steps: Steps) -> bool:
    """Whether times, each by itself, fit between the lines, where as many as there are steps do
    not: they are of all steps since the line before, whatever they are called."""
    gaps = column(records, steps, "time")
    gaps = None if gaps is None else differences(gaps, steps)
    if gaps is None or not steps.counted:
        return False
    usable = (gaps > 0) & (steps.covers > 1) & np.isfinite(values)
    if usable.sum() < _FEWEST:
        return False
    whole = values[usable] / gaps[usable]
    each = float(np.median(whole * steps.covers[usable]))
    return each > _TOO_MUCH and _PART <= float(np.median(whole)) <= _FITS


def is_cumulative(values: Floats, steps: Steps, *, named: bool = False) -> bool:
    """Whether they grow on and on: a sum since the start of the run or of the epoch.

    `named`: they are called so ("elapsed"), and growing is enough.
    """
    finite = np.isfinite(values)
    known = slice(None) if finite.all() else finite  # a slice copies nothing
    x, stretch, start = values[known], steps.stretch[known], steps.epoch_start[known]
    if x.size < _FEWEST:
        return False
    if float(x.min()) > _CREEPS_S and (np.diff(x) >= 0).all() and x[0] < x[-1] < 1.05 * x[0]:
        return True  # no step of minutes gets longer by seconds, one by one; a clock does
    inside = (np.diff(stretch) == 0) & ~start[1:]
    if inside.sum() < 2:
        inside = np.diff(stretch) == 0
    differences = np.diff(x)[inside]
    grows = differences >= 0 if named else differences > 0  # in whole seconds some stand still
    if differences.size < 2 or grows.mean() < _GROWING or not (differences > 0).any():
        return False
    if start[1:].sum() >= 2 and inside.sum() < 2 * start.sum():
        return True
    return named or _grows_like_a_sum(x, steps.step[known], stretch, start, differences)


def _grows_like_a_sum(
    x: Floats, step: Floats, stretch: NDArray[np.int64], start: Bools, differences: Floats
) -> bool:
    """Step times that creep upwards grow by little, and not by the same each time."""
    group = np.cumsum((np.diff(stretch, prepend=stretch[0]) != 0) | start) if start[1:].any() else (
        stretch
    )  # fmt: skip
    firsts = np.flatnonzero(np.append(True, np.diff(group) != 0))
    lasts = np.append(firsts[1:], x.size) - 1
    ratio = x[lasts] / np.maximum(x[firsts], 1e-12)
    if float(np.median(ratio[lasts > firsts])) > 2.5 if (lasts > firsts).any() else False:
        return True
    if float(x[-1]) > 2.5 * float(x[0]) and (np.diff(x) > 0).mean() >= _GROWING:
        return True
    spread = float(differences.std()) / max(float(differences.mean()), 1e-12)
    if spread >= 0.5 or differences.size < 4 or not (differences > 0).all():
        return False
    apart = np.diff(step)
    per_step = float(np.median(differences)) / max(float(np.median(apart[apart > 0])), 1e-12)
    return float(x[-1]) < 2 * per_step * (float(step[-1]) + 1)  # as much as all steps up to here
