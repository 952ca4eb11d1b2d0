"""The lines' times → moments that go on: over midnight, New Year, and clocks set back."""

from __future__ import annotations

from calendar import isleap
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.records import Records
from perfdoctor.readers.values import DAY_S, UNKNOWN_YEAR
from perfdoctor.record import Bools, Floats

Indices = NDArray[np.int64]

#: Time zones differ by quarters of an hour, and no two by more than 26 hours (IANA's tz database).
_QUARTER_S, _WIDEST_S = 900.0, 26 * 3600.0
#: Dates without a year are counted from 1972: before this moment (1973) lie only these.
_YEARLESS_S = 4 * 366 * DAY_S
#: 1 March of a leap year.
_END_OF_FEBRUARY = 60 * DAY_S
#: Lines of several processes may be so far out of order.
_DISORDER_S = 600.0
#: After a clock was set back the log goes on about as before: so many times the usual gap, or so
#: many seconds, at most.
_USUAL, _SOON_S = 20.0, 60.0


def with_time(records: Records) -> Records:
    """Times of day become moments: at midnight a day is added. Yearless dates go past New Year.
    A clock that is set back while the steps go on (the end of summer time, another time zone)
    makes no negative gap."""
    columns = _of_one_kind(records)
    if "time" in columns:
        columns["time"] = _from_the_line_before(Records(records.line, columns))
    if "clock" in columns:
        clock = columns.pop("clock")
        known = np.isfinite(clock)
        days = np.cumsum(np.diff(clock[known], prepend=clock[known][:1]) < -DAY_S / 2)
        unwrapped = np.full(len(records), np.nan)
        unwrapped[known] = clock[known] + DAY_S * days
        time = columns.get("time")
        columns["time"] = (
            unwrapped if time is None else np.where(np.isfinite(time), time, unwrapped)
        )
    if "time" in columns:
        columns["time"] = _over_new_year(columns["time"])
        columns["time"] = _never_set_back(Records(records.line, columns))
    return Records(records.line, columns)


def _of_one_kind(records: Records) -> dict[str, Floats]:
    """The columns with moments that can be put in order: dates that another program writes into
    the log without a year are of the year of the others; what only has a time of day beside dates
    is left out, or these where they are fewer."""
    columns = dict(records.columns)
    if "time" not in columns and "clock" not in columns:
        return columns
    time, clock = records.column("time"), records.column("clock")
    dated, yearless = time >= _YEARLESS_S, time < _YEARLESS_S
    if dated.any() and yearless.any():
        columns["time"] = np.where(yearless, _in_year_of(time[dated][0], time), time)
    alone = np.isfinite(clock) & np.isnan(time)
    if alone.any() and np.isfinite(time).any():
        columns.pop("clock" if np.isfinite(time).sum() >= alone.sum() else "time")
    return columns


def _in_year_of(moment: float, time: Floats) -> Floats:
    """Moments without a year (of 1972, which had a 29 February) in the year of another."""
    year = datetime.fromtimestamp(moment, timezone.utc).year
    begins = datetime(year, 1, 1, tzinfo=timezone.utc).timestamp()
    since = time - datetime(UNKNOWN_YEAR, 1, 1, tzinfo=timezone.utc).timestamp()
    leaps = (since >= _END_OF_FEBRUARY) & (not isleap(year))
    return begins + since - DAY_S * leaps


def _over_new_year(time: Floats) -> Floats:
    known = np.isfinite(time)
    jumps = np.diff(time[known], prepend=time[known][:1])
    years: Indices = np.cumsum(jumps < -300 * DAY_S) - np.cumsum(jumps > 30_000 * DAY_S)
    yearless = bool((time[known] < _YEARLESS_S).all())
    if not yearless or not bool((years != 0).any()):
        return time
    found: Floats = time.copy()
    found[known] += years * 366 * DAY_S
    return found


#: What may stand beside the moment of a line that is nothing but its beginning.
_BESIDE = ("time", "phase", "rank")


def _from_the_line_before(records: Records) -> Floats:
    """A logger that is given a text with a line break first writes its own time on the line before:
    what counts there, and has no time, has that."""
    time: Floats = records.column("time")
    counts = np.isfinite(records.column("step")) | np.isfinite(records.column("epoch"))
    counts &= np.isnan(time) & np.isnan(records.column("bar_elapsed_s"))
    if not counts.any():
        return time
    bare = np.isfinite(time)
    for role in records.columns:
        if role not in _BESIDE:
            bare &= np.isnan(records.column(role))
    follows = np.append(False, bare[:-1] & (np.diff(records.line) == 1)) & counts
    found: Floats = np.where(follows, np.append(np.nan, time[:-1]), time)
    return found


def _never_set_back(records: Records) -> Floats:
    """What the clock was set back by is added from there on, where the counters go on."""
    time: Floats = records.column("time")
    rows = np.flatnonzero(np.isfinite(time))
    gaps = np.diff(time[rows])
    falls = np.flatnonzero((gaps < -_DISORDER_S) & (gaps > -_WIDEST_S))
    forward = gaps[gaps > 0]
    if not falls.size or not forward.size:
        return time
    longest = max(_SOON_S, _USUAL * float(np.median(forward)))
    found: Floats = time.copy()
    for fall in falls.tolist():
        back = np.ceil(-gaps[fall] / _QUARTER_S) * _QUARTER_S
        if gaps[fall] + back <= longest and _goes_on(records, int(rows[fall + 1])):
            found[rows[fall + 1] :] += back
    return found


def _goes_on(records: Records, row: int) -> bool:
    """Whether the counters after `row` do not lie before those above it."""
    counted = False
    for role in ("epoch", "step"):
        values = records.column(role)
        above, below = _nearest(values[:row][::-1]), _nearest(values[row:])
        if above is None or below is None:
            continue
        if below != above:
            return below > above
        counted = True
    return counted


#: So many rows are looked at to find a counter.
_NEAR = 200


def _nearest(values: Floats) -> float | None:
    near = values[:_NEAR]
    known: Bools = np.isfinite(near)
    return float(near[known][0]) if known.any() else None
