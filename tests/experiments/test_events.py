"""What comes rarely is measured by its occasions, not by the thousands of steps between them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import make_recommendation, make_report, make_stages
from fake_arm import FakeArm

from perfdoctor.collect.arm import ArmSpec, Chunk
from perfdoctor.collect.options import no_progress
from perfdoctor.errors import PerfdoctorError
from perfdoctor.experiments.events import cost, occasions
from perfdoctor.experiments.plan import costs_of
from perfdoctor.experiments.trials import Laboratory
from perfdoctor.experiments.verify import verify
from perfdoctor.report import Prediction

SPEC = ArmSpec(workload={"script": "train.py"})
GAIN = Prediction(speedup=1.3, low=1.2, high=1.4, model="made up")
SAVING, VALIDATING, DRAWING = (
    "checkpoint_every_times",
    "validate_every_times",
    "figures_every_times",
)
STAGES = {SAVING: "checkpoint", VALIDATING: "validation", DRAWING: "logging"}


@pytest.fixture
def script(world):
    """The world of a script with epochs of 500 steps of 10 ms."""
    world.extra |= {"changes": list(STAGES)}
    return world


def comes_rarely(script, change, period, cost_s, epochs=None):
    """It does, and the observed run has seen it: its stages."""
    script.rare[change] = (period, cost_s, epochs)
    name = STAGES[change]
    (stage,) = make_stages({name: cost_s}).values()
    return {name: replace(stage, calls_per_step=1 / period)}


def trial_of(change, factor, stages, budget_s=120.0):
    advised = make_recommendation(
        rule="PD502", change={change: factor}, predicted=GAIN, snippet="", name="x"
    )
    report = make_report(recommendations=(advised,))
    report = replace(report, stages=report.stages | stages)
    done = verify(report, SPEC, budget_s, no_progress, lambda line: None)
    return done.recommendations[0].verified


def chunk_of(step_s, occasions, starts=()):
    size = len(step_s)
    return Chunk(
        step_s=np.array(step_s, dtype=np.float64),
        stages_s={},
        samples=np.ones(size),
        starts=np.isin(np.arange(size), starts),
        wall_s=1.0,
        cpu_s=1.0,
        occasions=occasions,
    )


def test_an_occasion_costs_what_its_steps_take_more_than_those_beside_it():
    steps = [1, 1, 1, 6, 2, 1, 1, 1, 9, 1]
    seen = chunk_of(steps, {SAVING: [(3, True), (8, False)]})
    assert cost(seen, SAVING, 2, made=True).more_s == pytest.approx(6)
    assert cost(seen, SAVING, 2, made=False).more_s == pytest.approx(8)
    assert cost(seen, SAVING, 0, made=True).more_s == pytest.approx(6 - 9 / 8)
    assert cost(seen, SAVING, 2, made=True).step_s == 1
    assert cost(seen, VALIDATING, 2, made=True) is None
    assert cost(chunk_of(steps, {SAVING: [(-1, True)]}), SAVING, 2, made=True) is None


def test_a_step_that_waits_for_the_next_batches_has_its_share_in_all_steps():
    seen = chunk_of([0, 0, 0, 4, 0, 7, 0, 4], {SAVING: [(5, True)]})
    assert cost(seen, SAVING, 0, made=True).step_s == pytest.approx(8 / 7)


def test_what_comes_in_most_steps_and_the_start_of_epochs_are_told_from_it():
    lines = {"log_every_times": [(i, True) for i in range(6)]}
    seen = chunk_of([9, 1, 9, 1, 9, 1], {SAVING: [(1, True)], **lines}, starts=[0, 2, 4])
    assert cost(seen, SAVING, 0, made=True).step_s == 1
    assert cost(chunk_of([1, 9, 2, 2, 1], {SAVING: [(1, True)]}), SAVING, 2, made=True).step_s == 1


def test_saving_every_500_steps_takes_a_few_thousand_steps_to_verify(script):
    stages = comes_rarely(script, SAVING, period=500, cost_s=2.5)
    trial = trial_of(SAVING, 10, stages)
    assert trial.outcome == "verified" and trial.pairs == 5
    assert trial.low < 7.5 / 5.25 < trial.high
    assert trial.high - trial.low < 0.05
    assert trial.reason == "each time takes 2.5 s, once in 500 steps"
    assert trial.loss_parity is None


def test_what_costs_next_to_nothing_is_refuted(script):
    stages = comes_rarely(script, SAVING, period=500, cost_s=0.001)
    assert trial_of(SAVING, 10, stages).outcome == "refuted"


def test_the_end_of_long_epochs_comes_sooner(script):
    script.extra["steps_per_epoch"] = 5000
    stages = comes_rarely(script, VALIDATING, period=5000, cost_s=4.0, epochs=1)
    trial = trial_of(VALIDATING, 2, stages)
    assert trial.outcome == "verified"
    assert trial.speedup == pytest.approx(54 / 52, abs=0.002)
    assert trial.loss_parity == "not comparable: another training"
    assert script.made < 2000


def test_what_comes_by_steps_as_long_as_an_epoch_is_waited_for(script):
    stages = comes_rarely(script, SAVING, period=500, cost_s=2.5)
    script.extra["steps_per_epoch"] = 500
    trial = trial_of(SAVING, 10, stages, budget_s=240.0)
    assert trial.outcome == "verified"
    assert trial.speedup == pytest.approx(7.5 / 5.25, abs=0.02)


def test_how_often_figures_are_drawn_is_found_out(script):
    comes_rarely(script, DRAWING, period=60, cost_s=0.3)
    script.extra["periods"] = {DRAWING: 60}
    with Laboratory(SPEC, 120.0, no_progress) as laboratory:
        assert occasions(laboratory, {DRAWING: 5}).steps == 60
    assert trial_of(DRAWING, 5, {}).outcome == "verified"
    del script.extra["periods"]
    with Laboratory(SPEC, 120.0, no_progress) as laboratory:
        assert 90 < occasions(laboratory, {DRAWING: 5}).steps < 110
        assert laboratory.period(DRAWING) is None


def test_what_does_not_come_is_said(script):
    script.rare[DRAWING] = (10**6, 1.0, None)
    trial = trial_of(DRAWING, 5, {})
    assert trial.outcome == "not_testable"
    assert "came less than twice in" in trial.reason


def test_a_change_beside_others_is_measured_as_a_whole(script):
    stages = comes_rarely(script, SAVING, period=500, cost_s=2.5)
    report = replace(make_report(), stages=stages)
    assert costs_of(report) == {SAVING: pytest.approx(2.5, rel=0.1)}
    with Laboratory(SPEC, 120.0, no_progress, periods={SAVING: 500}) as laboratory:
        assert occasions(laboratory, {SAVING: 5}) is not None
        assert occasions(laboratory, {SAVING: 5, "optimizer_fused": True}) is None
        assert occasions(laboratory, {"optimizer_fused": True}) is None
    with Laboratory(SPEC, 120.0, no_progress, periods={SAVING: 4}) as laboratory:
        assert occasions(laboratory, {SAVING: 5}) is None


def test_too_long_a_period_names_its_budget(script):
    script.step_s = 0.1
    stages = comes_rarely(script, SAVING, period=700, cost_s=2.5)
    trial = trial_of(SAVING, 10, stages)
    assert trial.outcome == "not_testable" and trial.pairs == 0
    assert "700 steps" in trial.reason and "--budget" in trial.reason
    assert math.isfinite(float(trial.reason.rsplit(" ", 1)[1].rstrip("s")))


@pytest.mark.parametrize(("period", "workers"), [(1, 0), (2, 0), (4, 0), (6, 1), (7, 2)])
def test_what_comes_often_is_measured_in_whole_periods(script, period, workers):
    script.configuration["num_workers"] = workers
    stages = comes_rarely(script, VALIDATING, period=period, cost_s=0.05)
    with Laboratory(SPEC, 120.0, no_progress, periods={VALIDATING: period}) as laboratory:
        assert occasions(laboratory, {VALIDATING: 5}) is None
    trial = trial_of(VALIDATING, 5, stages)
    assert trial.outcome == "verified"
    plain_s = period * script.step_s
    assert trial.speedup == pytest.approx((plain_s + 0.05) / (plain_s + 0.01), rel=0.05)


def test_what_comes_in_each_step_is_not_waited_for_until_it_is_rare(script):
    script.step_s = 0.2  # stretches of 20 steps would take longer than there is
    stages = comes_rarely(script, VALIDATING, period=1, cost_s=0.6)
    trial = trial_of(VALIDATING, 20, stages)
    assert trial.outcome == "verified" and trial.change == {VALIDATING: 20}
    assert trial.speedup == pytest.approx(0.8 / 0.23, rel=0.02)


@pytest.mark.parametrize("period", [5, 6, 7])
def test_without_workers_fewer_steps_beside_it_do(script, period):
    script.step_s = 0.1  # ten times as many would take longer than there is
    stages = comes_rarely(script, VALIDATING, period=period, cost_s=0.6)
    trial = trial_of(VALIDATING, 10, stages)
    assert trial.outcome == "verified"
    assert trial.speedup == pytest.approx((period + 6) / (period + 0.6), rel=0.02)
    assert trial.reason == f"each time takes 600 ms, once in {period} steps"


def test_what_is_found_to_come_often_is_measured_in_whole_periods(script, monkeypatch):
    comes_rarely(script, DRAWING, period=4, cost_s=0.05)
    facts = FakeArm.facts

    def seen(arm, mode=None):
        periods = {DRAWING: 4} if script.chunks > 2 else {}  # after the steps that warm it up
        return replace(facts(arm, mode), extra={**script.extra, "periods": periods})

    monkeypatch.setattr(FakeArm, "facts", seen)
    trial = trial_of(DRAWING, 5, {})
    assert trial.outcome == "verified"
    assert trial.speedup == pytest.approx(0.09 / 0.05, rel=0.05)
    assert trial.reason is None and not script.started[0].modes.keys() & {"made", "left out"}


def test_beside_an_occasion_is_what_comes_often_too():
    often = {"log_every_times": [(i, True) for i in (0, 3, 6, 9)]}
    seen = chunk_of([2, 1, 1] * 4, {SAVING: [(5, True)], **often})
    assert cost(seen, SAVING, 2, made=True).step_s == pytest.approx(12 / 9)
    every_other = chunk_of([6, 1] * 4, {SAVING: [(i, True) for i in range(0, 8, 2)]})
    assert cost(every_other, SAVING, 0, made=True).more_s == 5
    assert (
        cost(chunk_of([6] * 4, {SAVING: [(i, True) for i in range(4)]}), SAVING, 0, made=True)
        is None
    )


def test_ctrl_c_keeps_the_pairs_and_waits_for_nothing(script):
    stages = comes_rarely(script, SAVING, period=500, cost_s=2.5)
    trial_of(SAVING, 10, stages)
    whole, script.chunks, script.made = script.chunks, 0, 0
    script.interrupt_after, script.rng = whole - 3, np.random.default_rng(0)
    trial = trial_of(SAVING, 10, stages)
    assert (trial.outcome, trial.reason) == ("inconclusive", "interrupted")
    assert trial.pairs > 1 and not any(arm.open for arm in script.started)


@pytest.mark.parametrize(("made", "pairs"), [(3, 3), (0, 0)])
def test_a_script_that_ends_too_late_keeps_the_pairs_until_then(script, monkeypatch, made, pairs):
    chunk, left = FakeArm.chunk, [0]

    def ends(arm, steps, mode=None):
        left[0] += mode == "left out"
        if left[0] > made:
            raise PerfdoctorError("no time was left to begin it again", slug="no-time-left")
        return chunk(arm, steps, mode)

    monkeypatch.setattr(FakeArm, "chunk", ends)
    trial = trial_of(SAVING, 10, comes_rarely(script, SAVING, period=500, cost_s=2.5))
    assert (trial.outcome, trial.pairs) == ("inconclusive", pairs)
    assert ("no time was left to begin it again" in trial.reason) == (pairs == 0)
