"""What is begun is expected to fit into the budget."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import COMPUTE_BOUND_S, make_recommendation, make_report, make_wall
from fake_arm import FakeArm, World
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from perfdoctor.collect.arm import ArmSpec
from perfdoctor.collect.options import no_progress
from perfdoctor.errors import PerfdoctorError
from perfdoctor.experiments.plan import plan, situation_of
from perfdoctor.experiments.trials import Laboratory
from perfdoctor.experiments.verify import verify
from perfdoctor.record import Source
from perfdoctor.report import Prediction, Report

SPEC = ArmSpec(workload={"script": "train.py"})
GAIN = Prediction(speedup=1.2, low=1.1, high=1.3, model="made up")
CHANGES = {
    "PD401": {"optimizer_fused": True},
    "PD202": {"precision": "bf16"},
    "PD217": {"channels_last": True},
    "PD205": {"batch_size": 64},
}


def advised(count: int, gain: Prediction | None = GAIN) -> Report:
    advice = tuple(
        make_recommendation(rule=rule, change=change, predicted=gain, snippet="", name="made-up")
        for rule, change in list(CHANGES.items())[:count]
    )
    return make_report(recommendations=advice, stage_s=COMPUTE_BOUND_S)


def tried(budget_s: float, count: int = 4, gain: Prediction | None = GAIN) -> Report:
    return verify(advised(count, gain), SPEC, budget_s, no_progress, lambda line: None)


def a_script(world: World, **more: float) -> World:
    world.extra["losses_by_process"] = True
    vars(world).update(more)
    return world


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    start_s=st.floats(0.5, 40.0),
    step_s=st.floats(0.002, 1.0),
    noise=st.sampled_from([0.0, 0.02]),
    budget_s=st.floats(30.0, 300.0),
    gains=st.dictionaries(st.sampled_from(["optimizer_fused", "precision"]), st.floats(0.8, 1.4)),
    period=st.sampled_from([1, 50]),
)
@example(  # the only block that fits is of steps that the change makes slower
    start_s=1.0, step_s=0.328125, noise=0.0, budget_s=150.0,
    gains={"optimizer_fused": 0.875}, period=50,
)  # fmt: skip
def test_a_script_keeps_to_its_budget(world, start_s, step_s, noise, budget_s, gains, period):
    world.time.now_s, world.rng = 100.0, np.random.default_rng(0)
    a_script(world, start_s=start_s, step_s=step_s, noise=noise, gains=gains)
    world.extra["turn"] = period
    spent_s = tried(budget_s).verification.spent_s
    warming_s = start_s + max(22 * step_s, 2 * step_s + 0.1 * budget_s)  # before anything is known
    assert spent_s <= max(warming_s, budget_s) * 1.02


def test_a_machine_that_gets_busy_costs_a_block_at_most(world):
    a_script(world, start_s=8.0, step_s=0.05, slower_at_s=140.0, slower=2.0, noise=0.2)
    assert tried(90.0).verification.spent_s < 93.0


def test_no_process_is_begun_that_would_not_end_in_time(world):
    a_script(world, start_s=25.0)
    report = tried(60.0, count=1)
    (trial,) = [one.verified for one in report.recommendations]
    assert trial.pairs == 0 and "a new process of 25 s included" in trial.reason
    assert "--budget" in trial.reason
    assert report.verification.spent_s <= 60.0


def observed(count: int, start_up_s: float, **more: object) -> Report:
    wall = make_wall({"start_up": start_up_s, "forward": 10.0})
    return replace(advised(count), source=Source(kind="run"), wall=wall, **more)


def test_a_script_whose_start_does_not_fit_is_not_begun(world):
    lines = []
    report = verify(observed(2, 25.0), SPEC, 20.0, no_progress, lines.append)
    assert not world.started and report.verification.spent_s == 0
    for one in report.recommendations:
        assert one.verified.outcome == "inconclusive"
        assert "takes 25 s to start" in one.verified.reason and "--budget 6" in one.verified.reason
    verify(observed(2, 10.0), SPEC, 20.0, no_progress, lines.append)
    assert len(world.started) == 1


def test_a_script_in_which_nothing_can_be_tried_is_not_begun(world):
    given = {"free_loading": True}, {"cache_samples": True}
    advice = [make_recommendation(rule="PD110", change=c, predicted=GAIN) for c in given]
    report = observed(0, 1.0, recommendations=tuple(advice), configuration={"device": "cpu"})
    report = verify(report, SPEC, 120.0, no_progress, lambda line: None)
    assert not world.started and not report.verification.ceilings
    for one in report.recommendations:
        assert one.verified.reason == "the training uses no DataLoader"


def test_a_process_that_died_at_the_end_is_not_begun_again(world):
    a_script(world, start_s=20.0)
    with Laboratory(SPEC, 60.0, no_progress) as laboratory:
        world.time.now_s += 30.0
        laboratory.recover(PerfdoctorError("killed", slug="arm-ended"))
        assert len(world.started) == 1 and laboratory.gone
        (candidate,) = plan(advised(1), situation_of(advised(1), {})).candidates
        assert laboratory.needs_s(candidate) == math.inf


@pytest.mark.parametrize("budget_s", [60.0, 120.0])
def test_most_of_the_budget_is_used_where_nothing_is_decided(world, budget_s):
    a_script(world, start_s=3.0, noise=0.5)
    assert tried(budget_s, 1, gain=None).verification.spent_s > 0.7 * budget_s


@pytest.mark.parametrize(("step_s", "turn"), [(0.05, 1), (0.1, 4), (0.3, 1), (2.0, 1)])
def test_pairs_of_processes_with_slow_steps_keep_to_the_budget(world, step_s, turn):
    world.step_s, world.start_s, world.extra["turn"] = step_s, 1.0, turn
    (candidate,) = plan(advised(3), situation_of(advised(3), {"traits": ["conv"]})).candidates[2:]
    assert candidate.experiment.restart
    with Laboratory(SPEC, 120.0, no_progress) as laboratory:
        begun = world.time.now_s
        trial = laboratory.attempt(candidate, 60.0)
        assert world.time.now_s - begun <= 61.0
    assert trial.pairs >= 5 or "--budget" in trial.reason  # fewer decide nothing


def test_a_script_that_ends_too_late_to_be_begun_again_keeps_its_pairs(world, monkeypatch):
    over = PerfdoctorError("the script ended, and no time was left", slug="no-time-left")
    made = FakeArm.chunk

    def chunk(arm, steps, mode=None):
        if mode == "trial" and world.time.now_s > 120.0:
            raise over
        return made(arm, steps, mode)

    a_script(world, noise=0.5)
    monkeypatch.setattr(FakeArm, "chunk", chunk)
    found = [one.verified for one in tried(60.0, 2, gain=None).recommendations]
    second, first = sorted(found, key=lambda trial: trial.pairs)
    assert first.outcome == second.outcome == "inconclusive"
    assert first.pairs > 0 and "the budget was spent after" in first.reason
    assert second.pairs == 0 and "no time was left for another one" in second.reason
    assert world.started[0].begins_until_s == pytest.approx(160.0 - 2.0, abs=1.0)


def test_a_process_that_dies_over_a_larger_batch_takes_no_trial_with_it(world):
    size = {"batch_size": 64}
    killed = PerfdoctorError("ended by signal 9", slug="arm-ended")
    world.gains["batch_size"], made = 1.3, FakeArm.add_mode

    def add_mode(arm, name, changes):
        if changes.get("batch_size", 0) > 64:
            raise killed
        made(arm, name, changes)

    advice = (make_recommendation(rule="PD205", change=size, predicted=GAIN, snippet=""),)
    report = make_report(recommendations=advice, stage_s=COMPUTE_BOUND_S)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeArm, "add_mode", add_mode)
        found = verify(report, SPEC, 120.0, no_progress, lambda line: None)
    (trial,) = [one.verified for one in found.recommendations]
    assert trial.outcome == "verified" and len(world.started) == 2
    assert trial.curve[-1].error == "further sizes were not measured: ended by signal 9"


def test_pairs_of_processes_are_not_begun_again_too_late_and_those_made_are_kept(
    world, monkeypatch
):
    (candidate,) = plan(advised(3), situation_of(advised(3), {"traits": ["conv"]})).candidates[2:]
    made = FakeArm.warm

    def warm(arm, steps, mode=None):
        if len(world.started) > 1 + 2 * 3:  # in the fourth pair
            raise PerfdoctorError("no time was left to begin it again", slug="no-time-left")
        return made(arm, steps, mode)

    monkeypatch.setattr(FakeArm, "warm", warm)
    with Laboratory(SPEC, 120.0, no_progress) as laboratory:
        trial = laboratory.attempt(candidate, 100.0)
        assert not laboratory.gone
    assert (trial.outcome, trial.pairs) == ("inconclusive", 3)
    assert len({arm.begins_until_s for arm in world.started}) == 1


def test_losses_are_not_compared_by_a_process_that_would_end_too_late(world, monkeypatch):
    made, took_s = FakeArm.warm, {"trial": 40.0}  # to compile

    def warm(arm, steps, mode=None):
        world.time.now_s += took_s.pop(mode, 0.0)
        return made(arm, steps, mode)

    a_script(world, start_s=10.0)
    monkeypatch.setattr(FakeArm, "warm", warm)
    (trial,) = [one.verified for one in tried(60.0, 1).recommendations]
    assert "no time was left" in trial.loss_parity
