"""What is different in trials of a script: its habits, its batches, and losses without a seed."""

from __future__ import annotations

import itertools

import pytest
from builders import make_recommendation, make_report
from fake_arm import FakeArm

from perfdoctor.collect.arm import ArmSpec
from perfdoctor.collect.options import no_progress
from perfdoctor.experiments.plan import experiment_for
from perfdoctor.experiments.trials import MODE, Laboratory
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
        assert laboratory.chunks(MODE, 1.0).steps % whole == 0
        assert laboratory.chunks(MODE, 0.0).steps < 2 * whole + 2


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
