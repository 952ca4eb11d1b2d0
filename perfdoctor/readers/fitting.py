"""Printed step times that do not fit into the epochs of which the log tells the length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perfdoctor.readers.steps import Steps
from perfdoctor.readers.timing import StepTimes
from perfdoctor.record import EpochSeries, Floats

#: What steps may add up to above their epoch, rounding included; in so many epochs more is no
#: chance, and so many there are at least.
_FITS, _MOST, _FEWEST = 1.05, 0.8, 2


def without_what_lies_between(
    times: StepTimes | None, steps: Steps, epochs: EpochSeries | None
) -> tuple[StepTimes | None, str | None]:
    """The first time that is printed in each epoch left out, and a note, where with it the steps
    take longer than the epoch and without it they do not: a clock that is not set anew counts the
    validation before it too."""
    if times is None or epochs is None or not times.told or times.mean_s is not None:
        return times, None
    inner = np.isfinite(times.step_s) & ~steps.epoch_start
    if not inner.any() or not steps.counted:
        return times, None
    usual = np.where(inner, times.step_s, np.median(times.step_s[inner]))
    with_it, without = (_sums(values, steps, epochs) for values in (times.step_s, usual))
    known = np.isfinite(with_it) & np.isfinite(without)
    if known.sum() < _FEWEST or (with_it[known] > _FITS).mean() < _MOST:
        return times, None
    if (without[known] <= _FITS).mean() < _MOST:
        return times, None
    found = replace(times, step_s=np.where(steps.epoch_start, np.nan, times.step_s))
    return found, (
        "The first time printed in each epoch does not fit into it: it includes what lies between "
        "two epochs, and is left out."
    )


def _sums(step_s: Floats, steps: Steps, epochs: EpochSeries) -> Floats:
    """What the steps of each epoch add up to, as a part of its printed length."""
    length = epochs.time_s if epochs.train_s is None else epochs.train_s
    covers = np.where(steps.epoch_start, steps.step, steps.covers)
    told = step_s * covers
    sums = [told[steps.epoch == number].sum() for number in epochs.number]
    found: Floats = np.where(length > 0, np.array(sums) / np.where(length > 0, length, 1.0), np.nan)
    return found
