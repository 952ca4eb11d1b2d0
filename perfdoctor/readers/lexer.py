"""One line of text → the values in it: numbers, fractions, durations, moments.

Every pattern is linear: repeats are bounded or cannot overlap with what follows, and no token may
begin inside a run of digits. The caller bounds the length of a line as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from perfdoctor.readers.values import (
    DAY_S,
    HOUR_S,
    MINUTE_S,
    Clock,
    Moment,
    Number,
    TimeOfDay,
    Value,
)

_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_MONTH_NUMBER = {name: i + 1 for i, name in enumerate(_MONTHS.split("|"))}
_HMS = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,:][0-9]{1,9})?)?"
_ZONE = r"(?: ?Z| ?UTC| ?[+-][0-9]{2}:?[0-9]{2}(?![0-9:]))?"
_HALF = r"(?: ?[AP]M(?![A-Za-z0-9]))?"
_PART = (
    r"(?:days?|d|hours?|hrs?|h|minutes?|mins?|msecs?|ms|m|seconds?|secs?|s|小时|时|分钟|分|秒钟|秒)"
)
_MORE = rf"(?:,? and |,? ?|又)[0-9]{{1,7}}(?:\.[0-9]{{1,9}})? ?{_PART}(?![A-Za-z/])"

#: In order: what comes first wins where several fit.
_TOKENS = re.compile(
    "|".join(
        f"(?P<{name}>{pattern})"
        for name, pattern in {
            # positions in source code, addresses and identifiers hold digits that mean nothing
            "place": r"[(\[][A-Za-z_][\w.]{0,60}:[0-9]{1,6}[)\]]",
            "source": r"[\w\-]{1,80}\.(?:py|cc|cpp|cu|rs|go|cuh)[\"']?(?:[:, (]+(?:line )?[0-9]+)?",
            "address": r"(?<![A-Za-z])(?:https?|s3|gs|hdfs)://[^\s\"'<>]{1,400}",
            "hexadecimal": r"(?<!\w)0x[0-9a-fA-F]{1,32}(?!\w)",
            "ymd": rf"(?<![\w.])[0-9]{{4}}[-/.][0-9]{{1,2}}[-/.][0-9]{{1,2}}(?:[T ,_-]{{1,2}}"
            rf"{_HMS}{_HALF}{_ZONE})?(?![0-9])",
            "chinese": r"(?<![0-9])[0-9]{4}年[0-9]{1,2}月[0-9]{1,2}日 ?"
            r"[0-9]{1,2}[:：时][0-9]{1,2}[:：分][0-9]{1,2}",
            "dmy": rf"(?<![\w./])[0-9]{{1,2}}[-/.][0-9]{{1,2}}[-/.](?:[0-9]{{4}}|[0-9]{{2}})"
            rf"[T ,]{{1,2}}{_HMS}(?: ?[AP]M)?",
            # "12/28/22 - 09:35.53PM", as GloVe writes it
            "dotted": r"(?<![\w./])[0-9]{1,2}/[0-9]{1,2}/(?:[0-9]{4}|[0-9]{2}) ?-? "
            r"[0-9]{1,2}:[0-9]{2}\.[0-9]{2} ?[AP]M(?![A-Za-z])",
            "version": r"(?<![\w.])v?[0-9]{1,5}(?:\.[0-9]{1,9}){2,5}(?:[+\w.]{1,20})?(?![\w:])",
            "yearless": r"(?<![\w./])[0-9]{1,2}[-/.][0-9]{1,2}[ _T][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}"
            r"(?:[.,][0-9]{1,9})?(?: ?[AP]M(?![A-Za-z]))?",
            "english": rf"(?<![A-Za-z])(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{{0,6}},? {{1,2}})?"
            rf"(?:{_MONTHS})[a-z]{{0,6}}\.? {{1,2}}[0-9]{{1,2}}(?:, ?[0-9]{{4}})?,? {{1,2}}"
            rf"[0-9]{{1,2}}:[0-9]{{2}}:[0-9]{{2}}(?: ?[AP]M)?(?: [A-Z]{{2,5}})?(?: [0-9]{{4}})?",
            "day_month": rf"(?<![\w])[0-9]{{1,2}}[- ](?:{_MONTHS})[a-z]{{0,6}}[-, ]{{1,2}}"
            rf"[0-9]{{4}}[ ,T]{{1,2}}{_HMS}{_HALF}",
            "day_and_month": rf"(?<![\w])[0-9]{{1,2}}[- ](?:{_MONTHS})[a-z]{{0,6}}[, ]{{1,2}}"
            rf"[0-9]{{1,2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:[.,][0-9]{{1,9}})?)?(?![\w:])",
            # PyTorch's own lines write the month without a zero: "W514 09:01:22.104117211"
            "glog": r"(?<![\w])[IWEFDC][0-9]{3,4} {1,2}[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{1,9}"
            r"(?: {1,9}[0-9]{1,20} {1,2}[\w.\-]{1,80}:[0-9]{1,6}\])?",
            "compact": r"(?<![\w])[0-9]{8}[-_ T][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?",
            "identifier": r"(?<![\w])[0-9]{8}[-_][0-9]{4,6}(?![\w])",
            "days": r"(?<![A-Za-z0-9_.])[0-9]{1,5} ?(?:days?|d|天),? {0,2}"
            r"[0-9]{1,2}:[0-9]{2}:[0-9]{2}"
            r"(?:\.[0-9]{1,9})?",
            "compound": rf"(?<![A-Za-z0-9_.])[0-9]{{1,7}}(?:\.[0-9]{{1,9}})? ?{_PART}(?![A-Za-z/])"
            rf"{_MORE}(?:{_MORE})?(?:{_MORE})?",
            # "10:07 PM": when, not how long
            "twelve": r"(?<![A-Za-z0-9_:.])[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)? ?"
            r"[AP]M(?![A-Za-z0-9])",
            "hms": r"(?<![A-Za-z0-9_:.])[0-9]{1,5}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?(?![\w:])",
            "ms": r"(?<![A-Za-z0-9_:.])[0-9]{1,5}:[0-9]{2}(?:\.[0-9]{1,9})?(?![\w:])",
            "fraction": r"(?<![A-Za-z0-9_.])[0-9]{1,12}(?: {0,3}/ {0,6}| of )[0-9]{1,12}"
            r"(?![\w.]*[./][0-9])(?![0-9])",
            "attached": r"(?<![A-Za-z])(?:[Ee]poch|EPOCH|[Ss]tep|[Ii]ter|[Bb]atch|[Rr]ank|RANK"
            r"|[Ee]p)(?=_?[0-9]{1,12}(?![\w.]*[A-Za-z_]))_?",
            "number": r"(?<![A-Za-z0-9_.])[-+]?"
            r"(?:(?:[0-9]{1,3}(?:,[0-9]{3}){1,6}(?!,?[0-9])|[0-9]{1,40})"
            r"(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,4}(?![\w]))?",
            "missing": r"(?<![\w])[-+]?"
            r"(?:nan|NaN|NAN|inf|Inf|INF|[Ii]nfinity|None|null|N/A)(?![\w])",
        }.items()
    )
)
_DECIMAL_COMMA = re.compile(
    r"(?<![\w.])[-+]?(?:[0-9]{1,3}(?:\.[0-9]{3}){1,6}|[0-9]{1,40}),[0-9]{1,40}(?!,?[0-9])"
    r"(?:[eE][-+]?[0-9]{1,4}(?![\w]))?"
)
#: "14.400": where commas are decimal, a point parts thousands.
_THOUSANDS = re.compile(r"[-+]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+")
_DIGITS = re.compile(r"[0-9]+")
_LETTERS = re.compile(r"[A-Za-z\u4e00-\u9fff]+")
_PART_S = {"d": DAY_S, "h": HOUR_S, "m": MINUTE_S, "s": 1.0}
_PART_S |= {"ms": 1e-3, "msec": 1e-3, "msecs": 1e-3}
_PART_S |= {"天": DAY_S, "小": HOUR_S, "时": HOUR_S, "分": MINUTE_S, "秒": 1.0}


class Kind(Enum):
    """What a token is."""

    NUMBER = "number"
    FRACTION = "fraction"
    DURATION = "duration"
    CLOCK = "clock"  # h:mm:ss: a time of day or a duration, as its place tells
    MINUTES = "minutes"  # m:ss
    TIME_OF_DAY = "time of day"  # its half of the day says so
    MOMENT = "moment"
    MISSING = "missing"
    OPAQUE = "opaque"


@dataclass(frozen=True)
class Token:
    """A value at `start`–`end` of the line. `whole` is the second part of a fraction."""

    kind: Kind
    start: int
    end: int
    value: Value | None = None
    whole: Value | None = None
    integer: bool = False


@dataclass(frozen=True)
class Dialect:
    """What a whole file decides about its numbers."""

    decimal_comma: bool = False
    day_first: bool = False


def tokens(line: str, dialect: Dialect) -> Iterator[Token]:
    """The values of `line` from left to right."""
    runs = [match.span() for match in _DIGITS.finditer(line)]
    ordinal = {start: i for i, (start, _) in enumerate(runs)}
    position = 0
    while (match := _TOKENS.search(line, position)) is not None:
        name, (start, end) = str(match.lastgroup), match.span()
        if name == "number" and dialect.decimal_comma:
            comma = _DECIMAL_COMMA.match(line, start)
            end = comma.end() if comma is not None and comma.end() > end else end
        position = max(end, start + 1)
        if name != "attached":  # the word before a number: the number itself comes next
            yield _token(name, line, start, end, runs, ordinal, dialect)
        else:
            number = _DIGITS.match(line, end)
            assert number is not None
            value = Number(_ordinals(runs, ordinal, end, number.end()))
            yield Token(Kind.NUMBER, end, number.end(), value, integer=True)
            position = number.end()


def _ordinals(
    runs: list[tuple[int, int]], ordinal: dict[int, int], start: int, end: int
) -> tuple[int, ...]:
    """The numbers of the digit runs between two positions. A token never begins inside a run."""
    first = next((ordinal[i] for i in range(start, end) if i in ordinal), None)
    if first is None:
        return ()
    found = []
    for i in range(first, len(runs)):
        if runs[i][0] >= end:
            break
        found.append(i)
    return tuple(found)


def _token(
    name: str,
    line: str,
    start: int,
    end: int,
    runs: list[tuple[int, int]],
    ordinal: dict[int, int],
    dialect: Dialect,
) -> Token:
    text = line[start:end]
    found = _ordinals(runs, ordinal, start, end)
    match name:
        case "number":
            return _number(text, start, end, found, dialect)
        case "fraction":
            part, whole = Number(found[:1]), Number(found[1:])
            return Token(Kind.FRACTION, start, end, part, whole, integer=True)
        case "hms" | "ms":
            kind = Kind.CLOCK if name == "hms" else Kind.MINUTES
            return Token(kind, start, end, _clock(found, text.count(":")))
        case "twelve":
            return Token(Kind.TIME_OF_DAY, start, end, TimeOfDay(found, text.endswith("PM")))
        case "days":
            value = Clock(found[0], found[1], found[2], found[3], _nth(found, 4))
            return Token(Kind.DURATION, start, end, value)
        case "compound":
            return Token(Kind.DURATION, start, end, _compound(text, found))
        case "missing":
            return Token(Kind.MISSING, start, end)
        case "place" | "address" | "source" | "hexadecimal" | "version" | "identifier":
            return Token(Kind.OPAQUE, start, end)
    moment = _moment(name, text, found, dialect)
    return Token(Kind.OPAQUE if moment is None else Kind.MOMENT, start, end, moment)


def _number(text: str, start: int, end: int, found: tuple[int, ...], dialect: Dialect) -> Token:
    negative = text.startswith("-")
    mantissa, _, power = text.lower().partition("e")
    exponent = found[-1] if power else None
    digits = found[:-1] if power else found
    if dialect.decimal_comma and ("," in mantissa or _THOUSANDS.fullmatch(mantissa)):
        mantissa = mantissa.replace(".", "").replace(",", ".")
    point = "." in mantissa
    after = point and not mantissa.endswith(".")
    value = Number(
        whole=digits[:-1] if after else digits,
        decimals=digits[-1] if after else None,
        negative=negative,
        exponent=exponent,
        exponent_negative=power.startswith("-"),
    )
    return Token(Kind.NUMBER, start, end, value, integer=not point and not power)


def _nth(found: tuple[int, ...], i: int) -> int | None:
    return found[i] if len(found) > i else None


def _clock(found: tuple[int, ...], colons: int) -> Clock:
    if colons == 2:
        return Clock(None, found[0], found[1], found[2], _nth(found, 3))
    return Clock(None, None, found[0], found[1], _nth(found, 2))


def _compound(text: str, found: tuple[int, ...]) -> Number:
    """ "1 h 23 m 45.6 s" as a sum of digit runs, each times its unit."""
    scaled: list[tuple[int, float]] = []
    decimals: tuple[int, float] | None = None
    position = 0
    values = iter(found)
    for match in _LETTERS.finditer(text):
        if match.group() == "and":
            position = match.end()
            continue
        word = match.group().lower()
        unit_s = _PART_S.get(word) or _PART_S[word[0]]
        scaled.append((next(values), unit_s))
        if "." in text[position : match.start()]:
            decimals = (next(values), unit_s)
        position = match.end()
    return Number(whole=(), sums=tuple(scaled), sum_decimals=decimals)


def _moment(name: str, text: str, found: tuple[int, ...], dialect: Dialect) -> Moment | None:
    half = _HALF_OF_DAY.search(text)
    twelve, afternoon = half is not None, half is not None and half.group() == "PM"
    if name in ("ymd", "chinese"):
        if len(found) < 5:
            return None  # a date alone tells no time
        zone = _zone(text)
        ahead = () if zone is None else found[-1 - len(zone.group(2)) :]
        times = found[3 : min(7, len(found) - len(ahead))]
        west = zone is not None and zone.group(1) == "-"
        return Moment(found[0], found[1], found[2], times, zone=ahead, zone_west=west,
                      twelve=twelve, afternoon=afternoon)  # fmt: skip
    if name == "compact":
        return Moment(found[0], None, None, found[1:5])
    if name == "glog":
        return Moment(None, found[0], None, found[1:5])
    if name == "english":
        month = next(n for m, n in _MONTH_NUMBER.items() if m in text)
        year_first = re.search(r", ?[0-9]{4}", text) is not None
        year_last = re.search(r" [0-9]{4}$", text) is not None
        year = found[1] if year_first else found[-1] if year_last else None
        times = found[2:5] if year_first else found[1:4]
        return Moment(year, None, found[0], times, month_number=month, twelve=twelve,
                      afternoon=afternoon)  # fmt: skip
    if name == "day_month":
        month = next(n for m, n in _MONTH_NUMBER.items() if m in text)
        return Moment(found[1], None, found[0], found[2:6], month_number=month, twelve=twelve,
                      afternoon=afternoon)  # fmt: skip
    if name == "day_and_month":
        month = next(n for m, n in _MONTH_NUMBER.items() if m in text)
        return Moment(None, None, found[0], found[1:5], month_number=month)
    day, month_run = (found[0], found[1]) if dialect.day_first else (found[1], found[0])
    if name == "yearless":
        return Moment(None, month_run, day, found[2:6], twelve=twelve, afternoon=afternoon)
    return Moment(found[2], month_run, day, found[3:7], twelve=twelve, afternoon=afternoon)


_HALF_OF_DAY = re.compile(r"[AP]M\b")
_ZONE_AT_END = re.compile(r"([+-])[0-9]{2}(:?)[0-9]{2}$")


def _zone(text: str) -> re.Match[str] | None:
    found = _ZONE_AT_END.search(text)
    return found if found is not None and ":" in text[: found.start()] else None
