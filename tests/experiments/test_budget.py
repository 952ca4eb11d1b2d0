"""What is begun is expected to fit into the budget."""

from __future__ import annotations

import math

import numpy as np
import pytest
from builders import COMPUTE_BOUND_S, make_recommendation, make_report
from fake_arm import World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perfdoctor.collect.arm import ArmSpec
from perfdoctor.collect.options import no_progress
from perfdoctor.errors import PerfdoctorError
from perfdoctor.experiments.plan import plan, situation_of
from perfdoctor.experiments.trials import Laboratory
from perfdoctor.experiments.verify import verify
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
    assert trial.pairs == 0 and "a new process, which takes 25 s, is too slow" in trial.reason
    assert "--budget" in trial.reason
    assert report.verification.spent_s <= 60.0


def test_a_process_that_died_at_the_end_is_not_begun_again(world):
    a_script(world, start_s=20.0)
    with Laboratory(SPEC, 60.0, no_progress) as laboratory:
        world.time.now_s += 30.0
        laboratory._recover(PerfdoctorError("killed", slug="arm-ended"))
        assert len(world.started) == 1 and laboratory.gone
        (candidate,) = plan(advised(1), situation_of(advised(1), {})).candidates
        assert laboratory.needs_s(candidate) == math.inf


@pytest.mark.parametrize("budget_s", [60.0, 120.0])
def test_most_of_the_budget_is_used_where_nothing_is_decided(world, budget_s):
    a_script(world, start_s=3.0, noise=0.5)
    assert tried(budget_s, 1, gain=None).verification.spent_s > 0.7 * budget_s
