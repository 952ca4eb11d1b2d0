"""When an unfinished run would end, from the time its last steps or epochs took."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from perfdoctor.economics import epoch_seconds
from perfdoctor.pace import record_count, seconds_per_step, step_weights, weighted
from perfdoctor.record import EpochSeries, Floats, Run
from perfdoctor.report import Forecast
from perfdoctor.stats import kendall_p

_STEPS = ("max_steps", "total_steps")
_EPOCHS = ("epochs", "max_epochs", "num_epochs", "num_train_epochs")
#: What is recent: the last fifth of the records, or the last ten epochs; in so many parts.
_RECENT_SHARE, _RECENT_EPOCHS, _PARTS = 0.2, 10, 10
_FEWEST_RECORDS, _FEWEST_EPOCHS = 10, 2
#: Student's t of 95 % for 1, 2, … degrees of freedom.
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
_DRIFTS_P = 0.05
#: What lies outside the steps is noticed from this part of them on.
_NOTICED = 0.05
#: Parts of the wall clock that are no step, and come again as training goes on.
_BETWEEN_STEPS = ("validation", "checkpoint", "logging", "metrics", "visualisation")
#: A drift is followed no further than to so many times the present pace.
_FURTHEST = 3.0


def forecast(run: Run) -> Forecast | None:
    """The time left; None where the run is finished, or its goal or its pace is not known.

    It is finished where the log says so, or where all its epochs are done. By epochs where two
    whole ones are known, since they hold what steps do not: validation and checkpoints. By steps,
    with what the wall clock tells of the time between them; where it tells nothing, the forecast
    is marked as being of the training alone.

    The interval is that of a sum of as many parts as are left, their mean known from the recent
    ones; where these drift, it reaches to where the drift would lead.
    """
    if run.finished or _all_epochs_done(run):
        return None
    return _by_epochs(run) or _by_steps(run)


def _all_epochs_done(run: Run) -> bool:
    total, epochs = _number(run.configuration, _EPOCHS), run.epochs
    if total is None or epochs is None or not np.isfinite(epochs.number).any():
        return False
    return bool(np.isfinite(epoch_seconds(epochs)).any()) and _epochs_left(epochs, total) <= 0


def _by_epochs(run: Run) -> Forecast | None:
    total, epochs = _number(run.configuration, _EPOCHS), run.epochs
    if total is None or epochs is None or epochs.number.size == 0:
        return None
    spent_s = epoch_seconds(epochs)
    recent = spent_s[np.isfinite(spent_s)][-_RECENT_EPOCHS:]
    left = _epochs_left(epochs, total)
    if recent.size < _FEWEST_EPOCHS or left <= 0:
        return None
    low_s, middle_s, high_s = _sum_of(recent, left)
    if run.steps_per_epoch is None:
        return Forecast(steps_left=left, left_s=middle_s, low_s=low_s, high_s=high_s, unit="epoch")
    steps = left * run.steps_per_epoch
    return Forecast(steps_left=steps, left_s=middle_s, low_s=low_s, high_s=high_s)


def _epochs_left(epochs: EpochSeries, total: float) -> float:
    """Epochs count from 0 or from 1; where a log begins later, the last may be either."""
    first, last = float(np.nanmin(epochs.number)), float(np.nanmax(epochs.number))
    if first < 1:
        return total - last - 1
    left = total - last
    return 0.0 if first > 1 and left == 1 else left


def _by_steps(run: Run) -> Forecast | None:
    step = None if run.track is None else run.track.step
    if step is None or not np.isfinite(step).any():
        return None
    total = _total_steps(run)
    left = -1.0 if total is None else total - float(step[np.isfinite(step)][-1])
    recent = _recent(run)
    spacing = _steps_each(run)[np.isfinite(step)][-1]  # the last ones are rarely printed
    if left <= spacing or recent is None:
        return None
    each_s, steps_each = recent
    more = _between_steps(run, float(each_s.mean()) / steps_each)
    ends = _sum_of(each_s, left / steps_each)
    low_s, middle_s, high_s = (end * (1.0 if more is None else more) for end in ends)
    return Forecast(
        steps_left=left, left_s=middle_s, low_s=low_s, high_s=high_s, training_only=more is None
    )


def _between_steps(run: Run, pace_s: float) -> float | None:
    """By how much steps at this pace are lengthened by what is done between them.

    Not at all where the pace has that in it already; None where the log does not tell of it.
    """
    if not run.spans:
        return None
    between_s = sum(span.seconds for span in run.spans if span.name in _BETWEEN_STEPS)
    step_s, steps = weighted(seconds_per_step(run), step_weights(run))
    if step_s <= 0 or steps <= 0:
        return 1.0
    outside = between_s / step_s
    seen = pace_s / (step_s / steps) - 1
    return 1.0 if outside < _NOTICED or seen >= _NOTICED else 1 + outside


def _total_steps(run: Run) -> float | None:
    steps, epochs = (_number(run.configuration, names) for names in (_STEPS, _EPOCHS))
    if steps is None and epochs is not None and run.steps_per_epoch is not None:
        return epochs * run.steps_per_epoch
    return steps


def _number(configuration: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    for name in names:
        value = configuration.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return float(value)
    return None


def _recent(run: Run) -> tuple[Floats, float] | None:
    """Seconds of each recent part of the run and the steps in one, by the clock if there is one."""
    step_s, steps = seconds_per_step(run), _steps_each(run)
    spent_s = _clock(run)
    spent_s = step_s * steps if spent_s is None else spent_s
    known = np.flatnonzero(np.isfinite(spent_s) & (spent_s > 0))
    known = known[-max(_FEWEST_RECORDS, int(_RECENT_SHARE * known.size)) :]
    if known.size < _FEWEST_RECORDS:
        return None
    cuts = np.linspace(0, known.size, _PARTS + 1).astype(np.int64)[:-1]
    parts_s = np.add.reduceat(spent_s[known], cuts)
    covered = np.add.reduceat(steps[known], cuts)
    each = float(covered.mean())
    return parts_s / covered * each, each


def _steps_each(run: Run) -> Floats:
    each: Floats = np.broadcast_to(step_weights(run), record_count(run))
    return each


def _clock(run: Run) -> Floats | None:
    """Seconds from the record before to each record."""
    at_s = None if run.track is None else run.track.at_s
    if at_s is None or at_s.size < _FEWEST_RECORDS:
        return None
    return np.diff(at_s, prepend=np.nan)


def _sum_of(parts_s: Floats, count: float) -> tuple[float, float, float]:
    """The sum of `count` more parts like these: low end, middle and high end of its interval.

    The low end is no faster than the fastest part seen.
    """
    n = parts_s.size
    mean = float(parts_s.mean())
    error = float(parts_s.std(ddof=1)) * math.sqrt(count / 1 + count**2 / n)
    reach = _T[min(n - 1, len(_T)) - 1] * error
    middle = count * mean
    ends = [middle - reach, middle + reach, count * _drifting(parts_s, count)]
    return max(min(ends), count * float(parts_s.min())), middle, max(ends)


def _drifting(parts_s: Floats, count: float) -> float:
    """The mean of the parts to come if the drift of the last ones goes on."""
    n = parts_s.size
    mean = float(parts_s.mean())
    if kendall_p(parts_s) >= _DRIFTS_P:
        return mean
    x = np.arange(n) - (n - 1) / 2
    slope = float(x @ parts_s) / float(x @ x)
    later = mean + slope * (n + count) / 2
    return min(max(later, mean / _FURTHEST), mean * _FURTHEST)
