"""Tokens of a line and their values."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor.readers.lexer import Dialect, Kind, Token, tokens
from perfdoctor.readers.values import Runs, Value

ISO = Dialect()
COMMA = Dialect(decimal_comma=True)
DAY_FIRST = Dialect(day_first=True)


def runs_of(line: str) -> Runs:
    """One line as the matrix that values are read from. Only ASCII: columns are bytes."""
    raw = line.encode("ascii")
    spans = [match.span() for match in re.finditer(rb"[0-9]+", raw)]
    return Runs(np.frombuffer(raw, np.uint8)[None, :], spans)


def found(line: str, dialect: Dialect = ISO) -> list[Token]:
    return list(tokens(line, dialect))


def number(value: Value | None, line: str) -> float:
    assert value is not None
    return float(value.read(runs_of(line))[0])


def only(line: str, dialect: Dialect = ISO) -> tuple[Kind, float]:
    """The single token of a line: its kind and value."""
    [token] = found(line, dialect)
    return token.kind, number(token.value, line)


def stamp(text: str, dialect: Dialect = ISO) -> float:
    kind, value = only(text, dialect)
    assert kind == Kind.MOMENT
    return value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0), ("42", 42), ("-42", -42), ("+7", 7), ("007", 7), ("3.25", 3.25), (".5", 0.5),
        ("3.", 3),
        ("-0.001", -0.001), ("1e5", 1e5), ("1E-05", 1e-5), ("1.773009e-02", 1.773009e-02),
        ("-2.5e+03", -2500.0), ("1,234", 1234), ("1,234,567.5", 1234567.5), ("12,345", 12345),
        ("100000000000000000000", 1e20),
    ],
)  # fmt: skip
def test_numbers_are_read_as_they_are_printed(text: str, expected: float) -> None:
    kind, value = only(text)
    assert kind == Kind.NUMBER
    assert value == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0,25", 0.25), ("12,5", 12.5), ("1.234,5", 1234.5), ("3", 3), ("-2,71", -2.71)]
)  # fmt: skip
def test_decimal_commas_are_read_where_the_file_uses_them(text: str, expected: float) -> None:
    assert only(text, COMMA) == (Kind.NUMBER, expected)


def test_a_comma_between_two_numbers_separates_them_where_the_file_uses_points() -> None:
    assert [number(t.value, "0.1, 25") for t in found("0.1, 25")] == [0.1, 25]


@pytest.mark.parametrize(
    ("text", "part", "whole"),
    [
        ("3/10", 3, 10),
        ("[  50/1251]", 50, 1251),
        ("0 / 99", 0, 99),
        ("16000/ 281250", 16000, 281250),
    ],
)
def test_a_fraction_has_a_part_and_a_whole(text: str, part: int, whole: int) -> None:
    [token] = found(text)
    assert token.kind == Kind.FRACTION
    assert (number(token.value, text), number(token.whole, text)) == (part, whole)


@pytest.mark.parametrize(
    ("text", "kind", "seconds"),
    [
        ("02:28", Kind.MINUTES, 148), ("00:02.5", Kind.MINUTES, 2.5), ("1:02:03", Kind.CLOCK, 3723),
        ("436:08:39", Kind.CLOCK, 1570119), ("0:00:01.250", Kind.CLOCK, 1.25),
        ("2 days, 3:04:05", Kind.DURATION, 183845), ("1 day, 0:00:01.5", Kind.DURATION, 86401.5),
        ("1d 02:00:00", Kind.DURATION, 93600), ("1h 23m 45.6s", Kind.DURATION, 5025.6),
        ("2m30s", Kind.DURATION, 150), ("1 hour and 5 minutes", Kind.DURATION, 3900),
        ("5 min 3 sec", Kind.DURATION, 303),
    ],
)  # fmt: skip
def test_durations_in_several_units_are_one_value(text: str, kind: Kind, seconds: float) -> None:
    got, value = only(text)
    assert (got, value) == (kind, pytest.approx(seconds))


def test_chinese_units_of_time_add_up_as_well() -> None:
    [token] = found("用时 1小时2分3秒")
    # digits stand at the same places where each Chinese character is one byte
    assert number(token.value, "xx 1xx2x3x") == 3723


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-inf", "Infinity", "None", "null", "N/A"])
def test_words_for_no_value_are_values_that_are_missing(text: str) -> None:
    [token] = found(f"loss {text} x")
    assert (token.kind, token.value) == (Kind.MISSING, None)


@pytest.mark.parametrize(
    "text",
    [
        "(trainer.py:123)",
        "train.py:45:",
        "[train_loop:77]",
        "0x7f3a9c00",
        "v1.13.1",
        "2.1.0+cu118",
        "20240501_120000",
    ],
)
def test_places_addresses_and_versions_are_no_values(text: str) -> None:
    assert [t for t in found(text) if t.kind != Kind.OPAQUE] == []


def test_a_date_without_a_time_tells_no_moment() -> None:
    assert [t.kind for t in found("2024-05-01")] == [Kind.OPAQUE]


@pytest.mark.parametrize("text", ["Epoch12", "step_12", "iter12", "rank3", "Epoch001"])
def test_a_number_right_behind_a_counter_s_name_is_a_number(text: str) -> None:
    kind, value = only(text)
    assert (kind, value) == (Kind.NUMBER, float(re.sub(r"\D", "", text)))


@pytest.mark.parametrize("text", ["resnet50", "mixed_7c", "sha256sum", "layer4a", "x264"])
def test_digits_inside_names_are_no_numbers(text: str) -> None:
    assert [t for t in found(text) if t.kind == Kind.NUMBER] == []


@given(st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_any_text_has_tokens_from_left_to_right(line: str) -> None:
    for dialect in (ISO, COMMA, DAY_FIRST):
        position = 0
        for token in tokens(line, dialect):
            assert position <= token.start <= token.end <= len(line)
            position = token.end


_LOGGISH = st.lists(
    st.sampled_from(
        [*"0123456789", *":/.,-+ ()[]|=%eE", "12", "2024", "Jan ", "Mon ", "1:02:03", "nan",
        "step ", "h ", "ms",
         "年", "月", "日 ", "秒", " and ", "PM", "+01:00", "\t", "Z", "T", "days, ", "0x", ".py",
         "I0501 "]
    ),
    max_size=40,
).map("".join)  # fmt: skip


@given(_LOGGISH)
@settings(max_examples=400, deadline=None)
def test_every_value_of_text_like_a_log_s_can_be_read(line: str) -> None:
    digits = re.sub(r"[^\x00-\x7f]", "x", line)
    for dialect in (ISO, COMMA, DAY_FIRST):
        for token in tokens(line, dialect):
            for value in (token.value, token.whole):
                if value is not None:
                    assert value.read(runs_of(digits)).shape == (1,)


@given(st.integers(-(10**15), 10**15))
@settings(max_examples=150, deadline=None)
def test_whole_numbers_come_back_exactly(value: int) -> None:
    assert only(f"{value}") == (Kind.NUMBER, value)
    assert only(f"{value:,}") == (Kind.NUMBER, value)


@given(st.floats(-1e6, 1e6), st.integers(1, 8))
@settings(max_examples=200, deadline=None)
def test_decimals_come_back_exactly_as_python_reads_them(value: float, digits: int) -> None:
    text = f"{value:.{digits}f}"
    assert only(text) == (Kind.NUMBER, float(text))


@given(st.floats(1e-30, 1e30), st.sampled_from(["", "-"]))
@settings(max_examples=200, deadline=None)
def test_any_form_of_a_float_comes_back(value: float, sign: str) -> None:
    for text in (f"{sign}{value!r}", f"{sign}{value:.6e}", f"{sign}{value:g}", f"{sign}{value:E}"):
        kind, read = only(text)
        assert kind == Kind.NUMBER
        assert read == pytest.approx(float(text), rel=4e-15)


@given(st.integers(0, 99_999), st.integers(0, 59), st.integers(0, 59))
@settings(max_examples=100, deadline=None)
def test_hours_minutes_and_seconds_come_back(hours: int, minutes: int, seconds: int) -> None:
    expected = hours * 3600 + minutes * 60 + seconds
    assert only(f"{hours}:{minutes:02d}:{seconds:02d}") == (Kind.CLOCK, expected)
    assert only(f"{minutes:02d}:{seconds:02d}") == (Kind.MINUTES, minutes * 60 + seconds)


@given(st.integers(86_400, 10**8), st.integers(0, 999_999))
@settings(max_examples=100, deadline=None)
def test_python_s_durations_come_back(seconds: int, micros: int) -> None:
    text = str(timedelta(seconds=seconds, microseconds=micros))
    kind, value = only(text)
    assert (kind, value) == (Kind.DURATION, pytest.approx(seconds + micros / 1e6, abs=1e-6))


MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2060, 12, 31)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
SECONDS = (
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y/%m/%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%d %H:%M:%S UTC", "%Y.%m.%d %H:%M:%S", "%d-%b-%Y %H:%M:%S", "%a %b %d %H:%M:%S %Y",
    "%B %d, %Y %H:%M:%S", "%Y%m%d-%H:%M:%S", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p",
    "%Y-%m-%d, %H:%M:%S", "%a %b %d %H:%M:%S UTC %Y",
)  # fmt: skip


@pytest.mark.parametrize("form", SECONDS)
@given(moment=MOMENTS)
@settings(max_examples=25, deadline=None)
def test_time_stamps_come_back(form: str, moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    assert stamp(moment.strftime(form)) == moment.replace(tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S,", "%Y-%m-%dT%H:%M:%S.", "%Y/%m/%d %H:%M:%S."])
@given(moment=MOMENTS)
@settings(max_examples=25, deadline=None)
def test_time_stamps_with_milliseconds_come_back(form: str, moment: datetime) -> None:
    text = moment.strftime(form) + f"{moment.microsecond // 1000:03d}"
    expected = moment.replace(tzinfo=timezone.utc).timestamp()
    assert stamp(text) == pytest.approx(expected, abs=1e-4)


@given(MOMENTS, st.integers(-14 * 4, 14 * 4))
@settings(max_examples=60, deadline=None)
def test_time_stamps_with_a_zone_are_moments_of_the_world(moment: datetime, quarters: int) -> None:
    zone = timezone(timedelta(minutes=15 * quarters))
    there = moment.replace(microsecond=250_000, tzinfo=zone)
    expected = there.timestamp()
    assert stamp(there.isoformat()) == pytest.approx(expected, abs=1e-4)
    assert stamp(there.strftime("%Y-%m-%dT%H:%M:%S.%f%z")) == pytest.approx(expected, abs=1e-4)


@given(MOMENTS, st.integers(-14 * 4, 14 * 4))
@settings(max_examples=60, deadline=None)
def test_a_zone_right_behind_whole_seconds_is_no_fraction(moment: datetime, quarters: int) -> None:
    there = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=15 * quarters)))
    assert stamp(there.isoformat()) == there.timestamp()


@given(MOMENTS)
@settings(max_examples=40, deadline=None)
def test_days_come_first_where_the_file_shows_that_they_do(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    expected = moment.replace(tzinfo=timezone.utc).timestamp()
    for form in ("%d/%m/%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%d-%m-%Y %H:%M:%S"):
        assert stamp(moment.strftime(form), DAY_FIRST) == expected


@given(MOMENTS)
@settings(max_examples=40, deadline=None)
def test_stamps_without_a_year_keep_their_distances(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, year=2024)
    new_year = datetime(2024, 1, 1)
    for form in ("%m-%d %H:%M:%S", "%m/%d %H:%M:%S", "I%m%d %H:%M:%S.000000", "%b %d %H:%M:%S"):
        distance = stamp(moment.strftime(form)) - stamp(new_year.strftime(form))
        assert distance == (moment - new_year).total_seconds()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10:07 PM", 79620), ("10:07 AM", 36420), ("12:30 AM", 1800), ("12:30PM", 45000),
     ("1:02:03 PM", 46923), ("01:02:03.250 AM", 3723.25)],
)  # fmt: skip
def test_a_clock_of_twelve_hours_tells_when_and_not_how_long(text: str, seconds: float) -> None:
    assert only(text) == (Kind.TIME_OF_DAY, pytest.approx(seconds))


@pytest.mark.parametrize("text", ["10:07 PMI", "10:07 pm25", "10:07 per"])
def test_a_word_behind_minutes_is_no_half_of_a_day(text: str) -> None:
    assert found(text)[0].kind == Kind.MINUTES


@pytest.mark.parametrize(
    "text",
    ["2024-03-01 10:07:15 PM", "2024/03/01 10:07:15.000 PM", "2024-03-01 10:07:15 PM +00:00",
     "01-Mar-2024 10:07:15 PM", "Fri Mar  1 10:07:15 PM UTC 2024", "3/1/2024 10:07:15 PM",
     "2024-03-01 22:07:15 PM", "2024-03-01 22:07:15"],
)  # fmt: skip
def test_a_date_may_stand_before_a_clock_of_twelve_hours(text: str) -> None:
    assert stamp(text) == datetime(2024, 3, 1, 22, 7, 15, tzinfo=timezone.utc).timestamp()


def test_twelve_in_the_night_is_the_beginning_of_the_day() -> None:
    midnight = stamp("2024-03-01 12:00:00 AM")
    assert midnight == stamp("2024-03-01 00:00:00")
    assert stamp("2024-03-01 12:00:00 PM") - midnight == 12 * 3600
