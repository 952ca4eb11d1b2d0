"""The shape of a run's speed, and where it changed."""

from __future__ import annotations

import numpy as np
import pytest
from logged_runs import ar1, make_epochs, make_log, make_track, noisy

from perfdoctor.pace import best_pace
from perfdoctor.summarise import summarise


def trend_of(run):
    return summarise(run).throughput.trend


def sawtooth(epochs, length, seed=0, spread=0.1):
    """Batches sorted by length: each epoch begins with the short ones."""
    inside = np.tile(np.linspace(0.4, 0.95, length), epochs)
    return noisy(inside.size, spread, seed=seed, level=inside)


def test_a_step_says_from_what_to_what_where_and_when():
    step_s = noisy(60, 0.02, level=np.where(np.arange(60) < 41, 64 / 2052, 64 / 539))
    at_s = np.cumsum(step_s * 100)
    track = make_track(60, every=100, at_s=at_s)
    trend = trend_of(make_log(step_s, batch_size=64, track=track))
    (change,) = trend.change_points
    assert trend.shape == "step"
    assert trend.unit == "samples/s"
    assert change.before == pytest.approx(2052, rel=0.02)
    assert change.after == pytest.approx(539, rel=0.02)
    assert (change.step_before, change.step, change.index) == (4000, 4100, 41)
    assert change.at_s == at_s[41]
    assert change.where == "train.log:52"


def test_warm_up_moves_no_places():
    step_s = noisy(400, 0.02, level=np.where(np.arange(400) < 200, 0.1, 0.2))
    step_s[:3] = 4.0
    report = summarise(make_log(step_s))
    (change,) = report.throughput.trend.change_points
    assert report.steps.warmup_discarded == 3
    assert (change.index, change.step, change.where) == (200, 200, "train.log:211")


def test_records_without_a_time_move_no_places():
    step_s = noisy(400, 0.02, level=np.where(np.arange(400) < 200, 0.1, 0.2))
    step_s[5:150:3] = np.nan
    (change,) = trend_of(make_log(step_s)).change_points
    assert (change.index, change.where) == (200, "train.log:211")


def test_a_long_run_is_as_exact_as_a_short_one():
    count, at = 450_000, 287_654
    step_s = noisy(count, 0.05, level=np.where(np.arange(count) < at, 0.1, 0.16))
    (change,) = trend_of(make_log(step_s, batch_size=32)).change_points
    assert abs(change.index - at) <= 1
    assert change.before == pytest.approx(320, rel=0.01)


@pytest.mark.parametrize(
    ("last", "curve", "shape"),
    [(2.0, 1.0, "decay"), (1.3, 2.0, "decay"), (1.12, 1.0, "drift"), (0.6, 1.0, "drift")],
)
def test_a_gradual_change_is_a_decay_if_much_is_lost_and_a_drift_if_not(last, curve, shape):
    level = 1 + (last - 1) * np.linspace(0, 1, 500) ** curve
    trend = trend_of(make_log(noisy(500, 0.03, level=level)))
    assert trend.shape == shape
    assert trend.change_points == ()
    assert trend.change == pytest.approx(1 / last - 1, rel=0.25)


def test_a_slow_down_that_came_to_an_end_is_a_drift():
    level = 1 + np.minimum(np.linspace(0, 4, 600), 1.0)
    assert trend_of(make_log(noisy(600, 0.02, level=level))).shape == "drift"


def test_noise_is_steady():
    for correlation in (0.0, 0.8):
        series = np.exp(ar1(300, 0.2, correlation, 100, seed=3))
        shapes = [trend_of(make_log(values)).shape for values in series]
        assert shapes.count("steady") >= 98


@pytest.mark.parametrize("epochs", [2, 3, 5, 20])
def test_what_repeats_in_every_epoch_is_steady(epochs):
    for seed in range(10):
        run = make_log(sawtooth(epochs, 48, seed), per_epoch=48)
        trend = trend_of(run)
        assert (trend.shape, trend.change_points) == ("steady", ())
        assert abs(trend.change) < 0.1


