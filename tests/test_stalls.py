"""Stalls, their cost and their period."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logged_runs import make_log, make_track, noisy

from perfdoctor.stalls import find_period
from perfdoctor.summarise import summarise


def stalls_of(step_s, **options):
    return summarise(make_log(step_s, **options)).stalls


def test_a_checkpoint_every_500_steps_is_told_with_its_cost():
    step_s = noisy(5000, 0.05, level=0.1)
    step_s[499::500] += 3.1
    stalls = stalls_of(step_s)
    assert stalls.count == 10
    assert stalls.excess_s == pytest.approx(3.1, rel=0.01)
    assert stalls.period_steps == 500
    assert stalls.share == pytest.approx(31 / (500 + 31), rel=0.02)
    assert not stalls.at_epoch_start


def test_a_mean_over_many_steps_dilutes_a_stall():
    step_s = noisy(200, 0.01, level=0.1)
    step_s[9::10] += 3.1 / 50
    stalls = stalls_of(step_s, every=50)
    assert stalls.count == 20
    assert stalls.excess_s == pytest.approx(3.1, rel=0.05)
    assert stalls.period_steps == 500
    assert stalls.share == pytest.approx(62 / (1000 + 62), rel=0.05)


def test_a_single_step_that_is_printed_shows_a_stall_in_full():
    step_s = noisy(200, 0.01, level=0.5)
    step_s[24::25] += 36
    stalls = stalls_of(step_s, every=10, sampled=True)
    assert stalls.excess_s == pytest.approx(36, rel=0.02)
    assert stalls.period_steps == 250
    assert stalls.share == pytest.approx(8 * 36 / (1000 + 8 * 36), rel=0.02)


@pytest.mark.parametrize("of_one_step", [True, False])
def test_the_clock_tells_whether_a_record_is_one_step_or_a_mean(of_one_step):
    step_s = noisy(200, 0.01, level=0.5)
    step_s[24::25] += 3.0
    spent = np.full(200, 5.0)
    spent[24::25] += 3.0 if of_one_step else 30.0
    track = make_track(200, every=10, at_s=np.cumsum(spent))
    stalls = stalls_of(step_s, track=track, started_at=1.7e9)
    assert stalls.excess_s == pytest.approx(3.0 if of_one_step else 30.0, rel=0.05)


def test_averages_count_every_stall():
    """One step of ten is printed, and none of those stalls; the averages show it."""
    printed = noisy(300, 0.01, level=0.5)
    means = printed.copy()
    means[20::25] += 36 / 10
    stalls = stalls_of(printed, every=10, mean_step_s=means)
    assert stalls.excess_s == pytest.approx(36, rel=0.02)
    assert stalls.count == 12


def test_the_first_step_of_every_epoch_is_told_as_such():
    step_s = noisy(1000, 0.05, level=0.1)
    step_s[::50] += 4
    stalls = stalls_of(step_s, per_epoch=50)
    assert stalls.at_epoch_start
    assert stalls.period_steps == 50
    assert stalls.count == 19  # the very first is warm-up


def test_small_stalls_elsewhere_do_not_hide_the_starts_of_epochs():
    step_s = noisy(300, 0.05, level=0.1)
    step_s[::50] += 4
    step_s[[33, 77, 121, 190]] += 0.2
    stalls = stalls_of(step_s, per_epoch=50)
    assert stalls.count > 5
    assert stalls.at_epoch_start


def test_a_single_start_among_other_stalls_is_not_what_they_are():
    step_s = noisy(300, 0.05, level=0.1)
    step_s[50] += 40
    step_s[[33, 77, 121, 190]] += 0.2
    assert not stalls_of(step_s, per_epoch=50).at_epoch_start


def test_slow_steps_in_a_row_are_one_stall():
    step_s = noisy(1000, 0.05, level=0.1)
    for start in range(99, 1000, 100):
        step_s[start : start + 3] += 1
    stalls = stalls_of(step_s)
    assert stalls.count == 10
    assert stalls.excess_s == pytest.approx(3, rel=0.02)


def test_a_slow_phase_is_no_stall():
    step_s = noisy(1000, 0.05, level=0.1)
    step_s[400:600] *= 3
    assert stalls_of(step_s) is None


def test_slow_steps_at_random_have_no_period():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        step_s = noisy(2000, 0.05, level=0.1, seed=seed)
        step_s[rng.choice(2000, 12, replace=False)] += 3
        assert stalls_of(step_s).period_steps is None


def test_wide_noise_stalls_no_oftener_than_its_tail():
    stalls = stalls_of(noisy(3000, 0.5))
    assert stalls is None or stalls.count < 10


def test_noise_does_not_stall():
    assert stalls_of(noisy(1000, 0.1)) is None
    assert stalls_of(np.full(1000, 0.1)) is None


def test_a_level_that_rises_does_not_stall():
    assert stalls_of(noisy(1000, 0.03, level=np.where(np.arange(1000) < 500, 0.1, 0.4))) is None


def test_too_few_records_tell_no_stalls():
    assert stalls_of([0.1, 0.1, 0.1, 9.0]) is None


@given(st.integers(20, 5000), st.integers(5, 60), st.floats(0, 1e6))
@settings(deadline=None)
def test_regular_distances_are_a_period_wherever_they_begin(period, count, start):
    position = start + period * np.arange(count, dtype=np.float64)
    assert find_period(position) == period


def test_a_missed_one_does_not_break_a_period():
    position = 250.0 * np.delete(np.arange(20), [3, 11])
    assert find_period(position) == 250


def test_chance_is_seldom_regular():
    rng = np.random.default_rng(1)
    few = [np.sort(rng.uniform(0, 1e5, 4)) for _ in range(1000)]
    coarse = [10 * np.sort(rng.choice(40, 5, replace=False)) for _ in range(1000)]
    many = [np.sort(rng.uniform(0, 1e5, rng.integers(5, 40))) for _ in range(1000)]
    for trials, spacing in ((few, 1.0), (coarse, 10.0), (many, 1.0)):
        found = [find_period(np.asarray(position, float), spacing) for position in trials]
        assert sum(period is not None for period in found) <= 10


def test_positions_that_are_known_too_coarsely_have_no_period():
    assert find_period(100.0 * np.arange(20), spacing=100.0) is None
    assert find_period(np.array([1.0, 2.0, 3.0])) is None
