"""Gains over a whole run: bounds, and the same work done less often."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdoctor.rules.run_gains import factor_for, rarer, share_left, up_to

SHARES = st.floats(-1, 2)


def test_a_bound_is_between_nothing_and_all_of_it() -> None:
    bound = up_to(0.35)
    assert (bound.low, bound.speedup, bound.high) == (1.0, pytest.approx(1 / 0.65), bound.speedup)
    assert bound.model == "amdahl-bound"


def test_half_as_often_saves_half() -> None:
    gain = rarer(0.30, 2)
    assert gain.speedup == pytest.approx(1 / 0.85)
    assert gain.low == pytest.approx(1 / (1 - 0.75 * 0.15))
    assert gain.high == pytest.approx(1 / (1 - 1.25 * 0.15))
    assert gain.model == "amdahl-wall"


def test_the_smallest_factor_that_suffices_is_taken() -> None:
    assert share_left(0.5, 5) == pytest.approx(0.1 / 0.6)
    assert factor_for(0.15, 0.10, (2, 5, 10)) == 2
    assert factor_for(0.35, 0.10, (2, 5, 10)) == 5
    assert factor_for(0.99, 0.10, (2, 5, 10)) == 10


@given(SHARES, st.sampled_from([2, 5, 10]))
def test_any_share_gives_an_interval_around_the_estimate(share: float, factor: int) -> None:
    for gain in (up_to(share), rarer(share, factor)):
        assert 1.0 <= gain.low <= gain.speedup <= gain.high <= 100.0 + 1e-9
