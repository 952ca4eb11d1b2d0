"""Seconds per training step out of whatever the log tells: times, rates, sums, moments."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.means import (
    are_means_by_the_clock,
    out_of_later_means,
    out_of_running_means,
    windows,
)
from perfdoctor.readers.records import VALIDATION, Records
from perfdoctor.readers.row_values import column, differences, enough, grain_of, over_rows
from perfdoctor.readers.rows import Steps
from perfdoctor.record import Bools, Floats

#: Values that grow in so many of their differences are sums.
_GROWING = 0.9
#: A training step of an unknown log: between two readings of a value, the likelier is the one
#: nearer to this. The logs of 85 projects have their median steps between 1 ms and 130 s, half of
#: them between 0.1 and 0.8 s.
_USUAL_STEP_S = 0.25
_FEWEST = 3
_OUT_OF_MEANS = "Step times, taken out of the running means that are printed."
_CREEPS_S = 600.0
#: Bars shorter than this are printed too coarsely to divide their time by their steps.
_LONG_BAR_S = 60.0
#: Of a difference, what one grain of the printed sum may be before the lines' times are
#: better, before several rows are taken together, and how many grains these should hold.
_COARSE, _VERY_COARSE, _GRAINS = 0.05, 0.15, 20.0


@dataclass(frozen=True)
class StepTimes:
    """`step_s`: one element a row of steps. `mean_s`: over the steps since the row before, where
    running averages tell. `how`: where it comes from, as a sentence. `divisor`: the steps that
    the printed times were of, where these were not of one. `told`: by the lines themselves, not
    made of their times or of sums."""

    step_s: Floats
    how: str
    mean_s: Floats | None = None
    divisor: Floats | None = None
    told: bool = False


def step_times(records: Records, steps: Steps) -> StepTimes | None:
    """The best source that there is; None if nothing tells. What a line tells is of a step where
    it says so; sums and moments tell it only where the log counts its steps."""
    told = (_whole_bars, _printed, _unclear, _from_samples)
    counted = (_from_elapsed, _from_bar, _from_time)
    for source in (*told, *counted) if steps.counted else told:
        found = source(records, steps)
        if found is not None and np.isfinite(found.step_s).any():
            return replace(found, told=source in told)
    return None


def _whole_bars(records: Records, steps: Steps) -> StepTimes | None:
    """Where only the ends of bars are left: their time over their steps. The printed rate is an
    average that forgets (tqdm's `smoothing`), and at the end tells of the last steps only."""
    elapsed = column(records, steps, "bar_elapsed_s")
    if elapsed is None or not np.isfinite(steps.step).all():
        return None
    total = records.column("step_total")[steps.rows]
    ended = np.where(np.isfinite(total), steps.step == total, steps.step > 1)
    long = elapsed >= _LONG_BAR_S
    if not (ended & long).all():
        return None
    return StepTimes(elapsed / steps.step, "Step times are averages over whole progress bars.")


def _from_samples(records: Records, steps: Steps) -> StepTimes | None:
    """Seconds per sample times the samples of a step."""
    sample_s, size = column(records, steps, "sample_s"), column(records, steps, "batch_size")
    if sample_s is None or size is None or not enough(sample_s * size):
        return None
    return StepTimes(sample_s * size, "Step times are the printed times of a sample × batch size.")


def _printed(records: Records, steps: Steps) -> StepTimes | None:
    step_s = column(records, steps, "step_s")
    rate = column(records, steps, "steps_per_s")
    if rate is not None and _too_coarse(records, steps, rate):
        rate = None
    if rate is not None:
        inverse = np.divide(1.0, rate, out=np.full(rate.size, np.nan), where=rate > 0)
        step_s = inverse if step_s is None else np.where(np.isfinite(step_s), step_s, inverse)
    means = column(records, steps, "step_s_mean")
    if step_s is None or not enough(step_s):
        if means is None or not enough(means):
            return None
        return StepTimes(means, "Step times are the log's own averages.")
    if rate is None and is_cumulative(step_s, steps) and _clock_says_sum(records, step_s, steps):
        return None
    step_s = np.where(step_s > 0, step_s, np.nan)
    single = out_of_running_means(step_s, steps) if means is None else None
    if single is not None:
        return StepTimes(single, _OUT_OF_MEANS)
    if means is None and are_means_by_the_clock(records, steps, step_s):
        return None
    return StepTimes(step_s, "Step times as printed.", windows(means, steps, step_s))


def _unclear(records: Records, steps: Steps) -> StepTimes | None:
    for role in ("unclear_s", "elapsed_s", "train_s", "compute_s"):
        values = column(records, steps, role)
        named = role == "elapsed_s"
        if values is None or not enough(values) or (named and not steps.counted):
            continue
        if int(np.isfinite(values).sum()) == 1 and _one_is_no_step(records, role, steps):
            continue
        if _is_sum(records, values, steps, named=named):
            continue
        single = out_of_later_means(values, steps)
        if single is not None:
            return StepTimes(single, _OUT_OF_MEANS)
        if are_means_by_the_clock(records, steps, values):
            return None
        per = _per(records, steps, values)
        how = "Step times as printed."
        if per is not None:
            values = values / per
            how = "The printed times are of all steps since the line before."
        values = np.where(values > 0, values, np.nan)
        means = column(records, steps, f"{role}_mean")
        return StepTimes(values, how, windows(means, steps, values) if per is None else None, per)
    return None


def _one_is_no_step(records: Records, role: str, steps: Steps) -> bool:
    """A single time that is called elapsed is a sum; one without any counter may be of anything."""
    if role == "elapsed_s":
        return "step_first" not in records
    return role == "unclear_s" and not steps.counted


def _is_sum(records: Records, values: Floats, steps: Steps, *, named: bool = False) -> bool:
    """As `is_cumulative`, but what the lines' times tell counts more."""
    grows = is_cumulative(values, steps, named=named)
    if not grows or named:
        return grows
    return _clock_says_sum(records, values, steps) is not False


def _clock_says_sum(records: Records, values: Floats, steps: Steps) -> bool | None:
    """Whether values or their differences are what passed between the lines; None: no clock."""
    gaps = column(records, steps, "time")
    gaps = None if gaps is None else differences(gaps, steps)
    if gaps is None or (gaps > 1).sum() < 2:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        alone = np.nanmedian(np.abs(np.log(values / gaps)))
        per_step = np.nanmedian(np.abs(np.log(values * steps.covers / gaps)))
        as_sum = np.nanmedian(np.abs(np.log(differences(values, steps) / gaps)))
    return bool(as_sum <= min(alone, per_step))


def is_cumulative(values: Floats, steps: Steps, *, named: bool = False) -> bool:
    """Whether they grow on and on: a sum since the start of the run or of the epoch.

    `named`: they are called so ("elapsed"), and growing is enough.
    """
    known = np.isfinite(values)
    x, stretch, start = values[known], steps.stretch[known], steps.epoch_start[known]
    if x.size < _FEWEST:
        return False
    if float(x.min()) > _CREEPS_S and (np.diff(x) >= 0).all() and x[0] < x[-1] < 1.05 * x[0]:
        return True  # no step of minutes gets longer by seconds, one by one; a clock does
    inside = (np.diff(stretch) == 0) & ~start[1:]
    if inside.sum() < 2:
        inside = np.diff(stretch) == 0
    differences = np.diff(x)[inside]
    if differences.size < 2 or (differences > 0).mean() < _GROWING:
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


def _per(records: Records, steps: Steps, values: Floats) -> Floats | None:
    """What to divide by where a printed time is of all steps since the line before."""
    covers = steps.covers
    gap = float(np.nanmedian(covers)) if np.isfinite(covers).any() else 1.0
    if "step_first" in records and not (np.nanmin(covers) == gap == 1):
        return covers  # the line says of which steps it is
    if gap <= 1:
        return None
    value = float(np.nanmedian(values))
    truth = _by_the_clock(records, steps)
    if truth is None:
        truth = _by_the_rate(records, steps)
    wanted = _USUAL_STEP_S if truth is None else truth
    if value <= 0:
        return None
    single, whole = abs(np.log(value / wanted)), abs(np.log(value / gap / wanted))
    if single <= whole:
        return None
    following = np.append(covers[1:], np.nan)  # the first line is of as many as the next
    covers = np.where(np.isfinite(covers), covers, following)
    return np.where(np.isfinite(covers), covers, gap)


def _by_the_clock(records: Records, steps: Steps) -> float | None:
    """Median seconds per step by moments or sums, to tell two readings of a value apart."""
    for role in ("time", "elapsed_s"):
        values = column(records, steps, role)
        if values is None or (role == "elapsed_s" and not is_cumulative(values, steps)):
            continue
        apart = differences(values, steps) / steps.covers
        positive = apart[np.isfinite(apart) & (apart > 0)]
        if positive.size >= min(_FEWEST, max(1, steps.rows.size - 1)):
            return float(np.median(positive))
    return None


def _by_the_rate(records: Records, steps: Steps) -> float | None:
    rate, size = column(records, steps, "samples_per_s"), column(records, steps, "batch_size")
    if rate is None or size is None:
        return None
    found = float(np.nanmedian(size / np.where(rate > 0, rate, np.nan)))
    return found if np.isfinite(found) and found > 0 else None


def _from_elapsed(records: Records, steps: Steps) -> StepTimes | None:
    for role in ("elapsed_s", "unclear_s", "step_s", "train_s", "epoch_s"):
        values = column(records, steps, role)
        named = role == "elapsed_s"
        if values is None or not enough(values):
            continue
        sums = _is_sum(records, values, steps, named=named)
        if role == "step_s" and not _clock_says_sum(records, values, steps):
            continue
        if not sums or _clock_is_finer(records, steps, values):
            continue
        step_s = _per_step(values, steps)
        step_s = np.where(step_s > 0, step_s, np.nan)
        if np.isfinite(step_s).any():
            return StepTimes(step_s, "Step times are differences of the printed sums.")
    return None


def _clock_is_finer(records: Records, steps: Steps, values: Floats) -> bool:
    """A sum in whole seconds beside lines with moments to the millisecond."""
    time = column(records, steps, "time")
    if time is None or not enough(time):
        return False
    apart = float(np.nanmedian(differences(values, steps)))
    return grain_of(values) > _COARSE * apart and grain_of(time) < 0.1 * grain_of(values)


def _too_coarse(records: Records, steps: Steps, rate: Floats) -> bool:
    """A rate that is printed with one digit, beside lines whose times tell it better."""
    middle = float(np.nanmedian(rate)) if np.isfinite(rate).any() else 0.0
    if middle <= 0 or grain_of(rate) <= _VERY_COARSE * middle:
        return False
    return _by_the_clock(records, steps) is not None


def _per_step(values: Floats, steps: Steps) -> Floats:
    """Differences of a sum over the steps between; over several rows where it is printed so
    coarsely that from one row to the next it moves by a few grains only."""
    found = differences(values, steps)
    apart = float(np.nanmedian(found)) if np.isfinite(found).any() else 0.0
    grain = grain_of(values)
    rows = int(np.ceil(_GRAINS / 2 * grain / max(apart, grain / 4)))
    if grain <= _VERY_COARSE * apart or rows < 2 or rows > found.size // 3:
        return found / steps.covers
    return over_rows(found, rows) / over_rows(steps.covers, rows)


def _from_bar(records: Records, steps: Steps) -> StepTimes | None:
    elapsed = column(records, steps, "bar_elapsed_s")
    if elapsed is None:
        return None
    done = steps.step
    values = np.divide(elapsed, done, out=np.full(done.size, np.nan), where=done > 0)
    total = records.column("step_total")[steps.rows]
    last = np.append(np.diff(elapsed) < 0, True)  # a bar without a total ends where the next begins
    ends = np.where(np.isfinite(total), done == total, last) & (values > 0)
    if not ends.any():
        return None
    return StepTimes(
        np.where(ends, values, np.nan), "Step times are averages over whole progress bars."
    )


def _from_time(records: Records, steps: Steps) -> StepTimes | None:
    time = column(records, steps, "time")
    if time is None or not enough(time):
        return None
    step_s = _per_step(time, steps)
    step_s = _without_validation(records, steps, time, step_s)
    crosses = steps.epoch_start.copy()
    if (~crosses).sum() >= _FEWEST:
        step_s[crosses] = np.nan  # validation and the like lie between two epochs
    step_s = np.where(step_s > 0, step_s, np.nan)
    if not np.isfinite(step_s).any():
        return None
    return StepTimes(step_s, "Step times are differences of the lines' times.")


def _without_validation(records: Records, steps: Steps, time: Floats, step_s: Floats) -> Floats:
    """Where a validation lies between two rows, the steps began when it ended."""
    moments = records.column("time")
    judged = np.flatnonzero((records.column("phase") == VALIDATION) & np.isfinite(moments))
    if not judged.size or steps.rows.size < 2:
        return step_s
    last = judged[np.maximum(np.searchsorted(judged, steps.rows) - 1, 0)]
    between = (last < steps.rows) & (last > np.append(steps.rows[0], steps.rows[:-1]))
    since = (time - moments[last]) / steps.covers
    return np.where(between & (since > 0) & np.isfinite(step_s), since, step_s)
