"""A Run in numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import make_run
from hypothesis import given, settings
from hypothesis import strategies as st
from logged_runs import make_epochs, make_log, make_track, noisy

from perfdoctor import schema
from perfdoctor import summarise as summarising
from perfdoctor.record import LoaderRecord, Memory, Run, Source, Span, StageSeries
from perfdoctor.summarise import SERIES_POINTS, summarise


def test_shares_add_up_to_one():
    report = summarise(make_run())
    assert sum(stage.share for stage in report.stages.values()) == pytest.approx(1, abs=1e-9)


def test_throughput_counts_every_second_of_the_run():
    run = make_run(steps=10, noise=0)
    slow = run.step_s.copy()
    slow[3] += 10  # a stall, which a median would not see
    report = summarise(make_run(steps=10, noise=0, step_s=slow))
    assert report.throughput.samples_per_s == pytest.approx(320 / slow.sum())


def test_a_stage_that_ran_in_some_steps_says_how_often():
    sometimes = np.full(64, np.nan)
    sometimes[::4] = 0.5
    run = make_run(stages=(StageSeries(name="arch_step", exposed_s=sometimes),))
    stage = summarise(run).stages["arch_step"]
    assert stage.calls_per_step == 0.25
    assert stage.p50_s == 0.5
    assert stage.count == 16


def test_a_stage_that_never_ran_is_absent():
    never = StageSeries(name="h2d_copy", exposed_s=np.full(64, np.nan))
    assert "h2d_copy" not in summarise(make_run(stages=(never,))).stages


def test_hidden_time_is_told_apart_from_exposed_time():
    series = StageSeries(
        name="data_loading", exposed_s=np.full(64, 0.001), hidden_s=np.full(64, 0.08)
    )
    stage = summarise(make_run(stages=(series,))).stages["data_loading"]
    assert stage.hidden_s == pytest.approx(0.08)
    assert stage.total_s == pytest.approx(0.064)


def test_warm_up_found_in_the_data_is_discarded():
    run = make_run(steps=100)
    slow = run.step_s.copy()
    slow[:10] *= 5
    report = summarise(make_run(steps=100, step_s=slow))
    assert report.steps.warmup_discarded in (10, 15)
    assert report.steps.count + report.steps.warmup_discarded == 100


def test_warm_up_fixed_by_the_user_goes_first():
    assert summarise(make_run(warmup=3)).steps.warmup_discarded == 3
    assert summarise(make_run(steps=4, warmup=50)).steps.count == 1


def test_long_series_are_thinned():
    report = summarise(make_run(steps=5 * SERIES_POINTS + 7))
    assert SERIES_POINTS / 2 < len(report.series["step_s"]) <= SERIES_POINTS


def test_a_falling_throughput_is_a_drift_and_a_steady_one_is_not():
    steady = summarise(make_run(steps=400)).throughput.trend
    assert steady.shape == "steady"
    slower = make_run(steps=400).step_s * np.linspace(1, 2, 400)
    drift = summarise(make_run(steps=400, step_s=slower)).throughput.trend
    assert drift.shape == "drift"
    assert drift.change == pytest.approx(-0.48, abs=0.05)


def test_loader_capacity_is_what_it_gives_alone():
    record = LoaderRecord(
        batch_s=np.full(20, 0.1),
        collate_s=np.full(20, 0.01),
        cpu_s=np.full(20, 0.09),
        first_batch_s=np.array([0.5]),
        alone_s=np.full(10, 0.05),
        alone_samples=320,
    )
    loader = summarise(make_run(loader=record)).loader
    assert loader.capacity_samples_per_s == pytest.approx(640)
    assert loader.batch.p50_s == pytest.approx(0.1)


def test_the_end_of_workers_is_described_where_it_was_seen():
    times = dict.fromkeys(("batch_s", "collate_s", "cpu_s", "first_batch_s"), np.full(9, 0.1))
    unseen = LoaderRecord(**times)
    assert summarise(make_run(loader=unseen)).loader.end is None
    seen = LoaderRecord(**times, end_s=np.array([0.1, 0.2, 0.6]))
    end = summarise(make_run(loader=seen)).loader.end
    assert (end.count, end.p50_s, end.max_s) == (3, 0.2, 0.6)


def test_memory_is_shown_as_a_share_only_where_both_are_known():
    known = summarise(make_run(memory=Memory(total_bytes=100, training_peak_bytes=85)))
    assert known.memory.peak_share == pytest.approx(0.85)
    unknown = summarise(make_run(memory=Memory(total_bytes=100)))
    assert unknown.memory.peak_share is None
    assert unknown.memory.peak_bytes is None


def test_an_empty_log_has_no_steps_and_no_throughput():
    report = summarise(make_log())
    assert (report.steps, report.throughput, report.stages) == (None, None, {})
    assert (report.stalls, report.wall, report.epochs, report.forecast) == (None, None, None, None)


def test_records_that_tell_no_time_tell_no_steps():
    report = summarise(make_log(np.full(20, np.nan), batch_size=32))
    assert (report.steps, report.throughput) == (None, None)


def test_records_without_a_time_are_left_out():
    step_s = np.where(np.arange(40) % 2, 0.1, np.nan)
    report = summarise(make_log(step_s, batch_size=32))
    assert report.steps.count == 20
    assert report.throughput.samples_per_s == pytest.approx(320)


def test_records_count_as_often_as_they_stand_for_steps():
    """1 000 steps at 0.1 s in ten lines, then 100 at 0.4 s in ten."""
    steps = np.repeat([100.0, 10.0], 10)
    step_s = np.repeat([0.1, 0.4], 10)
    run = make_log(step_s, batch_size=32, track=make_track(20, steps=steps))
    report = summarise(run)
    assert report.throughput.steps_per_s == pytest.approx(1100 / 140)
    assert report.throughput.samples_per_s == pytest.approx(32 * 1100 / 140)
    assert report.steps.time.total_s == pytest.approx(140)
    assert report.steps.time.mean_s == pytest.approx(140 / 1100)
    assert report.steps.time.p50_s == pytest.approx(0.25)


def test_averages_count_where_the_printed_steps_mislead():
    waits = StageSeries(name="data_loading", exposed_s=np.full(30, 0.001), mean_s=np.full(30, 0.45))
    other = StageSeries(name="other", exposed_s=np.full(30, 0.499))
    run = make_log(
        np.full(30, 0.5), batch_size=64, mean_step_s=np.full(30, 0.95), stages=(waits, other)
    )
    report = summarise(run)
    assert report.steps.time.p50_s == 0.5
    assert report.steps.time.mean_s == pytest.approx(0.95)
    assert report.throughput.samples_per_s == pytest.approx(64 / 0.95)
    assert report.throughput.median_samples_per_s == pytest.approx(64 / 0.5)
    assert report.stages["data_loading"].share == pytest.approx(0.45 / 0.95)
    assert report.stages["other"].share == pytest.approx(0.5 / 0.95)


def test_a_record_without_an_average_tells_of_its_own_step_alone():
    step_s, means = np.full(40, 0.05), np.full(40, 0.05)
    step_s[20], means[20] = 3.55, 0.0  # the first of an epoch, six steps after the last record
    steps = np.full(40, 10.0)
    steps[20] = 6.0
    run = make_log(step_s, mean_step_s=means, track=make_track(40, steps=steps))
    report = summarise(run)
    assert report.steps.time.total_s == pytest.approx(39 * 10 * 0.05 + 5 * 0.05 + 3.55)
    assert report.stalls.excess_s == pytest.approx(3.5)


def test_printed_rates_of_equal_records_have_a_harmonic_mean():
    rates = np.tile([100.0, 300.0], 20)
    report = summarise(make_log(np.full(40, np.nan), rates={"samples_per_s": rates}))
    assert report.throughput.samples_per_s == pytest.approx(150)
    assert report.throughput.median_samples_per_s == pytest.approx(200)
    assert report.steps is None


def test_rates_alone_are_enough_where_steps_are_empty():
    rates = {"tokens_per_s": np.full(30, 5e4)}
    report = summarise(make_log(rates=rates, epoch_start=np.zeros(30, bool), track=None))
    assert report.throughput.tokens_per_s == pytest.approx(5e4)
    assert report.throughput.samples_per_s is None
    assert report.throughput.trend.unit == "tokens/s"


def test_printed_rates_count_by_the_time_of_their_records():
    step_s, rates = np.tile([1.0, 3.0], 20), np.tile([300.0, 100.0], 20)
    report = summarise(make_log(step_s, rates={"tokens_per_s": rates}))
    assert report.throughput.tokens_per_s == pytest.approx(150)


def test_a_first_record_that_compiles_is_warm_up():
    report = summarise(make_log(np.r_[254.0, noisy(100, 0.02, level=0.26)]))
    assert report.steps.warmup_discarded == 1
    assert report.steps.time.max_s < 1


def test_a_run_that_begins_faster_does_not_warm_up():
    step_s = noisy(1000, 0.02, level=np.where(np.arange(1000) < 60, 0.1, 0.4))
    report = summarise(make_log(step_s))
    assert report.steps.warmup_discarded == 0
    assert [change.index for change in report.throughput.trend.change_points] == [60]


def test_a_long_slow_start_is_a_change_and_no_warm_up():
    step_s = noisy(1000, 0.02, level=np.where(np.arange(1000) < 200, 0.4, 0.1))
    report = summarise(make_log(step_s))
    assert report.steps.warmup_discarded == 0
    assert [change.index for change in report.throughput.trend.change_points] == [200]


def test_the_wall_clock_adds_up():
    spans = (Span(name="train", seconds=60), Span(name="validation", seconds=20, count=4))
    wall = summarise(make_log(spans=spans, wall_s=100.0, started_at=1_645_358_446.0)).wall
    assert {p.name: (p.seconds, p.count) for p in wall.parts} == {
        "train": (60, 1),
        "validation": (20, 4),
        "unexplained": (20, 1),
    }
    assert sum(part.share for part in wall.parts) == pytest.approx(1)
    assert wall.started_at == "2022-02-20T12:00:46"


@given(
    st.lists(
        st.tuples(st.sampled_from(["train", "validation", "unexplained"]), st.floats(0, 1e6)),
        max_size=6,
    ),
    st.none() | st.floats(0, 2e6),
)
@settings(deadline=None)
def test_parts_of_the_wall_clock_always_add_up(told, wall_s):
    spans = tuple(Span(name=name, seconds=seconds) for name, seconds in told)
    wall = summarise(make_log(spans=spans, wall_s=wall_s)).wall
    if wall is None:
        assert (wall_s or 0) + sum(seconds for _, seconds in told) == 0
        return
    assert sum(part.share for part in wall.parts) == pytest.approx(1)
    assert sum(part.seconds for part in wall.parts) == pytest.approx(wall.total_s)
    assert len({part.name for part in wall.parts}) == len(wall.parts)


def test_epochs_are_those_that_the_log_tells_of():
    epochs = make_epochs(8, time_s=60.0, validation_s=np.full(8, 12.0))
    found = summarise(make_log(epochs=epochs)).epochs
    assert (found.count, found.time.p50_s, found.validation.p50_s) == (8, 60, 12)


def test_series_of_records_stay_side_by_side():
    count = 7 * SERIES_POINTS + 13
    step_s = 1.0 + np.arange(count)
    data = StageSeries(name="data_loading", exposed_s=step_s / 2)
    run = make_log(
        step_s,
        every=10,
        stages=(data,),
        rates={"tokens_per_s": 2 * step_s},
        epochs=make_epochs(3, time_s=7.0, validation_s=np.full(3, 2.0)),
    )
    series = {name: np.array(values) for name, values in summarise(run).series.items()}
    assert SERIES_POINTS / 2 < series["step_s"].size <= SERIES_POINTS
    index = series["step_s"] - 1
    assert series["step"].tolist() == (10 * index).tolist()
    assert series["line"].tolist() == (11 + index).tolist()
    assert series["data_loading_s"] == pytest.approx(series["step_s"] / 2, rel=1e-5)
    assert series["tokens_per_s"] == pytest.approx(series["step_s"] * 2, rel=1e-5)
    assert (np.diff(index) > 0).all() and index[-1] > 0.99 * count
    assert series["epoch_s"].tolist() == [7, 7, 7]
    assert series["validation_s"].tolist() == [2, 2, 2]


def test_long_numbers_keep_their_digits():
    track = make_track(3, step=np.array([1_234_567.0, 1_234_568, 1_234_569]))
    run = make_log([0.1234567, 0.2, 0.3], track=track)
    series = summarise(run).series
    assert series["step"] == (1_234_567, 1_234_568, 1_234_569)
    assert series["step_s"][0] == 0.123457


def test_thinning_shows_regular_stalls_as_often_as_they_are():
    step_s = np.full(100 * SERIES_POINTS, 0.1)
    step_s[::50] = 5.0  # a stride of 100 from the first record on would see nothing else
    kept = np.array(summarise(make_log(step_s)).series["step_s"])
    assert 0.01 < (kept > 1).mean() < 0.04


def test_the_slowest_records_are_kept_with_their_places():
    step_s = noisy(50 * SERIES_POINTS, 0.05, level=0.1)
    step_s[[777, 54_321]] = [9.0, 8.0]
    series = summarise(make_log(step_s)).series
    slowest = dict(zip(series["slow_line"], series["slow_s"], strict=True))
    assert slowest[777 + 11] == 9
    assert slowest[54_321 + 11] == 8
    assert len(slowest) == 20


def test_hardware_that_was_not_read_is_absent():
    run = make_log(utilisation={"gpu": np.array([50.0, np.nan, 70.0]), "cpu": np.array([np.nan])})
    report = summarise(run)
    assert list(report.utilisation) == ["gpu"]
    assert report.utilisation["gpu"].mean == 60


@given(
    st.lists(st.none() | st.floats(1e-4, 1e3), max_size=60),
    st.sampled_from([None, 7]),
    st.sampled_from([np.nan, 32.0]),
    st.sampled_from([1.0, 50.0]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_a_log_tells_becomes_a_report(times, per_epoch, batch_size, every):
    step_s = np.array([np.nan if t is None else t for t in times])
    run = make_log(step_s, per_epoch=per_epoch, batch_size=batch_size, every=every)
    report = summarise(run)
    assert schema.from_json(schema.to_json(report)) is not None
    if report.throughput is None:
        return
    rates = 1 / np.array([t for t in times if t is not None])
    assert 0.99 * rates.min() <= report.throughput.steps_per_s <= 1.01 * rates.max()


def test_the_interval_of_a_throughput_is_that_of_the_mean_it_stands_beside():
    step_s = np.full(200, 0.1)
    step_s[::10] = 3.0  # stalls that no median sees
    told = summarise(make_log(step_s, batch_size=8.0)).throughput
    low, high = told.samples_per_s_ci
    assert low <= told.samples_per_s <= high


def logged_waits(wait_s, **fields):
    step_s = np.full(40, 0.5)
    waits = StageSeries(name="data_loading", exposed_s=np.full(40, wait_s))
    rest = StageSeries(name="other", exposed_s=np.maximum(0.0, step_s - wait_s))
    return summarise(make_log(step_s, stages=(waits, rest), **fields))


@pytest.mark.parametrize("wait_s", [0.5, 0.9])
def test_a_wait_as_long_as_the_step_is_no_stage_of_it(wait_s):
    spans = (Span(name="train", seconds=0.0), Span(name="data_loading", seconds=20.0))
    report = logged_waits(wait_s, spans=spans, wall_s=20.0)
    assert report.stages == {}
    assert [(part.name, part.share) for part in report.wall.parts] == [("train", 1.0)]
    assert "the loader works while the model does" in report.warnings[0]


def test_a_wait_within_the_step_is_one():
    report = logged_waits(0.45)
    assert report.stages["data_loading"].share == pytest.approx(0.9)
    assert report.warnings == ()


def test_validation_that_only_the_epochs_tell_of_is_not_unexplained():
    epochs = make_epochs(3, time_s=40.0, validation_s=np.full(3, 5.0))
    run = make_log(epochs=epochs, spans=(Span(name="train", seconds=105.0),), wall_s=122.0)
    parts = {part.name: (part.seconds, part.count) for part in summarise(run).wall.parts}
    assert parts == {"train": (105.0, 1), "validation": (15.0, 3), "unexplained": (2.0, 1)}


def test_validation_for_which_the_wall_clock_has_no_room_is_left_to_the_epochs():
    epochs = make_epochs(3, time_s=40.0, validation_s=np.full(3, 5.0))
    run = make_log(epochs=epochs, spans=(Span(name="train", seconds=120.0),), wall_s=122.0)
    assert {part.name for part in summarise(run).wall.parts} == {"train", "unexplained"}


def test_a_counter_says_how_many_samples_it_rests_on():
    run = make_log(utilisation={"gpu": np.array([90.0, np.nan, 80.0])})
    assert summarise(run).utilisation["gpu"].count == 2


def test_many_records_are_told_the_same_in_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_log(noisy(400, 0.05), batch_size=32, track=make_track(400))
    alone = replace(summarise(run), created_at="")
    monkeypatch.setattr(summarising, "_MANY_RECORDS", 1)
    assert replace(summarise(run), created_at="") == alone


def _two_trainings(first: int, second: int) -> Run:
    """Quick steps that compute, then slow ones that load."""
    loads = np.r_[np.full(first, 0.001), np.full(second, 0.08)]
    computes = np.r_[np.full(first, 0.009), np.full(second, 0.02)]
    stages = (
        StageSeries(name="data_loading", exposed_s=loads),
        StageSeries(name="forward", exposed_s=computes),
    )
    count = first + second
    return replace(
        make_run(steps=count),
        step_s=loads + computes,
        stages=stages,
        source=Source(kind="run"),
        warmup=0,
        epoch_start=np.arange(count) == 0,
        trend_of=(first, count),
        longest=(first, count),
    )


def test_of_several_trainings_steps_are_those_of_the_longest():
    report = summarise(_two_trainings(200, 400))
    assert report.steps.time.p50_s == pytest.approx(0.1)
    assert (report.steps.count, report.steps.warmup_discarded) == (400, 200)
    assert report.steps.before_training == 200
    assert report.steps.share == pytest.approx(40 / 42)
    assert report.stages["data_loading"].p50_s == pytest.approx(0.08)
    assert report.throughput.trend.shape == "steady"


def test_shares_are_those_of_all_trainings():
    stages = summarise(_two_trainings(200, 400)).stages
    assert stages["forward"].share == pytest.approx((200 * 0.009 + 400 * 0.02) / 42)
    assert sum(stage.share for stage in stages.values()) == pytest.approx(1)


def test_a_stage_that_is_not_in_the_longest_is_told_as_it_was_before():
    run = _two_trainings(200, 400)
    loss = StageSeries(name="loss", exposed_s=np.r_[np.full(200, 0.001), np.full(400, np.nan)])
    stage = summarise(replace(run, stages=(*run.stages, loss))).stages["loss"]
    assert stage.p50_s == pytest.approx(0.001)


def test_of_trainings_that_are_told_together_the_trend_is_that_of_the_longest():
    run = replace(_two_trainings(200, 400), longest=None)
    report = summarise(run)
    assert report.steps.count == 600
    assert report.throughput.trend.shape == "steady"
    assert summarise(replace(run, trend_of=None)).throughput.trend.shape == "step"
