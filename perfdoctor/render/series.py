"""The columns of a report as arrays.

Of each record: `step`, `at_s`, `line`, `file` (index into the report's logs), `step_s`, `samples`,
`STAGE_s`, and the rates `samples_per_s`, `tokens_per_s`, `steps_per_s` as a log prints them. Of
each epoch: `epoch` (its number), `epoch_s`, `epoch_train_s`, `validation_s`, `epoch_line`,
`epoch_file`. All may be absent; all of a record have one length, and so have all of an epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfdoctor.record import Floats
from perfdoctor.report import Report

#: Columns of rates → their unit, in the order in which they are preferred.
RATES = {"samples_per_s": "samples/s", "tokens_per_s": "tokens/s", "steps_per_s": "steps/s"}
#: Series beyond 2,000 points are thinned to the largest number below, which is more than this.
_FEWEST_THINNED = 1_000
_TIME_UNITS = ((172_800.0, 86_400.0, "days"), (7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"))


def column(report: Report, name: str) -> Floats:
    """A column, NaN where a record does not say; empty where there is none."""
    return np.array([np.nan if v is None else v for v in report.series.get(name, ())], np.float64)


@dataclass(frozen=True)
class Positions:
    """Where the records lie on the horizontal axis, `label`; `scale` is its unit in seconds.

    `by` is the column: step, at_s, or "" for the records' numbers.
    """

    x: Floats
    by: str
    label: str
    scale: float = 1.0


def positions(report: Report, count: int) -> Positions:
    """Steps where they are known, else the time, else the number of the record.

    Where steps repeat, as in a log of several starts, only records are in the order of events.
    """
    steps, at_s = column(report, "step"), column(report, "at_s")
    known = steps.size == count and bool(np.isfinite(steps).all())
    if known and bool((np.diff(steps) >= 0).all()):
        return Positions(steps, "step", "training step")
    timed = at_s.size == count and bool(np.isfinite(at_s).all())
    if not known and timed and bool((np.diff(at_s) >= 0).all()):
        scale, unit = time_unit(float(at_s.max(initial=0.0)))
        return Positions(at_s / scale, "at_s", f"{unit} since the first record", scale)
    numbers = [record(report, place, count) for place in range(count)]
    label = "record; the training steps repeat" if known else "record"
    return Positions(np.array(numbers, dtype=np.float64), "", label)


def stride(report: Report, points: int) -> int:
    """How many records each point stands for; long series are thinned evenly."""
    if report.steps is None or points <= _FEWEST_THINNED:
        return 1
    return max(1, -(-report.steps.count // points))


def record(report: Report, place: int, points: int) -> int:
    """The number, from 1, of the record at a place in the series, which lack the warm-up."""
    return 1 + _warmup(report) + place * stride(report, points)


def place(report: Report, index: int, points: int) -> int | None:
    """Where in the series a record is, or the nearest before it; None where it is not in them."""
    found = (index - _warmup(report)) // stride(report, points)
    return found if 0 <= found < points else None


def _warmup(report: Report) -> int:
    return 0 if report.steps is None else report.steps.warmup_discarded


def time_unit(most_s: float) -> tuple[float, str]:
    """The unit, in seconds and by name, that suits times up to `most_s`."""
    fits = (found for found in _TIME_UNITS if most_s >= found[0])
    return next(((scale, unit) for _, scale, unit in fits), (1.0, "seconds"))


def rates(report: Report) -> tuple[Floats, str] | None:
    """The rate of each record and its unit; the trend's unit where there is a trend."""
    trend = report.throughput.trend if report.throughput is not None else None
    for unit in dict.fromkeys([trend.unit] if trend is not None else []) | _UNITS:
        found = _rate(report, unit)
        if np.isfinite(found).any():
            return found, unit
    return None


_UNITS = dict.fromkeys(RATES.values())


def _rate(report: Report, unit: str) -> Floats:
    """As printed, else from the step times; empty where neither is known."""
    name = next((name for name, called in RATES.items() if called == unit), "")
    printed = column(report, name)
    if np.isfinite(printed).any():
        return printed
    step_s, samples = column(report, "step_s"), column(report, "samples")
    with np.errstate(divide="ignore", invalid="ignore"):
        if unit == "samples/s" and samples.size == step_s.size:
            found = samples / step_s
        elif unit == "steps/s":
            found = 1 / step_s
        else:
            return printed
    return np.where(np.isfinite(found), found, np.nan)
