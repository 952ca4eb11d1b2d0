"""How values are made of the digit runs of a line, for all lines of one shape at once.

A *shape* is a line with every digit replaced by 0. Lines of one shape have their digits at the
same places, so a value in all of them is arithmetic on columns of bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from perfdoctor.record import Floats

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0
#: Stands in for the year where a log has none: a leap year, long before any log.
UNKNOWN_YEAR = 1972

Ints = NDArray[np.int64]
_ZERO = ord("0")
#: What fits into 32 bits, into 64.
_SHORT_DIGITS, _EXACT_DIGITS = 9, 18
_MOST_DIGITS = 300


class Runs:
    """The digit runs of lines of one shape: `spans[i]` is where run i stands."""

    def __init__(self, cells: NDArray[np.uint8], spans: list[tuple[int, int]]) -> None:
        self.cells = cells
        self.spans = spans

    def __len__(self) -> int:
        return int(self.cells.shape[0])

    def width(self, i: int) -> int:
        """How many digits run `i` has."""
        start, end = self.spans[i]
        return end - start

    def whole(self, i: int, digits: int | None = None) -> Floats:
        """Run `i` as a number; only its first `digits` digits, if given."""
        start, end = self.spans[i]
        end = end if digits is None else min(end, start + digits)
        if end - start > _EXACT_DIGITS:
            return self._long(start, end)
        kind = np.uint32 if end - start <= _SHORT_DIGITS else np.uint64
        found = self.cells[:, start].astype(kind)
        for column in range(start + 1, end):
            found *= kind(10)
            found += self.cells[:, column]
        # each digit was its character so far; sums beyond the type come back around with this
        found -= kind(int("1" * (end - start)) * _ZERO % 2 ** (8 * found.itemsize))
        return found.astype(np.float64)

    def _long(self, start: int, end: int) -> Floats:
        """Digits beyond those a float can tell apart change nothing, but may overflow it."""
        found = np.zeros(len(self))
        for column in range(start, min(end, start + _MOST_DIGITS)):
            found = found * 10 + (self.cells[:, column].astype(np.float64) - 48)
        return found


class Value(Protocol):
    """Something that runs of digits tell."""

    def read(self, runs: Runs) -> Floats:
        """The value in every line of the shape."""


@dataclass(frozen=True)
class Number:
    """A decimal number. `whole`: several runs where thousands are separated.

    `sums` are runs times a unit each, as in 1 h 23 m; `sum_decimals` the decimals of the last.
    """

    whole: tuple[int, ...]
    decimals: int | None = None
    negative: bool = False
    exponent: int | None = None
    exponent_negative: bool = False
    sums: tuple[tuple[int, float], ...] = ()
    sum_decimals: tuple[int, float] | None = None

    def read(self, runs: Runs) -> Floats:
        """The number in every line."""
        found = runs.whole(self.whole[0]) if self.whole else np.zeros(len(runs))
        for i in self.whole[1:]:
            found = found * 10.0 ** runs.width(i) + runs.whole(i) if found.any() else runs.whole(i)
        if self.decimals is not None:
            found = self._with_decimals(found, runs)
        for i, unit in self.sums:
            found = found + runs.whole(i) * unit
        if self.sum_decimals is not None:
            i, unit = self.sum_decimals
            found = found + runs.whole(i) / 10.0 ** runs.width(i) * unit
        if self.exponent is not None:
            power = runs.whole(self.exponent) * (-1 if self.exponent_negative else 1)
            found = found * 10.0 ** np.clip(power, -300, 300)
        return -found if self.negative else found

    def _with_decimals(self, found: Floats, runs: Runs) -> Floats:
        """One division of one whole number rounds as Python's float() does."""
        assert self.decimals is not None
        digits = min(runs.width(self.decimals), _EXACT_DIGITS - 3)
        scale = 10.0**digits
        result: Floats = (found * scale + runs.whole(self.decimals, digits)) / scale
        return result


