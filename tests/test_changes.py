"""Change points are found where they are, and not invented."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logged_runs import ar1, noisy

from perfdoctor.changes import LEAST_CHANGE, SIGNIFICANCE, find_changes

SERIES = 200


def false_alarms(series):
    return sum(bool(find_changes(values)) for values in series)


@pytest.mark.parametrize("spread", [0.05, 0.4])
@pytest.mark.parametrize(
    ("count", "correlation"), [(12, 0.0), (60, 0.0), (60, 0.5), (300, 0.0), (300, 0.5), (300, 0.8)]
)
def test_noise_has_no_change_points(count, correlation, spread):
    series = ar1(count, spread, correlation, SERIES // 2, seed=count)
    assert false_alarms(series) <= SERIES // 200


@pytest.mark.parametrize("count", [60, 200, 1000])
def test_heavy_tails_and_stalls_are_no_change_points(count):
    rng = np.random.default_rng(count)
    heavy = 0.3 * rng.standard_t(2, (SERIES // 2, count))
    stalls = rng.normal(0, 0.05, (SERIES // 2, count))
    stalls += np.where(rng.random(stalls.shape) < 0.05, 3.0, 0.0)
    assert false_alarms(np.concatenate([heavy, stalls])) <= SERIES // 100


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("before", "after", "count", "at", "spread"),
    [
        (0.298, 0.616, 1488, 455, 0.05),
        (107.0, 857.0, 652, 582, 0.1),
        (1 / 2052, 1 / 539, 40, 25, 0.05),
        (1 / 2052, 1 / 539, 12, 6, 0.02),
        (0.1, 0.12, 5000, 3210, 0.1),
        (1.0, 0.5, 100_000, 54_321, 0.3),
    ],
)
def test_a_change_is_found_at_its_place(before, after, count, at, spread, seed):
    level = np.where(np.arange(count) < at, before, after)
    (change,) = find_changes(np.log(noisy(count, spread, seed=seed, level=level)))
    assert abs(change.index - at) <= (12 if spread >= 0.1 else 0)
    assert math.exp(change.before) == pytest.approx(before, rel=0.15)
    assert math.exp(change.after) == pytest.approx(after, rel=0.15)
    assert change.p <= SIGNIFICANCE


@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_what_was_slow_for_a_while_has_two_change_points(seed, correlation):
    epoch = np.arange(60)
    level = np.where((epoch >= 10) & (epoch < 20), 2.3, 1.0)
    found = find_changes(np.log(noisy(60, 0.03, correlation=correlation, seed=seed, level=level)))
    assert [change.index for change in found] == [10, 20]


def test_several_levels_are_told_apart():
    levels = np.repeat([8.5, 3.4, 2.1, 18.0], [60, 60, 400, 130])
    found = find_changes(np.log(noisy(650, 0.05, seed=2, level=levels)))
    assert [change.index for change in found] == [60, 120, 520]


def test_a_change_amid_stalls_is_found():
    values = noisy(500, 0.03, level=np.where(np.arange(500) < 200, 1.0, 1.4))
    values[::25] += 30
    (change,) = find_changes(np.log(values))
    assert 198 <= change.index <= 202


@pytest.mark.parametrize("shape", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("count", [30, 200, 4000])
def test_a_slope_is_no_change_point(count, shape):
    slope = 1 + 2 * np.linspace(0, 1, count) ** shape
    found = [find_changes(np.log(noisy(count, 0.03, seed=s, level=slope))) for s in range(10)]
    assert sum(map(bool, found)) == 0


def test_changes_that_machines_make_by_themselves_are_not_told():
    level = np.where(np.arange(2000) < 1000, 1.0, 1 + 0.8 * LEAST_CHANGE)
    assert find_changes(np.log(noisy(2000, 0.01, level=level))) == ()


def test_too_few_values_have_no_change():
    assert find_changes(np.array([])) == ()
    assert find_changes(np.log([1.0, 1, 1, 1, 9, 9, 9, 9])) == ()
    assert find_changes(np.zeros(500)) == ()


@given(st.integers(0, 2**32 - 1), st.integers(10, 400), st.floats(0.1, 20))
@settings(max_examples=40, deadline=None)
def test_changes_are_in_order_and_the_same_in_any_unit(seed, count, factor):
    rng = np.random.default_rng(seed)
    levels = np.repeat(rng.choice([1.0, 2.0, 4.0], 4), -(-count // 4))[:count]
    values = np.log(levels * rng.lognormal(0, 0.05, count))
    found = find_changes(values)
    places = [change.index for change in found]
    assert places == sorted(set(places)) and all(0 < place < count for place in places)
    assert all(abs(c.after - c.before) >= math.log1p(LEAST_CHANGE) for c in found)
    assert [c.index for c in find_changes(values + math.log(factor))] == places
