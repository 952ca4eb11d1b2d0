"""Small things that tables and documents are made of: text, lines, numbers, moments."""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from perfdoctor.record import Floats

#: No line of a table is longer; what is longer is not looked at.
MAX_LINE = 4096
_MAX_NUMBER = 40
#: No counter is as large; sums of numbers near the largest float overflow.
_MOST = 1e18
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_NEWLINE = re.compile(r"\r\n|\r|\n")
_MOMENT = re.compile(
    r"([0-9]{4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,2})[ T]{1,2}"
    r"([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,9}))? ?(Z|UTC|[+-][0-9]{2}:?[0-9]{2})?"
)
#: From 1973 to the year 5138; no count of milliseconds lies in between.
_SECONDS_SINCE_1970 = (1e8, 1e11)


def as_text(data: str | bytes) -> str:
    """`data` decoded: UTF-8, or UTF-16 with its mark (PowerShell's `>` writes that)."""
    if isinstance(data, str):
        return data.removeprefix("\ufeff")
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace")
    return data.decode("utf-8", errors="replace")


def lines_of(text: str) -> list[str]:
    """The lines; item i is line i + 1. One that is too long to be a table's is empty."""
    return [line if len(line) <= MAX_LINE else "" for line in _NEWLINE.split(text)]


def line_count(text: str) -> int:
    """How many lines there are; a newline at the end begins none."""
    return text.count("\n") + (1 if text and not text.endswith("\n") else 0)


def number(cell: str) -> float:
    """The number that a cell begins with, whatever its unit; NaN where there is none.

    A comma followed by three digits parts thousands, any other one decimals.
    """
    try:
        found = float(cell)
    except ValueError:
        found = _number_with_unit(cell)
    return found if abs(found) < _MOST else math.nan


def numbers(cells: Sequence[str]) -> Floats:
    """`number` of each cell. Counters repeat: what was seen is not parsed again."""
    known = {cell: number(cell) for cell in set(cells)}
    return np.array([known[cell] for cell in cells], np.float64)


def _number_with_unit(cell: str) -> float:
    parts = cell[: 4 * _MAX_NUMBER].split(None, 1)
    token = parts[0].strip("[]%°CW") if parts else ""
    if not token or len(token) > _MAX_NUMBER:
        return math.nan
    try:
        return float(_plain(token))
    except ValueError:
        return math.nan


def _plain(token: str) -> str:
    if "," not in token:
        return token
    if "." in token:
        decimal_comma = token.rfind(",") > token.rfind(".")
    else:
        head, *groups = token.split(",")
        decimal_comma = head.strip("+-") == "0" or any(len(group) != 3 for group in groups)
    if decimal_comma:
        return token.replace(".", "").replace(",", ".")
    return token.replace(",", "")


def moment(cell: str) -> float:
    """Seconds since 1970 of a date with a time, or of a number of (milli)seconds; else NaN.

    Without a zone it is taken as UTC.
    """
    match = _MOMENT.fullmatch(cell.strip()[:_MAX_NUMBER])
    if match is None:
        return _epoch_seconds(cell)
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        when = datetime(year, month, day, hour, minute, min(second, 59))
    except ValueError:
        return math.nan
    fraction = float(f"0.{match[7]}") if match[7] else 0.0
    return calendar.timegm((when - _offset(match[8])).timetuple()) + fraction


def _epoch_seconds(cell: str) -> float:
    try:
        found = float(cell)
    except ValueError:
        return math.nan
    low, high = _SECONDS_SINCE_1970
    if low <= found < high:
        return found
    return found / 1000 if low <= found / 1000 < high else math.nan


def _offset(zone: str | None) -> timedelta:
    if not zone or zone in ("Z", "UTC"):
        return timedelta()
    minutes = int(zone[1:3]) * 60 + int(zone[-2:])
    return timedelta(minutes=-minutes if zone[0] == "-" else minutes)
