"""Columns of records, at some of their rows."""

from __future__ import annotations

import numpy as np
import pytest

from perfdoctor.readers.records import Records, forward_fill

NAN = np.nan


def records() -> Records:
    columns = {
        "step": np.array([1.0, 2.0, NAN, 4.0]),
        "epoch": np.broadcast_to(np.float64(3.0), 4),
    }
    return Records(np.arange(1, 5), columns)


def test_a_column_at_some_rows() -> None:
    found = records().at("step", np.array([0, 2, 3]))
    np.testing.assert_array_equal(found, [1.0, NAN, 4.0])


def test_a_column_at_all_rows_and_one_of_a_single_value_are_no_copies() -> None:
    given, rows = records(), np.arange(4)
    assert given.at("step", rows) is given.columns["step"]
    constant = given.at("epoch", rows[:3])
    assert constant.tolist() == [3.0, 3.0, 3.0]
    assert constant.strides == (0,)


def test_a_column_that_no_line_tells_is_unknown_at_each_row() -> None:
    assert np.isnan(records().at("time", np.array([1, 3]))).tolist() == [True, True]


@pytest.mark.parametrize(
    ("values", "filled"),
    [([NAN, 1.0, NAN, 2.0, NAN], [NAN, 1.0, 1.0, 2.0, 2.0]), ([3.0, 4.0], [3.0, 4.0]), ([], [])],
)
def test_gaps_take_the_last_value_before_them(values: list[float], filled: list[float]) -> None:
    np.testing.assert_array_equal(forward_fill(np.array(values)), filled)
