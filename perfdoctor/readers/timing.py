"""Seconds per training step out of whatever the log tells: times, rates, sums, moments."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from perfdoctor.readers.bar_times import (
    GRAINS,
    MANY_GRAINS,
    VERY_COARSE,
    hides_pauses,
    is_a_cutout,
    on_the_bar,
    outlast_their_bar,
    per_step,
)
from perfdoctor.readers.means import (
    are_means_by_the_clock,
    are_means_of_the_run,
    out_of_later_means,
    out_of_running_means,
    windows,
    without_first_steps,
)
from perfdoctor.readers.records import VALIDATION, Records
from perfdoctor.readers.row_values import column, differences, enough, grain_of
from perfdoctor.readers.steps import Steps
from perfdoctor.readers.sums import clock_says_sum, is_cumulative, is_since_the_line_before, is_sum
from perfdoctor.record import Floats

#: A training step of an unknown log: between two readings of a value, the likelier is the one
#: nearer to this. The logs of 85 projects have their median steps between 1 ms and 130 s, half of
#: them between 0.1 and 0.8 s.
_USUAL_STEP_S = 0.25
_FEWEST = 3
_OUT_OF_MEANS = "Step times, taken out of the running means that are printed."
_OF_BARS = "Step times are differences of the time that the progress bars show."
_OF_ALL_STEPS = "The printed times are of all steps since the line before."
#: Bars shorter than so many times what they are rounded to (seconds, most often) are printed too
#: coarsely to divide their time by their steps.
_LONG_BAR_S = 60.0
#: Of a difference, what one grain of the printed sum may be before the lines' times are better.
_COARSE = 0.05
#: A batch of at least 2⁴ samples, known to 3 % (in powers of two), in so many of the rows.
_SMALLEST, _POWER, _MOSTLY = 4, 0.043, 0.8


@dataclass(frozen=True)
class StepTimes:
    """`step_s`: one element a row of steps. `mean_s`: over the steps since the row before, where
    running averages tell. `how`: where it comes from, as a sentence. `divisor`: the steps that
    the printed times were of, where these were not of one. `told`: by the lines themselves, not
    made of their times or of sums. `of_means`: taken out of averages, as parts have to be too."""

    step_s: Floats
    how: str
    mean_s: Floats | None = None
    divisor: Floats | None = None
    told: bool = False
    of_means: bool = False


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
    long = elapsed >= _LONG_BAR_S * grain_of(elapsed)
    whole = ended & long
    if not whole.any() or not (whole.all() or is_a_cutout(steps, total, whole)):
        return None
    mean = np.where(whole, elapsed / np.maximum(steps.step, 1), np.nan)
    return StepTimes(mean, "Step times are averages over whole progress bars.")


def _from_samples(records: Records, steps: Steps) -> StepTimes | None:
    """Seconds per sample times the samples of a step."""
    sample_s, size = column(records, steps, "sample_s"), column(records, steps, "batch_size")
    if sample_s is None or size is None or not enough(sample_s * size):
        return None
    return StepTimes(sample_s * size, "Step times are the printed times of a sample × batch size.")


def _times_or_rates(records: Records, steps: Steps) -> tuple[Floats | None, bool]:
    """The printed times of steps, by printed rates where there are none, and whether any are."""
    step_s = column(records, steps, "step_s")
    rate = column(records, steps, "steps_per_s")
    if rate is None or _too_coarse(records, steps, rate) or counts_samples(records, steps):
        return step_s, False
    inverse = np.divide(1.0, rate, out=np.full(rate.size, np.nan), where=rate > 0)
    return (inverse if step_s is None else np.where(np.isfinite(step_s), step_s, inverse)), True


def _printed(records: Records, steps: Steps) -> StepTimes | None:
    step_s, rated = _times_or_rates(records, steps)
    means = column(records, steps, "step_s_mean")
    if means is None and (rate := column(records, steps, "steps_per_s_mean")) is not None:
        means = np.divide(1.0, rate, out=np.full(rate.size, np.nan), where=rate > 0)
    if step_s is None or not enough(step_s):
        if means is None or not enough(means):
            return None
        return StepTimes(means, "Step times are the log's own averages.")
    if not rated and is_cumulative(step_s, steps) and clock_says_sum(records, step_s, steps):
        return None
    step_s = np.where(step_s > 0, step_s, np.nan)
    single = out_of_running_means(step_s, steps) if means is None else None
    if single is not None:
        return StepTimes(single, _OUT_OF_MEANS, of_means=True)
    if means is None and are_means_by_the_clock(records, steps, step_s):
        return None
    if outlast_their_bar(records, steps, step_s) or hides_pauses(records, steps, step_s):
        return None
    if means is None and are_means_of_the_run(records, steps, step_s):
        return None
    if means is None and is_since_the_line_before(records, step_s, steps):
        per = _steps_between(steps)
        return StepTimes(step_s / per, _OF_ALL_STEPS, None, per)
    return StepTimes(step_s, "Step times as printed.", windows(means, steps, step_s))


def _unclear(records: Records, steps: Steps) -> StepTimes | None:
    for role in ("unclear_s", "elapsed_s", "train_s", "compute_s"):
        values = column(records, steps, role)
        named = role == "elapsed_s"
        if values is None or not enough(values) or (named and not steps.counted):
            continue
        if int(np.isfinite(values).sum()) == 1 and _one_is_no_step(records, role, steps):
            continue
        if is_sum(records, values, steps, named=named):
            continue
        single = out_of_later_means(values, steps)
        single = without_first_steps(values, steps) if single is None else single
        if single is not None:
            return StepTimes(single, _OUT_OF_MEANS, of_means=True)
        if are_means_by_the_clock(records, steps, values):
            return None
        per = _per(records, steps, values)
        how = "Step times as printed."
        if per is not None:
            values = values / per
            how = _OF_ALL_STEPS
        values = np.where(values > 0, values, np.nan)
        means = column(records, steps, f"{role}_mean")
        return StepTimes(values, how, windows(means, steps, values) if per is None else None, per)
    return None


def _one_is_no_step(records: Records, role: str, steps: Steps) -> bool:
    """A single time that is called elapsed is a sum; one without any counter may be of anything."""
    if role == "elapsed_s":
        return "step_first" not in records
    return role == "unclear_s" and not steps.counted


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
    return _steps_between(steps)


def _steps_between(steps: Steps) -> Floats:
    """Steps since the row before; the first row is of as many as the next."""
    covers = steps.covers
    usual = float(np.nanmedian(covers)) if np.isfinite(covers).any() else 1.0
    following = np.append(covers[1:], np.nan)
    covers = np.where(np.isfinite(covers), covers, following)
    return np.where(np.isfinite(covers), covers, usual)


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
        sums = is_sum(records, values, steps, named=named)
        if role == "step_s" and not clock_says_sum(records, values, steps):
            continue
        if not sums or _clock_is_finer(records, steps, values):
            continue
        step_s = per_step(values, steps)
        step_s = np.where(step_s > 0, step_s, np.nan)
        if np.isfinite(step_s).any():
            return StepTimes(step_s, "Step times are differences of the printed sums.")
    return None


def _clock_is_finer(records: Records, steps: Steps, values: Floats) -> bool:
    """A sum in whole seconds beside lines with moments to the millisecond."""
    time = column(records, steps, "time")
    if time is None or not enough(time):
        return False
    apart = differences(values, steps)
    if not np.isfinite(apart).any():
        return False
    return grain_of(values) > _COARSE * float(np.nanmedian(apart)) and grain_of(
        time
    ) < 0.1 * grain_of(values)


def _too_coarse(records: Records, steps: Steps, rate: Floats) -> bool:
    """A rate that is printed with one digit, beside lines whose times tell it better."""
    middle = float(np.nanmedian(rate)) if np.isfinite(rate).any() else 0.0
    if middle <= 0 or grain_of(rate) <= VERY_COARSE * middle:
        return False
    return _by_the_clock(records, steps) is not None


def counts_samples(records: Records, steps: Steps) -> bool:
    """Whether "207 it/sec" is of samples: by the lines' times each step takes as long as a power of
    two of these, time after time."""
    rate, time = column(records, steps, "steps_per_s"), column(records, steps, "time")
    if rate is None or time is None or not steps.counted or "bar_elapsed_s" in records:
        return False
    apart = differences(time, steps) / steps.covers
    known = np.isfinite(apart) & (apart > 0) & np.isfinite(rate)
    if known.sum() < 2 * _FEWEST:
        return False
    held = np.log2(apart[known] * rate[known])
    size = round(float(np.median(held)))
    near = np.abs(held - size) < _POWER
    return size >= _SMALLEST and bool(near.mean() > _MOSTLY)


def _from_bar(records: Records, steps: Steps) -> StepTimes | None:
    elapsed = column(records, steps, "bar_elapsed_s")
    if elapsed is None:
        return None
    printed, _ = _times_or_rates(records, steps)
    hides = printed is not None and hides_pauses(records, steps, printed)
    if printed is not None and (hides or outlast_their_bar(records, steps, printed)):
        if _clock_is_finer(records, steps, elapsed):
            return None
        grains = MANY_GRAINS if hides else GRAINS
        single = per_step(elapsed, steps, on_the_bar(elapsed, steps), grains)
        return StepTimes(np.where(single > 0, single, np.nan), _OF_BARS)
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
    step_s = per_step(time, steps)
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
