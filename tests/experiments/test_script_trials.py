"""What is different in trials of a script: its habits, its batches, and losses without a seed."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
from builders import make_recommendation, make_report, make_stages
from fake_arm import FakeArm

from perfdoctor.collect.arm import ArmSpec
from perfdoctor.collect.options import no_progress
from perfdoctor.experiments.in_process import MODE, chunks
from perfdoctor.experiments.plan import experiment_for, load, situation_of
from perfdoctor.experiments.trials import Laboratory
from perfdoctor.experiments.verify import verify
from perfdoctor.report import Prediction

SPEC = ArmSpec(workload={"script": "train.py"})
GAIN = Prediction(speedup=1.2, low=1.1, high=1.3, model="made up")


def advice(change, rule="PD401"):
    return make_recommendation(rule=rule, change=change, predicted=GAIN, snippet="", name="x")


@pytest.fixture
def script(world):
    """The world of a script that saves every fourth step."""
    changes = ["checkpoint_every_times", "optimizer_fused", "num_workers"]
    world.extra |= {"changes": changes, "redrawn": ["num_workers"]}
    world.extra["periods"] = {"checkpoint_every_times": 4, "collect_each_step": 7}
    return world


def trial_of(change):
    report = make_report(recommendations=(advice(change),))
    done = verify(report, SPEC, 120.0, no_progress, lambda line: None)
    return done.recommendations[0].verified


@pytest.mark.parametrize(
    ("changes", "whole"),
    [
        ({"checkpoint_every_times": 5}, 20),
        ({"checkpoint_every_times": 500}, 80),
        ({"collect_each_step": False}, 7),
        ({"optimizer_fused": True}, 1),
    ],
)
def test_chunks_hold_what_the_change_makes_rarer(script, changes, whole):
    with Laboratory(SPEC, 120.0, no_progress) as laboratory:
        laboratory.arm.add_mode(MODE, changes)
        assert chunks(laboratory, MODE, 1.0).steps % whole == 0
        assert chunks(laboratory, MODE, 0.0).steps < 2 * whole + 2


def test_losses_of_other_batches_refute_nothing(script):
    script.gains["num_workers"] = 1.5
    script.losses["num_workers"] = (9.0, 1.0, 5.0)
    trial = trial_of({"num_workers": 3})
    assert (trial.outcome, trial.loss_parity) == ("verified", "not comparable: other batches")


def test_losses_that_differ_from_run_to_run_refute_nothing(script, monkeypatch):
    start = itertools.count(1.0)
    monkeypatch.setattr(FakeArm, "_losses", lambda arm, changes: (next(start), 1.0, 1.0))
    script.gains["optimizer_fused"] = 1.5
    trial = trial_of({"optimizer_fused": True})
    assert trial.outcome == "verified"
    assert trial.loss_parity == "not comparable: they differ from run to run"


def test_losses_that_diverge_with_the_change_alone_refute_it(script):
    script.gains["optimizer_fused"] = 1.5
    script.losses["optimizer_fused"] = (9.0, 1.0, 5.0)
    assert trial_of({"optimizer_fused": True}).outcome == "refuted"


def test_another_change_than_the_advised_one_is_not_tried_in_its_place():
    assert experiment_for(advice({"something_else": 1}, rule="PD102")) is None
    assert experiment_for(advice({"something_else": 1}, rule="PD109")).ceiling
    assert experiment_for(advice({"reads_at_once": 8}, rule="PD108")).name == "concurrent-reads"


LESS, FUSED = {"checkpoint_every_times": 10}, {"optimizer_fused": True}


def tried(budget_s, *advised, stages=None, tell=lambda line: None):
    report = make_report(recommendations=advised)
    report = replace(report, stages=report.stages | (stages or {}))
    done = verify(report, SPEC, budget_s, no_progress, tell)
    return {one.rule: one.verified for one in done.recommendations}


def saving(script, period, cost_s):
    """It saves so rarely, as the observed run has seen: its stages."""
    script.rare["checkpoint_every_times"] = (period, cost_s, None)
    (stage,) = make_stages({"checkpoint": cost_s}).values()
    return {"checkpoint": replace(stage, calls_per_step=1 / period)}


def test_what_is_seen_too_rarely_is_not_begun_and_takes_no_time_of_others(script):
    stages = saving(script, 5000, 20.0)
    script.gains["optimizer_fused"] = 1.1
    found = tried(120.0, advice(LESS, "PD502"), advice(FUSED), stages=stages)
    assert found["PD401"].outcome == "verified"
    assert (found["PD502"].outcome, found["PD502"].pairs) == ("not_testable", 0)
    assert "stretches of 5,000 steps" in found["PD502"].reason
    needed = float(re.search(r"--budget (\d+)s", found["PD502"].reason)[1])
    found = tried(needed, advice(LESS, "PD502"), advice(FUSED), stages=stages)
    assert found["PD502"].outcome == "verified"
    assert needed > 10 * 5000 * script.step_s


def test_what_takes_most_of_the_time_comes_last(script):
    stages, lines = saving(script, 600, 2.0), []
    less = replace(advice(LESS, "PD502"), predicted=replace(GAIN, speedup=1.4))
    other = advice({"num_workers": 3}, "PD101")
    found = tried(120.0, less, advice(FUSED), other, stages=stages, tell=lines.append)
    assert lines[-1].index("PD401") < lines[-1].index("PD502")  # which promises more
    assert found["PD502"].pairs >= 5


def test_how_often_it_saves_is_known_from_the_observed_run(script):
    script.extra["periods"] = {}
    (stage,) = make_stages({"checkpoint": 0.1}).values()
    stages = {"checkpoint": replace(stage, calls_per_step=0.0001)}
    trial = tried(120.0, advice(LESS, "PD502"), stages=stages)["PD502"]
    assert trial.outcome == "not_testable" and "10,000 steps" in trial.reason


def reasons(configuration, *, wanted=None, **extra):
    extra = {"changes": ["precision"], **extra}
    situation = situation_of(make_report(configuration=configuration), extra)
    wanted = wanted or {"precision": "fp16"}
    return {
        name: load(name).why_not(replace(situation, wanted=wanted))
        for name in ("precision", "compile", "arch-every", "arch-order")
    }


@pytest.mark.parametrize(
    ("name", "wanted"), [("precision", {"precision": "fp32"}), ("compile", {"compile": "off"})]
)
def test_what_only_the_code_of_a_script_can_change_is_not_announced(name, wanted):
    used = {"precision": "fp64", "compile": "default"}
    assert "a change of your code" in reasons(used, wanted=wanted)[name]


def test_fp16_is_tried_only_where_gradients_are_scaled():
    cuda = {"device": "cuda:0", "precision": "fp32"}
    assert "GradScaler" in reasons(cuda)["precision"]
    assert reasons(cuda, traits=["scaler"])["precision"] is None


def test_an_architecture_that_a_script_searches_is_not_denied():
    assert "no architecture" in reasons({})["arch-every"]
    found = reasons({"arch_every": 1})
    assert found["arch-every"] is None
    assert "cannot be changed" in found["arch-order"]
