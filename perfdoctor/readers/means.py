"""Step times out of means: over all steps so far, or since the epoch began."""

from __future__ import annotations

import numpy as np

from perfdoctor.readers.records import Records
from perfdoctor.readers.row_values import column, enough, grain_of
from perfdoctor.readers.steps import Steps
from perfdoctor.record import Bools, Floats

#: Of what is looked at, so many must agree.
_GROWING = 0.9
#: Readings that differ less than this agree (log of the ratio, or part of the value).
_AGREES = 0.35
#: Printed averages are known to this part, and so their sums.
_ROUNDING = 0.002
#: Running means: so many rows at least, over so many steps at most, the first so far above.
_FEWEST_MEANS, _LONGEST_MEAN, _FAR = 5, 100, 3.0
#: The second line's mean lies so far above what the others come to, and so many fall after it.
_MUCH, _MOSTLY_FALLS = 1.5, 0.8
#: Of so many lines an epoch at least a falling mean is seen.
_FEWEST_EACH = 3
#: Steps taken out of means are alike to this part.
_ALIKE = 0.1
#: A bar shows whole seconds: sooner, or with fewer lines, means cannot be told from times. What
#: "1.00it/s" says is known to half a percent.
_SHORTEST_BAR_S, _FEWEST_OF_BAR, _ROUNDED_RATE, _NEARLY_ALL = 20.0, 150, 0.006, 0.95
#: Of the values, what rounding may be for them to tell anything.
_COARSE = 0.05


def out_of_running_means(values: Floats, steps: Steps) -> Floats | None:
    """Times of single steps, where the printed ones are means of all steps so far.

    After a slow first step such means fall as 1/n for long. They are taken for that only if the
    first is far above the rest, every value is below the one before it, and n·m − (n−1)·m' has
    no sign of it any more.
    """
    later = out_of_later_means(values, steps)
    if later is not None:
        return later
    n = steps.step + (1.0 if steps.step.size and steps.step[0] == 0 else 0.0)
    if values.size < _FEWEST_MEANS or n[0] != 1 or not (np.diff(n) == 1).all():
        return None
    head = values[:_LONGEST_MEAN]
    if not np.isfinite(head).all() or not (np.diff(head) < 0).mean() >= _GROWING:
        return None
    sums = n[: head.size] * head
    single = np.diff(sums, prepend=0.0)
    rest = single[1:]
    middle = float(np.median(rest))
    falls = float(head[0]) > _FAR * middle and float(np.median(head[1:])) > 2 * middle
    if middle <= 0 or not falls or float(np.median(np.abs(rest - middle))) > middle:
        return None
    found = np.full(values.size, np.nan)
    found[: head.size] = np.where(single > 0, single, np.nan)
    return found


def out_of_later_means(values: Floats, steps: Steps) -> Floats | None:
    """The same where every hundredth step prints its mean: (n·m − n'·m') ÷ (n − n') hardly differs
    from row to row then, though the means themselves fall on and on."""
    fresh = steps.fresh
    rows = np.flatnonzero(~fresh)
    n = steps.step
    if values.size < _FEWEST_EACH * fresh.sum():
        return None  # a slow first line of two in each epoch is no mean
    if rows.size < _FEWEST_MEANS - 1 or not np.isfinite(values).all() or not (n > 0).all():
        return None
    between = np.diff(n, prepend=0.0)
    single = np.diff(n * values, prepend=0.0) / np.where(between > 0, between, np.nan)
    inner, outer = single[rows], values[rows]
    middle = float(np.median(inner))
    rounded = float(np.median(grain_of(values) * n[rows] / between[rows]))
    if middle <= 0 or rounded > _COARSE * middle or not (np.diff(values)[rows - 1] < 0).all():
        return None
    if _spread(inner) > _ALIKE * middle or _spread(outer) < 3 * _spread(inner):
        return None
    if float(outer.min()) < middle:
        return None  # means lie above what is left when the slow beginning is taken out
    return np.where(fresh, np.nan, single)


