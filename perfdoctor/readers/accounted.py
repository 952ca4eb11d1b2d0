"""Whether printed step times fill the time that passed between the lines."""

from __future__ import annotations

import numpy as np

from perfdoctor.readers.records import Records
from perfdoctor.readers.row_values import column
from perfdoctor.readers.steps import Steps
from perfdoctor.readers.timing import StepTimes
from perfdoctor.record import Bools, Floats

#: So many gaps between lines at least, and so many seconds: lines tell whole seconds at times.
_FEWEST, _SHORTEST_S = 8, 20.0
#: A gap so many times as long as the others is a pause; it says nothing of the usual step.
PAUSE = 5.0
#: What printed step times may miss of, or be above, the time between lines, rounding included.
LEAST, MOST = 0.9, 1.1


def accounted_share(records: Records, steps: Steps, times: StepTimes | None) -> float | None:
    """The sum of the printed step times ÷ the time between the lines, pauses left out; None where
    it cannot be told, or where the step times are made of the lines' times."""
    if times is None or not times.told or not steps.counted:
        return None
    time = column(records, steps, "time")
    if time is None:
        return None
    gaps = np.diff(time, prepend=np.nan)
    spent = per_step(times) * steps.covers
    known = np.isfinite(gaps) & np.isfinite(spent) & (gaps >= 0) & _side_by_side(records, steps)
    if known.sum() < _FEWEST:
        return None
    each = gaps[known] / steps.covers[known]
    usual = each <= PAUSE * max(float(np.median(each)), 1e-9)
    whole_s = float(gaps[known][usual].sum())
    if whole_s < _SHORTEST_S:
        return None
    return float(spent[known][usual].sum()) / whole_s


def per_step(times: StepTimes) -> Floats:
    """The best that is printed of the steps since the row before: their mean, else one of them."""
    if times.mean_s is None:
        return times.step_s
    return np.where(np.isfinite(times.mean_s), times.mean_s, times.step_s)


def _side_by_side(records: Records, steps: Steps) -> Bools:
    """Rows of one epoch with no other line of a known time between them."""
    timed = np.concatenate([[0], np.cumsum(np.isfinite(records.column("time")))])
    between = np.diff(timed[steps.rows], prepend=0)
    found: Bools = (between == 1) & steps.goes_on & ~steps.epoch_start
    return found


def contradiction(share: float | None) -> str | None:
    """A warning where the printed times and the clock do not agree."""
    if share is None or LEAST <= share <= MOST:
        return None
    percent = f"{100 * share:.0f} %"
    if share < LEAST:
        return (
            f"The printed step times account for only {percent} of the time between the lines; "
            "what the rest is spent on, no line tells."
        )
    return (
        f"The printed step times add up to {percent} of the time between the lines: they may be "
        "averages since the start, or include what runs at the same time."
    )