def test_an_epoch_that_ends_early_is_compared_with_the_starts_of_others():
    run = make_log(sawtooth(6, 48)[: 5 * 48 + 15], per_epoch=48)
    assert trend_of(run).shape == "steady"


def test_a_change_within_a_pattern_of_epochs_is_found():
    step_s = sawtooth(8, 48, spread=0.05)
    step_s[200:] *= 1.5
    (change,) = trend_of(make_log(step_s, per_epoch=48)).change_points
    assert 199 <= change.index <= 201
    assert change.after / change.before == pytest.approx(1 / 1.5, rel=0.05)


def test_in_a_single_epoch_order_may_explain_a_slope():
    slower = noisy(400, 0.02, level=np.linspace(1, 2, 400))
    assert trend_of(make_log(slower, per_epoch=400)).shape == "drift"
    first = np.arange(400) == 0  # of a log that tells of no epochs
    assert trend_of(make_log(slower, epoch_start=first)).shape == "decay"
    assert trend_of(make_log(slower)).shape == "decay"


def test_regular_stalls_make_a_run_periodic():
    step_s = noisy(1000, 0.03, level=0.1)
    step_s[99::100] += 2
    trend = trend_of(make_log(step_s))
    assert trend.shape == "periodic"
    assert trend.change == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(
    ("samples", "rates", "unit"),
    [
        (64.0, {}, "samples/s"),
        (np.nan, {"samples_per_s": 500.0}, "samples/s"),
        (np.nan, {"tokens_per_s": 5e4}, "tokens/s"),
        (np.nan, {}, "steps/s"),
    ],
)
def test_the_best_unit_that_is_known_counts(samples, rates, unit):
    given = {name: np.full(50, value) for name, value in rates.items()}
    assert trend_of(make_log(np.full(50, 0.1), batch_size=samples, rates=given)).unit == unit


def test_a_unit_that_few_records_tell_does_not_count():
    few = np.where(np.arange(50) < 5, 5e4, np.nan)
    assert trend_of(make_log(np.full(50, 0.1), rates={"tokens_per_s": few})).unit == "steps/s"


def test_epochs_tell_the_trend_where_steps_do_not():
    slow = np.where((np.arange(60) >= 10) & (np.arange(60) < 20), 2.3, 1.0)
    epochs = make_epochs(60, time_s=noisy(60, 0.01, level=819 * slow))
    trend = trend_of(make_log(epochs=epochs, track=None))
    assert (trend.unit, trend.shape) == ("epochs/h", "step")
    assert [change.index for change in trend.change_points] == [10, 20]
    assert trend.change_points[0].before == pytest.approx(3600 / 819, rel=0.02)


def test_too_few_records_have_no_trend():
    assert trend_of(make_log([0.1] * 9)) is None


def test_rounded_averages_are_no_change():
    """Means between records come from rounded averages since the start, the worse the later."""
    averages = np.round(np.cumsum(noisy(1500, 0.01, level=0.317)) / np.arange(1, 1501), 4)
    sums = averages * 20 * np.arange(1, 1501)
    means = np.diff(sums, prepend=0.0) / 20
    run = make_log(np.full(1500, 0.317), every=20, mean_step_s=np.maximum(means, 1e-3))
    assert trend_of(run).change_points == ()


def test_a_rate_that_halves_without_turning_round_is_not_called_steady():
    step_s = np.array(
        [
            0.47,
            0.41,
            0.39,
            0.4,
            0.54,
            0.54,
            0.66,
            0.66,
            0.66,
            0.81,
            0.82,
            0.82,
            0.82,
            0.94,
            0.93,
            0.94,
        ]
    )
    trend = trend_of(make_log(step_s))
    assert trend.change < -0.5
    assert trend.shape in ("drift", "decay", "step")


def test_a_mean_that_is_given_to_all_epochs_has_no_trend() -> None:
    assert best_pace({}, np.full(12, 5.95)) is None
    assert best_pace({}, np.full(12, 60.0)) is not None  # printed in whole seconds