def without_first_steps(values: Floats, steps: Steps) -> Floats | None:
    """Means since the epoch began that fall because of a slow first step, and are printed too
    coarsely for their differences: what they are without it, (n·m − m₁) ÷ (n − 1), is level."""
    fresh = steps.fresh
    starts = np.flatnonzero(fresh)
    found: Floats = values.copy()
    told = False
    for first, last in zip(starts, [*starts[1:], values.size], strict=True):
        rows = slice(first + 1, last)
        n = steps.step[rows] - steps.step[first] + 1.0
        if steps.step[first] > 1 or last - first <= _FEWEST_MEANS:
            continue
        rest = (n * values[rows] - values[first]) / (n - 1.0)
        if not _level(rest, values[rows], float(values[first])):
            return None
        found[rows], told = rest, True
    return found if told else None


def _level(rest: Floats, means: Floats, first: float) -> bool:
    """Whether means fall far and steadily, and what is left without their first step does not."""
    if not np.isfinite(rest).all() or float(rest.min()) <= 0:
        return False
    middle = float(np.median(rest))
    far = first > _FAR * middle and float(means[0]) > _MUCH * middle
    falls = (np.diff(means) <= 0).mean() >= _MOSTLY_FALLS and means[-1] < means[0]
    near = float(np.abs(np.log(rest / middle)).max()) < np.log(2.0)
    return bool(far and falls and near and np.std(np.log(rest)) < 0.6 * np.std(np.log(means)))


def taken_out(values: Floats, steps: Steps) -> Floats:
    """Of the steps since the row before, where the steps' own times are means of all so far: the
    parts printed beside them are such means too, unless that would leave less than nothing."""
    fresh = steps.fresh
    between = np.where(fresh, np.nan, np.diff(steps.step, prepend=0.0))
    single = np.diff(steps.step * values, prepend=0.0) / between
    known = np.isfinite(single)
    if not known.any() or (single[known] < 0).mean() > 1 - _GROWING:
        return values
    return np.where(known, np.maximum(single, 0.0), np.nan)


def are_means_by_the_clock(records: Records, steps: Steps, values: Floats) -> bool:
    """Whether printed times are means since the epoch began: they hardly ever rise, are not what
    passes between the lines, and (n·m − n'·m') ÷ (n − n') is."""
    time, n = column(records, steps, "time"), steps.step
    if time is None or steps.fresh[1:].any() or values.size < _FEWEST_MEANS or not steps.counted:
        return False
    if not (np.isfinite(values).all() and np.isfinite(time).all() and n[-1] > n[0]):
        return False
    if (np.diff(values) > 0).mean() > 1 - _GROWING or values[-1] >= values[0]:
        return False
    clock = float(time[-1] - time[0]) / float(n[-1] - n[0])
    begun = 1.0 if n[0] == 0 else 0.0
    taken_out = float((n[-1] + begun) * values[-1] - (n[0] + begun) * values[0])
    taken_out /= float(n[-1] - n[0])
    if clock <= 0 or taken_out <= 0 or grain_of(time) > _COARSE * (time[-1] - time[0]):
        return False
    off = abs(np.log(float(np.median(values)) / clock))
    return bool(abs(np.log(taken_out / clock)) < off / 3 and off > _COARSE)


