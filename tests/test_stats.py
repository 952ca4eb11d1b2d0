"""Statistics that decide: intervals hold what they promise, warm-up is found and not invented."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor.stats import (
    _middles_of_five,
    amdahl,
    by_turns,
    describe,
    effective_size,
    kendall_p,
    median_half_width,
    quantile_interval,
    ratio_interval,
    ratio_of_sums_interval,
    relative_half_width,
    warmup_length,
)

times = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=300).map(np.array)


@given(times)
def test_percentiles_are_ordered_and_within_the_data(values):
    stat = describe(values)
    assert stat is not None
    assert stat.min_s <= stat.p50_s <= stat.p95_s <= stat.p99_s <= stat.max_s
    assert stat.total_s == pytest.approx(stat.mean_s * stat.count)


@given(times, st.sampled_from([0.5, 0.95, 0.99]))
def test_an_interval_encloses_the_sample_quantile(values, q):
    interval = quantile_interval(values, q)
    if interval is not None:
        low, high = interval
        # order statistics: numpy's interpolated quantile lies between their neighbours
        assert low <= np.quantile(values, q, method="higher")
        assert high >= np.quantile(values, q, method="lower")


@pytest.mark.parametrize(("q", "enough"), [(0.5, 6), (0.95, 72), (0.99, 368)])
def test_an_interval_is_absent_where_there_are_too_few_samples(q, enough):
    assert quantile_interval(np.arange(enough - 1.0), q) is None
    assert quantile_interval(np.arange(float(enough)), q) is not None


@pytest.mark.parametrize(("n", "q"), [(20, 0.5), (100, 0.5), (200, 0.95), (12_000, 0.5)])
def test_intervals_cover_the_true_quantile_as_often_as_they_promise(n, q):
    rng = np.random.default_rng(1)
    draws = 400 if n < 1000 else 60
    hits = 0
    for _ in range(draws):
        low, high = quantile_interval(rng.random(n), q)
        hits += low <= q <= high
    assert hits / draws >= 0.95 - 2 * math.sqrt(0.95 * 0.05 / draws)


def test_an_interval_of_correlated_samples_is_wider():
    values = np.random.default_rng(2).random(200)
    narrow, wide = quantile_interval(values, 0.5), quantile_interval(values, 0.5, n_eff=20)
    assert wide[0] < narrow[0] and narrow[1] < wide[1]


def test_repetition_adds_no_information():
    values = np.random.default_rng(3).random(40)
    slow = np.repeat(values, 10)
    assert effective_size(slow) < 80
    assert effective_size(np.random.default_rng(4).random(400)) > 300


def test_alternating_values_count_in_full():
    assert effective_size(np.tile([1.0, 2.0], 50)) == 100


def test_turns_of_workers_are_a_pattern_and_not_noise():
    turns = np.tile([0.010, 0.050], 30) * np.random.default_rng(1).normal(1, 0.01, 60)
    assert median_half_width(turns) > 0.2
    assert median_half_width(turns, [2]) < 0.01
    assert by_turns(np.array([1.0, 3.0, 5.0]), 2).tolist() == [2.0]


def test_too_few_turns_have_no_width():
    assert median_half_width(np.ones(5), [2]) == math.inf
    assert median_half_width(np.array([])) == math.inf


@given(times)
def test_percentiles_are_those_of_numpy(values):
    stat = describe(values)
    told = (stat.p50_s, stat.p95_s, stat.p99_s)
    assert told == pytest.approx(tuple(np.percentile(values, (50, 95, 99))))


@pytest.mark.parametrize("n", [5001, 100_000, 3_000_000])
def test_many_samples_are_taken_as_normal_at_no_cost(n):
    low, high = quantile_interval(np.arange(float(n)), 0.5)
    half = 1.96 * math.sqrt(n) / 2
    assert low == pytest.approx(n / 2 - half, abs=3)
    assert high == pytest.approx(n / 2 + half, abs=3)


@given(st.lists(st.integers(0, 3), min_size=3, max_size=200).map(np.array))
def test_the_effective_size_is_that_of_the_formula(values):
    above = (values > np.median(values)).astype(float)
    above -= above.mean()
    power = (above**2).sum()
    rho = 0 if power == 0 else min(0.99, max(0.0, (above[1:] * above[:-1]).sum() / power))
    assert effective_size(values) == pytest.approx(values.size * (1 - rho) / (1 + rho))


@given(st.integers(0, 2**32 - 1), st.integers(20, 400), st.floats(0.3, 3))
@settings(max_examples=50, deadline=None)
def test_warm_up_ends_where_the_marginal_error_is_least(seed, n, factor):
    rng = np.random.default_rng(seed)
    values = rng.lognormal(0, 0.05, n)
    values[: n // 6] *= factor
    z = np.median(values[: n // 5 * 5].reshape(-1, 5), axis=1)
    errors = [z[d:].var() / (z.size - d) for d in range(z.size // 2 + 1)]
    assert warmup_length(values) in (0, 5 * int(np.argmin(errors)))


def test_describe_ignores_steps_in_which_the_stage_did_not_run():
    stat = describe(np.array([np.nan, 2.0, np.nan, 4.0]))
    assert stat.count == 2
    assert stat.mean_s == 3
    assert describe(np.array([np.nan, np.nan])) is None


@pytest.mark.parametrize("factor", [3.0, 0.4])
def test_a_start_that_differs_is_warm_up(factor):
    values = np.random.default_rng(5).normal(1, 0.03, 200)
    values[:30] *= factor
    assert 25 <= warmup_length(values) <= 45


def test_warm_up_before_a_constant_ends_where_it_begins():
    values = np.full(400, 0.3)
    values[:20] = 2.7
    assert warmup_length(values) == 20


def test_a_steady_series_has_no_warm_up():
    cuts = [warmup_length(np.random.default_rng(s).lognormal(0, 0.1, 200)) for s in range(100)]
    assert sum(cut > 0 for cut in cuts) <= 5


def test_one_stall_at_the_start_is_not_warm_up():
    values = np.random.default_rng(6).normal(1, 0.03, 200)
    values[7] = 50
    assert warmup_length(values) == 0


def test_a_drift_over_the_whole_run_is_not_warm_up():
    drift = np.linspace(2, 1, 200) * np.random.default_rng(9).normal(1, 0.02, 200)
    assert warmup_length(drift) == 0


def test_short_series_are_kept_whole():
    assert warmup_length(np.array([9.0, 1.0, 1.0, 1.0])) == 0


def test_a_trend_is_told_from_noise():
    noise = np.random.default_rng(7).normal(0, 1, 20)
    assert kendall_p(np.arange(20) + noise) < 0.001
    assert kendall_p(noise) > 0.05
    assert kendall_p(np.ones(3)) == 1


def test_identical_pairs_have_no_speedup():
    ratio, interval = ratio_interval(np.random.default_rng(8).normal(0, 0.02, 21))
    assert interval[0] < 1 < interval[1]
    assert ratio == pytest.approx(1, abs=0.02)


def test_five_pairs_are_too_few_for_an_interval():
    assert ratio_interval(np.zeros(5))[1] is None
    assert ratio_interval(np.zeros(6))[1] == (1, 1)


@given(st.floats(0, 1), st.floats(0.1, 100))
@settings(max_examples=50)
def test_amdahl_is_bounded_by_the_rest(share, factor):
    speedup = amdahl(share, factor)
    assert min(1, factor) * 0.999 <= speedup <= max(1, factor) * 1.001
    assert amdahl(share, 1) == pytest.approx(1)


def test_no_interval_is_infinitely_wide():
    assert relative_half_width(None, 1.0) == math.inf
    assert relative_half_width((0.9, 1.1), 1.0) == pytest.approx(0.1)


@given(
    st.lists(st.tuples(st.floats(1, 100), st.floats(0.01, 10)), min_size=6, max_size=200),
    st.integers(6, 20),
)
@settings(deadline=None)
def test_the_interval_of_a_rate_holds_the_rate(records, parts):
    work, time = (np.array(values) for values in zip(*records, strict=True))
    low, high = ratio_of_sums_interval(work, time, parts)
    rate = work.sum() / time.sum()
    assert low <= rate * (1 + 1e-9)
    assert rate <= high * (1 + 1e-9)


def test_the_interval_of_a_rate_is_of_95_percent():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        low, high = ratio_of_sums_interval(np.ones(200), rng.gamma(4, 0.25, 200), 20)
        hits += low <= 1.0 <= high
    assert 0.92 <= hits / 400 <= 0.98


def test_a_few_records_have_no_interval_of_their_rate():
    assert ratio_of_sums_interval(np.ones(5), np.ones(5), 20) is None


def test_the_middle_of_each_five_is_their_median() -> None:
    fives = np.array(list(itertools.product(range(5), repeat=5)), dtype=np.float64)
    assert _middles_of_five(fives.reshape(-1)).tolist() == np.median(fives, axis=1).tolist()
