"""What epochs brought for their time, and how long the rest will take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logged_runs import make_epochs, make_log, make_track, noisy

from perfdoctor.economics import economics, epoch_seconds
from perfdoctor.forecast import forecast
from perfdoctor.metrics import choose, judge
from perfdoctor.record import Span


def rising(count, best_at, top=90.0):
    """Improves up to an epoch and gets worse from there."""
    epoch = np.arange(count)
    return top - np.abs(epoch - best_at) * np.where(epoch > best_at, 0.1, 1.0)


def of(metrics, *, time_s=60.0, configuration=None, **overrides):
    count = len(next(iter(metrics.values())))
    metrics = {name: np.asarray(values, dtype=np.float64) for name, values in metrics.items()}
    epochs = make_epochs(count, time_s=time_s, metrics=metrics, **overrides)
    return economics(epochs, configuration or {})


def test_what_came_after_the_best_epoch_is_counted():
    found = of({"val_acc": rising(100, 38)})
    assert (found.metric, found.best, found.best_epoch) == ("val_acc", 90, 39)
    assert found.after_best_s == 61 * 60
    assert found.after_best_share == pytest.approx(0.61)
    assert not found.lower_is_better


@pytest.mark.parametrize(("count", "patience"), [(12, 3), (60, 6), (400, 15)])
def test_patience_is_a_tenth_of_the_epochs_from_3_to_15(count, patience):
    found = of({"val_acc": rising(count, count // 3)})
    assert found.patience == patience
    assert found.saved_s == 60 * (count - count // 3 - 1 - patience)


def test_patience_lasts_until_the_best_epoch_is_reached():
    plateau = np.concatenate([np.linspace(0, 50, 10), np.full(20, 49.0), [60.0], np.full(9, 55.0)])
    found = of({"val_acc": plateau})
    assert found.best_epoch == 31
    assert found.patience == 21
    assert found.saved_s == 0


def test_a_loss_is_best_where_it_is_lowest():
    found = of({"val_loss": -rising(30, 9)})
    assert (found.lower_is_better, found.best, found.best_epoch) == (True, -90, 10)


def test_epochs_without_validation_are_skipped():
    values = np.full(50, np.nan)
    values[4::5] = rising(10, 5)
    found = of({"val_acc": values})
    assert found.best_epoch == 30
    assert found.after_best_s == 20 * 60


def test_as_good_as_the_best_may_come_long_before_it():
    values = np.concatenate([[0.0, 50.0, 99.95], np.linspace(99.96, 100, 20)])
    found = of({"val_acc": values})
    assert (found.best_epoch, found.target_epoch) == (23, 3)


def test_a_target_of_the_configuration_counts():
    found = of({"val_acc": rising(50, 40)}, configuration={"target_accuracy": 80})
    assert (found.target, found.target_epoch) == (80, 31)
    never = of({"val_acc": rising(50, 40)}, configuration={"target_accuracy": 95})
    assert (never.target, never.target_epoch) == (95, None)


def test_without_times_there_are_no_costs():
    found = of({"val_acc": rising(30, 10)}, time_s=np.nan)
    assert found.best_epoch == 11
    assert (found.after_best_s, found.after_best_share, found.saved_s) == (None, None, None)


def test_moments_tell_the_time_where_the_log_does_not():
    epochs = make_epochs(5, at_s=np.array([10.0, 30, 50, 80, 100]))
    assert np.nan_to_num(epoch_seconds(epochs)).tolist() == [0, 20, 20, 30, 20]


def test_nothing_to_judge_by_tells_nothing():
    assert of({"lr": rising(20, 3)}) is None
    assert of({"val_acc": np.full(20, 0.1)}) is None
    assert of({"val_acc": [1.0, 2.0]}) is None


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=60), st.booleans())
@settings(deadline=None)
def test_early_stopping_never_misses_the_best_and_never_saves_more_than_what_follows(values, lower):
    found = of({"val_loss" if lower else "val_acc": values})
    if found is None:
        assert len(set(values)) == 1
        return
    assert found.best == (min(values) if lower else max(values))
    assert 0 <= found.saved_s <= found.after_best_s
    assert _stopped(values, lower, found.patience) >= found.best_epoch


def _stopped(values, lower, patience):
    """Where a plain loop with early stopping ends."""
    best, since = None, 0
    for epoch, value in enumerate(values, start=1):
        if best is None or (value < best if lower else value > best):
            best, since = value, 0
        else:
            since += 1
        if since > patience:
            return epoch
    return len(values)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("val_acc", "val_loss"),
        ("val_acc", "train_acc"),
        ("valid/top1", "valid/top5"),
        ("Acc@1", "Acc@5"),
        ("Prec@1", "Prec@5"),
        ("metrics/mAP50-95(B)", "metrics/mAP50(B)"),
        ("metrics/mAP_0.5:0.95", "metrics/mAP_0.5"),
        ("bbox_mAP", "bbox_mAP_50"),
        ("val_loss", "loss"),
        ("eval_f1", "eval_loss"),
        ("test_mIoU", "test_loss"),
        ("valAcc", "trainAcc"),
        ("dev_wer", "dev_loss"),
        ("val_ppl", "val_loss"),
        ("mAP", "val_loss"),
        ("train_acc", "train_loss"),
        ("val_loss", "val_loss_bbox"),
    ],
)
def test_the_better_judge_is_chosen(first, second):
    values = np.arange(5.0)
    assert choose({first: values, second: values}).name == first
    assert choose({second: values, first: values}).name == first


@pytest.mark.parametrize(
    "name",
    ["val_loss", "valid_ppl", "perplexity", "WER", "test_cer", "top-1 err", "val/mae", "rmse",
     "FID", "eval_error", "train_nll"],
)  # fmt: skip
def test_less_is_better_as_the_name_tells(name):
    assert judge(name).lower_is_better


@pytest.mark.parametrize("name", ["acc", "val_accuracy", "mAP", "mIoU", "BLEU", "f1", "AUC", "R2"])
def test_more_is_better_as_the_name_tells(name):
    assert not judge(name).lower_is_better


@pytest.mark.parametrize(
    "name", ["lr", "epoch_time", "grad_norm", "best_acc", "max_accuracy_so_far", "loss_scale"]
)
def test_other_names_judge_nothing(name):
    assert judge(name) is None


def test_the_rest_of_the_epochs_takes_as_long_as_the_last_ones():
    epochs = make_epochs(40, time_s=noisy(40, 0.05, level=np.r_[np.full(20, 50.0), [100.0] * 20]))
    found = forecast(make_log(epochs=epochs, configuration={"epochs": 100}, steps_per_epoch=500))
    assert found.left_s == pytest.approx(60 * 100, rel=0.05)
    assert found.low_s < 6000 < found.high_s
    assert (found.steps_left, found.unit) == (60 * 500, "step")


def test_epochs_are_what_is_left_where_steps_are_not_known():
    run = make_log(epochs=make_epochs(40, time_s=10.0), configuration={"max_epochs": 50})
    assert (forecast(run).steps_left, forecast(run).unit) == (10, "epoch")


def test_epochs_that_count_from_0_end_one_earlier():
    epochs = replace(make_epochs(50, time_s=10.0), number=np.arange(50.0))
    assert forecast(make_log(epochs=epochs, configuration={"epochs": 50})) is None
    assert forecast(make_log(epochs=epochs, configuration={"epochs": 51})).steps_left == 1


def test_a_resumed_log_that_ends_with_the_last_epoch_is_finished():
    epochs = replace(make_epochs(10, time_s=10.0), number=np.arange(40.0, 50.0))
    assert forecast(make_log(epochs=epochs, configuration={"epochs": 50})) is None


def test_steps_left_take_as_long_as_the_last_fifth():
    step_s = noisy(1000, 0.05, level=np.r_[np.full(700, 0.1), np.full(300, 0.2)])
    found = forecast(make_log(step_s, every=10, configuration={"max_steps": 20_000}))
    assert found.steps_left == 20_000 - 9990
    assert found.left_s == pytest.approx(10_010 * 0.2, rel=0.02)
    assert found.low_s < 2002 < found.high_s < 2100


def test_the_clock_counts_what_lies_between_steps():
    step_s = np.full(200, 0.1)
    track = make_track(200, at_s=0.25 * np.arange(200.0))
    found = forecast(make_log(step_s, track=track, configuration={"max_steps": 1199}))
    assert found.left_s == pytest.approx(250)


def test_a_drift_widens_the_interval_to_where_it_leads():
    growing = make_epochs(30, time_s=np.linspace(10, 40, 30))
    steady = make_epochs(30, time_s=noisy(30, 0.08, level=35.0))
    drifting, level = (
        forecast(make_log(epochs=e, configuration={"epochs": 60})) for e in (growing, steady)
    )
    assert drifting.high_s > 30 * 50 > level.high_s


def test_a_finished_run_and_one_without_a_goal_have_no_forecast():
    step_s = np.full(100, 0.1)
    assert forecast(make_log(step_s, configuration={"max_steps": 99})) is None
    assert forecast(make_log(step_s, every=50, configuration={"max_steps": 5000})) is None
    assert forecast(make_log(step_s)) is None
    assert forecast(make_log([0.1] * 5, configuration={"max_steps": 900})) is None


def test_intervals_hold_what_they_promise():
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(300):
        times = rng.lognormal(0, 0.2, 50)
        epochs = make_epochs(30, time_s=times[:30])
        found = forecast(make_log(epochs=epochs, configuration={"epochs": 50}))
        hits += found.low_s <= times[30:].sum() <= found.high_s
    assert hits / 300 >= 0.92


def test_a_log_that_says_it_is_finished_has_no_forecast():
    run = make_log([0.1] * 100, every=10, configuration={"max_steps": 20_000})
    assert forecast(run) is not None
    assert forecast(replace(run, finished=True)) is None


def test_a_run_whose_epochs_are_all_done_has_none_by_its_steps_either():
    run = make_log(
        [0.1] * 100,
        every=10,
        epochs=make_epochs(5, time_s=20.0),
        configuration={"epochs": 5, "max_steps": 5000},
    )
    assert forecast(run) is None


def forecast_beside_validation(*spans, at_s=None):
    track = make_track(100, every=10, at_s=at_s)
    run = make_log(np.full(100, 0.1), track=track, configuration={"max_steps": 1990}, spans=spans)
    return forecast(run)


def test_steps_that_are_left_take_their_validation_with_them():
    train, judged = Span(name="train", seconds=100.0), Span(name="validation", seconds=50.0)
    alone = forecast_beside_validation(train)
    assert (alone.left_s, alone.training_only) == (pytest.approx(100.0), False)
    both = forecast_beside_validation(train, judged, Span(name="start_up", seconds=500.0))
    assert both.left_s == pytest.approx(150.0)
    assert both.low_s <= both.left_s <= both.high_s


def test_validation_that_the_clock_has_seen_counts_once():
    gaps = np.where(np.arange(100) % 2 == 0, 2.0, 1.0)  # validation in every other record
    found = forecast_beside_validation(
        Span(name="train", seconds=100.0),
        Span(name="validation", seconds=50.0),
        at_s=np.cumsum(gaps),
    )
    assert found.left_s == pytest.approx(150.0, rel=0.05)


def test_a_log_without_a_wall_clock_forecasts_training_alone_and_says_so():
    assert forecast_beside_validation().training_only


def test_the_low_end_of_a_forecast_is_no_faster_than_anything_seen():
    found = forecast(
        make_log(epochs=make_epochs(3, time_s=[10.0, 500.0, 10.0]), configuration={"epochs": 10})
    )
    assert found.low_s == pytest.approx(70.0)