def are_means_of_the_run(records: Records, steps: Steps, values: Floats) -> bool:
    """Whether printed times are means since the run began, that rise with every pause: times the
    steps so far they are what has passed, and by themselves they are not what passes."""
    time = column(records, steps, "time")
    if time is None or not steps.counted or values.size < _FEWEST_MEANS:
        return False
    n = steps.step - steps.step[0] + 1
    if not (np.isfinite(values).all() and np.isfinite(time).all() and (np.diff(n) > 0).all()):
        return False
    gaps, passed = np.diff(time), time - time[0]
    if not (gaps > 0).all() or grain_of(time) > _COARSE * passed[-1]:
        return False
    later = slice(values.size // 2, None)
    sums = (n * values - values[0])[later] / passed[later]
    alone = values[1:] * np.diff(n) / gaps
    return bool(np.median(np.abs(sums - 1)) < _ALIKE and np.median(np.abs(np.log(alone))) > _AGREES)


def are_means_of_their_bar(elapsed: Floats, steps: Steps, values: Floats) -> bool:
    """Whether each time that a bar prints is what it has shown so far over its steps so far, as
    with tqdm's `smoothing=0`: such means hold the slow beginning and every pause for ever."""
    n = steps.step
    known = np.isfinite(elapsed) & np.isfinite(values) & (elapsed > _SHORTEST_BAR_S) & (n > 0)
    if known.sum() < _FEWEST_OF_BAR:
        return False
    shown = elapsed[known] / n[known]
    # whole seconds are cut off, and rates are printed with two decimals
    allowed = (1 / elapsed[known] + _ROUNDED_RATE) * shown
    return bool((np.abs(values[known] - shown) <= allowed).mean() >= _NEARLY_ALL)


def _spread(values: Floats) -> float:
    return float(values.max() - values.min())


def windows(means: Floats | None, steps: Steps, single: Floats | None = None) -> Floats | None:
    """Averages over the steps since the row before, out of averages since the epoch began.

    n steps of mean m and n' later ones of mean m' leave (n'm' − nm) ÷ (n' − n) for those between.
    `single` are the current values beside them: None is given back where these
    contradict, or tell every step themselves.
    """
    if means is None or not enough(means):
        return None
    first = 1.0 if steps.step.size and float(np.nanmin(steps.step)) == 0 else 0.0
    fresh = steps.fresh
    between = np.diff(steps.step, prepend=0.0)
    between[fresh] = steps.step[fresh] + first
    if single is not None and _need_no_means(means, single, fresh, between):
        return None
    # in place, because a log of ten million lines has arrays of 80 MB
    total = means * (steps.step + first)
    found = np.diff(total, prepend=0.0)
    found[fresh] = total[fresh]
    total *= -_ROUNDING
    total -= 1e-3 * between
    known = np.isfinite(found) & (between > 0)
    plausible = (found >= total)[known].mean() if known.any() else 0.0
    if plausible < _GROWING:
        return None  # not averages since the epoch began: a window, or a mean over everything
    np.divide(found, between, out=found, where=known)
    np.maximum(found, 0.0, out=found)
    found[~known] = np.nan
    return found


def _need_no_means(means: Floats, single: Floats, fresh: Bools, between: Floats) -> bool:
    """Whether averages are not of the epoch, since the first step's average is not its own time;
    or each step is printed, and the times of all steps agree with their average: differences of
    averages would only add what these were rounded by."""
    begun = np.flatnonzero(fresh & (between == 1) & np.isfinite(means) & np.isfinite(single))
    if begun.size:
        apart = np.abs(means[begun] - single[begun]) > _AGREES * np.maximum(single[begun], 1e-9)
        filled = means[begun] > 0  # some print 0.000 before the first update
        if (apart & filled).sum() > 0.5 * max(1, begun.size):
            return True
    known = np.isfinite(single) & np.isfinite(means)
    if not known.any() or (between[known] != 1).mean() > 1 - _GROWING:
        return False
    ends = np.flatnonzero(np.append(fresh[1:], True) & known)
    starts = np.flatnonzero(fresh)
    if not ends.size or ends.size != starts.size:
        return False
    counts = ends - starts + 1.0
    sums = np.add.reduceat(np.nan_to_num(single), starts)
    whole = float((means[ends] * counts).sum())
    return bool(abs(float(sums.sum()) - whole) < (1 - _GROWING) * whole)