@dataclass(frozen=True)
class Clock:
    """A duration or a time of day: days, hours, minutes, seconds and decimals of a second."""

    days: int | None
    hours: int | None
    minutes: int
    seconds: int
    decimals: int | None = None

    def read(self, runs: Runs) -> Floats:
        """Seconds in every line."""
        found = runs.whole(self.minutes) * MINUTE_S + runs.whole(self.seconds)
        if self.hours is not None:
            found = found + runs.whole(self.hours) * HOUR_S
        if self.days is not None:
            found = found + runs.whole(self.days) * DAY_S
        if self.decimals is not None:
            found = found + runs.whole(self.decimals) / 10.0 ** runs.width(self.decimals)
        return found


@dataclass(frozen=True)
class TimeOfDay:
    """A time on a clock of twelve hours: the runs of its hours, minutes, seconds, decimals."""

    times: tuple[int, ...]
    afternoon: bool

    def read(self, runs: Runs) -> Floats:
        """Seconds since midnight in every line."""
        hours = runs.whole(self.times[0]) % 12 + (12.0 if self.afternoon else 0.0)
        found = hours * HOUR_S + runs.whole(self.times[1]) * MINUTE_S
        if len(self.times) > 2:
            found = found + runs.whole(self.times[2])
        if len(self.times) > 3:
            found = found + runs.whole(self.times[3]) / 10.0 ** runs.width(self.times[3])
        return found


@dataclass(frozen=True)
class Moment:
    """A date with a time, in seconds since 1970.

    A missing `day` means that the run before holds several: MMDD (glog) or YYYYMMDD. `zone`: the
    hours and minutes ahead of UTC (behind it where `zone_west`), as two runs or one.
    """

    year: int | None
    month: int | None
    day: int | None
    times: tuple[int, ...]
    month_number: int | None = None
    zone: tuple[int, ...] = ()
    zone_west: bool = False
    twelve: bool = False
    afternoon: bool = False

    def read(self, runs: Runs) -> Floats:
        """Seconds since 1970 in every line."""
        year, month, day = self._date(runs)
        hours = runs.whole(self.times[0])
        if self.twelve:
            hours = hours % 12 + (12.0 if self.afternoon else 0.0)
        found = _days(year, month, day) * DAY_S + hours * HOUR_S - self._zone_s(runs)
        if len(self.times) > 1:
            found = found + runs.whole(self.times[1]) * MINUTE_S
        if len(self.times) > 2:
            found = found + runs.whole(self.times[2])
        if len(self.times) > 3:
            found = found + runs.whole(self.times[3]) / 10.0 ** runs.width(self.times[3])
        return found

    def _zone_s(self, runs: Runs) -> Floats | float:
        if not self.zone:
            return 0.0
        first = runs.whole(self.zone[0])
        alone = len(self.zone) == 1  # HHMM
        hours, minutes = (first // 100, first % 100) if alone else (first, runs.whole(self.zone[1]))
        ahead: Floats = (hours * HOUR_S + minutes * MINUTE_S) * (-1 if self.zone_west else 1)
        return ahead

    def _date(self, runs: Runs) -> tuple[Floats, Floats, Floats]:
        if self.year is not None and self.month is None and self.month_number is None:
            date = runs.whole(self.year)  # YYYYMMDD
            return date // 10_000, date // 100 % 100, date % 100
        if self.day is None:
            assert self.month is not None
            date = runs.whole(self.month)  # MMDD
            return np.full(len(runs), float(UNKNOWN_YEAR)), date // 100, date % 100
        year = np.full(len(runs), float(UNKNOWN_YEAR))
        if self.year is not None:
            year = runs.whole(self.year)
            year = np.where(year < 100, year + 2000, year)
        if self.month is not None:
            month = runs.whole(self.month)
        else:
            month = np.full(len(runs), float(self.month_number or 1))
        return year, month, runs.whole(self.day)


def _days(year: Floats, month: Floats, day: Floats) -> Floats:
    """Days since 1970 of the Gregorian calendar (Howard Hinnant, days_from_civil)."""
    shifted = np.where(month <= 2, year - 1, year)
    era = np.floor(shifted / 400)
    year_of_era = shifted - era * 400
    day_of_year = np.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1
    day_of_era = year_of_era * 365 + np.floor(year_of_era / 4) - np.floor(year_of_era / 100)
    found: Floats = era * 146097 + day_of_era + day_of_year - 719468
    return found
