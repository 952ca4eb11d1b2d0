"""Gains over a whole run: bounds, and the same work done less often."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdoctor.report import Finding
from perfdoctor.rules import catalogue
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.observed import left_over, less_often
from perfdoctor.rules.ranking import Found, worthwhile
from perfdoctor.rules.run_gains import factor_for, rarer, share_left, up_to, up_to_of_steps

SHARES = st.floats(-1, 2)


def test_a_bound_is_between_nothing_and_all_of_it() -> None:
    bound = up_to(0.35)
    assert (bound.low, bound.high) == (1.0, pytest.approx(1 / 0.65))
    assert bound.model == "amdahl-upper-bound"


def test_a_bound_is_no_estimate_and_ranks_by_the_middle_between_nothing_and_all() -> None:
    bound = up_to(0.75)
    assert (bound.speedup, bound.high) == (pytest.approx(2.0), pytest.approx(4.0))
    assert bound.is_bound
    assert not rarer(0.3, 2).is_bound


def test_a_share_of_the_steps_counts_as_much_as_steps_are_of_the_run() -> None:
    parts = [("train", 0.3), ("data_loading", 0.1), ("validation", 0.6)]
    clock = [{"name": n, "seconds": 100 * s, "share": s, "count": 1} for n, s in parts]
    facts = {"source": {"kind": "log"}, "wall": {"total_s": 100.0, "parts": clock}}
    assert up_to_of_steps(Facts(facts), 0.25).high == pytest.approx(1 / 0.9)
    del facts["wall"]
    assert up_to_of_steps(Facts(facts), 0.25).high == pytest.approx(1 / 0.75)


def test_without_a_wall_clock_the_epochs_tell_how_much_of_the_run_is_training() -> None:
    epochs = {"time": {"total_s": 100.0}, "validation": {"total_s": 40.0, "count": 4}}
    facts = Facts({"source": {"kind": "log"}, "epochs": epochs})
    assert up_to_of_steps(facts, 0.5).high == pytest.approx(1 / 0.7)


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


@pytest.mark.parametrize(("share", "kept"), [(0.05, True), (0.02, False)])
def test_a_bound_is_left_out_only_if_all_of_it_would_be_noise(share: float, kept: bool) -> None:
    finding = Finding(
        stage="other", title="", advice="", change={}, snippet="", evidence=(), cause="x",
        predicted=up_to(share),
    )  # fmt: skip
    rule = catalogue.load().rules[0]
    assert bool(worthwhile([Found(rule, finding)])) == kept


def test_nothing_is_asked_for_more_rarely_than_once_in_a_run() -> None:
    assert factor_for(0.8, 0.05, (2, 5, 10, 20, 50, 100)) == 100
    assert factor_for(0.8, 0.05, (2, 5, 10, 20, 50, 100), count=16) == 10
    assert factor_for(0.8, 0.05, (2, 5), count=1) == 2


def test_what_is_done_at_all_is_done_once() -> None:
    assert left_over(10) == 0.1
    assert left_over(10, 16) == pytest.approx(2 / 16)
    assert less_often(0.5, 10, 16).speedup == pytest.approx(1 / (1 - 0.5 * 14 / 16))
