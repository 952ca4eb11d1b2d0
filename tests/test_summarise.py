"""A Run in numbers."""

from __future__ import annotations

import numpy as np
import pytest
from builders import make_run

from perfdoctor.record import LoaderRecord, Memory, StageSeries
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


def test_memory_is_shown_as_a_share_only_where_both_are_known():
    known = summarise(make_run(memory=Memory(total_bytes=100, training_peak_bytes=85)))
    assert known.memory.peak_share == pytest.approx(0.85)
    unknown = summarise(make_run(memory=Memory(total_bytes=100)))
    assert unknown.memory.peak_share is None
    assert unknown.memory.peak_bytes is None
