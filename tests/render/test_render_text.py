from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdoctor.render import text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "not measured"),
        (math.nan, "not measured"),
        (math.inf, "not measured"),
        (0.0, "0 s"),
        (3.2e-7, "320 ns"),
        (8.5e-4, "850 µs"),
        (9.996e-4, "1.00 ms"),
        (0.0123, "12.3 ms"),
        (0.12345, "123 ms"),
        (1.2449, "1.24 s"),
        (59.97, "1 min 0 s"),
        (200.0, "3 min 20 s"),
        (7500.0, "2 h 5 min"),
        (-0.0123, "-12.3 ms"),
    ],
)
def test_seconds_read_as_people_say_them(value: float | None, shown: str) -> None:
    assert text.seconds(value) == shown


@given(st.floats(min_value=1e-9, max_value=59.9))
def test_seconds_keep_three_significant_digits(value: float) -> None:
    digits, unit = text.seconds(value).split(" ")
    read = float(digits) * {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}[unit]
    assert read == pytest.approx(value, rel=0.0051)
    assert 1 <= float(digits) < 1000


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "not measured"),
        (0.0, "0 %"),
        (0.0004, "<0.1 %"),
        (0.042, "4.2 %"),
        (0.713, "71 %"),
        (0.9961, "99.6 %"),
        (0.9996, ">99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_a_share_is_never_rounded_to_nothing_or_to_all(value: float | None, shown: str) -> None:
    assert text.share(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "not measured"), (0, "0 B"), (512, "512 B"), (1023.9, "1.00 KiB"), (1.3e9, "1.21 GiB")],
)
def test_bytes_are_in_binary_units(value: float | None, shown: str) -> None:
    assert text.bytes_(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "not measured"),
        (0.16, "0.160 steps/s"),
        (12.94, "12.9 steps/s"),
        (1240.4, "1,240 steps/s"),
        (2.5e8, "250 M steps/s"),
    ],
)
def test_rates_have_their_unit(value: float | None, shown: str) -> None:
    assert text.count_per_s(value, "steps") == shown


def test_a_speedup_comes_with_its_interval_where_there_is_one() -> None:
    assert text.speedup_interval(1.42, 1.25, 1.6) == "1.42× (1.25–1.60×)"
    assert text.speedup_interval(12.34, 9.999, 20.0) == "12.3× (10.0–20.0×)"
    assert text.speedup_interval(1.42, None, None) == "1.42×"
    assert text.speedup_interval(None, None, None) == "not measured"


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.0123, "s", "12.3 ms"),
        (2_400_000, "bytes", "2.29 MiB"),
        (48e6, "bytes/s", "45.8 MiB/s"),
        (0.39e12, "FLOP/s", "390 GFLOP/s"),
        (0.71, "share", "71 %"),
        (93.0, "%", "93 %"),
        (1.31, "×", "1.31×"),
        (2.0, "workers", "2 workers"),
        (0.0, "", "0"),
        (None, "s", "not measured"),
        (math.nan, "workers", "not measured"),
    ],
)
def test_a_quantity_is_shown_in_its_unit(value: float | None, unit: str, shown: str) -> None:
    assert text.quantity(value, unit) == shown


def test_a_part_and_its_whole_share_one_unit() -> None:
    assert text.part_of(0.12e12, 0.39e12, "FLOP/s") == "120 of 390 GFLOP/s"
    assert text.part_of(0.45 * 2**30, 12 * 2**30, "bytes/s") == "0.450 of 12.0 GiB/s"
    assert text.part_of(1200.0, 2400.0, "rows/s") == "1,200 of 2,400 rows/s"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil\x07link\x1b]8;;\x07", "link"),
        ("\x1b]0;title\x1b\\rest", "rest"),
        ("\x9b2Jcleared", "cleared"),
        ("a\x1bb\x07\x00\x7f\x80", "ab"),
        ("two\r\nlines\tand\x0btabs", "two lines and tabs"),
        ("photo\udce9.jpg", "photo\ufffd.jpg"),
        ("user\u202egpj.exe", "usergpj.exe"),
        ("模型 [bold] $x$", "模型 [bold] $x$"),
    ],
)
def test_clean_keeps_letters_and_drops_whatever_steers_a_terminal(raw: str, shown: str) -> None:
    assert text.clean(raw) == shown


@given(st.text())
def test_clean_text_is_one_encodable_line_without_controls(raw: str) -> None:
    shown = text.clean(raw)
    shown.encode()
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)


def test_code_keeps_its_lines_and_indentation() -> None:
    assert text.clean_block("\n    def f():\n\t\tx = 1\x1b[2J\n") == "def f():\n    x = 1"


def test_shortened_text_keeps_both_ends_and_the_length() -> None:
    assert text.shorten("short", 5) == "short"
    assert text.shorten("abcdefghij", 5) == "ab…ij"
    assert text.shorten("abcdefghij", 6) == "abc…ij"


def test_a_share_of_something_is_in_per_cent_of_it() -> None:
    assert text.quantity(0.0869, "share of steps") == "8.7 % of steps"


def test_a_change_too_small_to_show_has_no_sign() -> None:
    assert [text.change(v) for v in (0.12, -0.042, -0.0004, 0.0)] == [
        "+12 %",
        "-4.2 %",
        "less than 0.1 %",
        "0 %",
    ]
