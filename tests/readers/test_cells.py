"""Numbers, moments and lines as tables hold them."""

from __future__ import annotations

import calendar
import math

import numpy as np
import pytest

from perfdoctor.readers.cells import as_text, lines_of, moment, number, numbers

NOON = float(calendar.timegm((2024, 5, 6, 12, 0, 0)))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("1129 MiB", 1129), ("33.09 W", 33.09), ("5%", 5), ("1,234 MiB", 1234), ("22,8", 22.8),
        ("0,123", 0.123), ("1.234,5 W", 1234.5), ("1,234.5", 1234.5), ("1e3", 1000),
    ],
)  # fmt: skip
def test_numbers_are_read_with_their_units_and_separators(cell: str, expected: float) -> None:
    assert number(cell) == expected


@pytest.mark.parametrize("cell", ["", "-", "[N/A]", "ERR!", "nan", "inf", "9" * 100 + "x", "x5"])
def test_what_is_no_number_is_nan(cell: str) -> None:
    assert np.isnan(number(cell))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2024/05/06 12:00:00.507", NOON + 0.507),
        ("2024-05-06T12:00:00", NOON),
        ("2024-05-06 14:00:00+02:00", NOON),
        ("2024-05-06 04:30:00,5 -0730", NOON + 0.5),
        (str(NOON), NOON),
        (str(NOON * 1000), NOON),
    ],
)
def test_moments_are_read_with_and_without_zone(cell: str, expected: float) -> None:
    assert moment(cell) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("cell", ["2024/13/01 00:00:00", "12:00:00", "17", ""])
def test_what_is_no_moment_is_nan(cell: str) -> None:
    assert np.isnan(moment(cell))


def test_lines_end_as_on_any_system_and_huge_ones_are_not_looked_at() -> None:
    assert lines_of("a\r\nb\rc\n" + "x" * 10_000) == ["a", "b", "c", ""]
    assert as_text(b"\xef\xbb\xbfa\xff") == "a\ufffd"


def test_a_column_is_read_cell_by_cell() -> None:
    assert list(numbers(["1 %", "2 %", "1 %"])) == [1, 2, 1]


@pytest.mark.parametrize("cell", ["1e308", "-1e300", "inf", "nan"])
def test_a_number_that_no_counter_reaches_is_none(cell: str) -> None:
    assert math.isnan(number(cell))
