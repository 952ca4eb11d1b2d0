"""Where a recommendation fails, its next choice is tried; of one change, its other values too."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from builders import COMPUTE_BOUND_S, make_recommendation, make_report
from rich.console import Console

from perfdoctor.collect.arm import ArmSpec
from perfdoctor.collect.options import no_progress
from perfdoctor.errors import PerfdoctorError
from perfdoctor.experiments import Situation
from perfdoctor.experiments.plan import load
from perfdoctor.experiments.verify import verify
from perfdoctor.render.console import print_report
from perfdoctor.report import Choice, Prediction
from perfdoctor.schema import from_json, to_json

SPEC = ArmSpec(workload={"demo": "images"})
GAIN = Prediction(speedup=1.2, low=1.1, high=1.3, model="made up")
FOREACH = Choice(
    rule="PD402",
    name="another",
    advice="Or this.",
    snippet="use(foreach=True)",
    predicted=GAIN,
    change={"optimizer_foreach": True},
)
THREADS = Choice(rule="PD204", name="a-third", advice="Or that.", snippet="", change={"threads": 3})


def advice(*choices, rule="PD401", change=None):
    return make_recommendation(
        rule=rule,
        change=change or {"optimizer_fused": True},
        predicted=GAIN,
        snippet="use(fused=True)",
        name="made-up",
        choices=choices,
    )


def tried(*recommendations, budget_s=120.0, tell=lambda line: None):
    given = make_report(recommendations=recommendations, stage_s=COMPUTE_BOUND_S)
    return verify(given, SPEC, budget_s, no_progress, tell)


def outcomes(recommendation):
    return {
        one.rule: one.verified and one.verified.outcome
        for one in (recommendation, *recommendation.choices)
    }


def test_the_next_choice_is_tried_where_the_first_is_refuted_and_takes_its_place(world):
    world.gains["optimizer_foreach"] = 1.3
    report = tried(advice(FOREACH, THREADS))
    (one,) = report.recommendations
    assert outcomes(one) == {"PD402": "verified", "PD401": "refuted", "PD204": None}
    assert (one.rule, one.advice, one.change) == ("PD402", "Or this.", {"optimizer_foreach": True})
    assert one.choices[0].rule == "PD401" and one.choices[0].snippet == "use(fused=True)"
    assert "use(foreach=True)" in report.verification.patch
    assert from_json(to_json(report)) == report


def test_one_after_the_other_until_one_helps(world):
    world.gains["threads"] = 1.3
    (one,) = tried(advice(FOREACH, THREADS)).recommendations
    assert outcomes(one) == {"PD204": "verified", "PD401": "refuted", "PD402": "refuted"}


def test_where_nothing_tries_the_first_its_choice_is_tried(world):
    world.gains["optimizer_foreach"] = 1.3
    lines = []
    given = advice(FOREACH, rule="PD999", change={"rewrite": "all of it"})
    (one,) = tried(given, tell=lines.append).recommendations
    assert outcomes(one) == {"PD402": "verified", "PD999": "not_testable"}
    assert "PD402 optimizer_foreach=True" in lines[0]


def test_a_choice_that_is_not_needed_is_not_tried(world):
    world.gains |= {"optimizer_fused": 1.3, "optimizer_foreach": 1.5}
    lines = []
    (one,) = tried(advice(FOREACH), tell=lines.append).recommendations
    assert outcomes(one) == {"PD401": "verified", "PD402": None}
    assert "in the place of what fails: PD402 optimizer_foreach=True" in lines[0]


def test_a_choice_that_is_recommended_by_itself_is_tried_once(world):
    other = advice(rule="PD402", change={"optimizer_foreach": True})
    found = {one.rule: one for one in tried(advice(FOREACH), other).recommendations}
    assert found["PD402"].verified.outcome == "refuted"
    assert found["PD401"].choices[0].verified == found["PD402"].verified


def test_no_choice_is_tried_without_time(world):
    world.step_s = 0.3
    (one,) = tried(advice(FOREACH), budget_s=40.0).recommendations
    assert one.choices[0].verified is None


COMPILED = {"rule": "PD208", "change": {"compile": "default"}}


@pytest.fixture
def modes(world, monkeypatch):
    """What each mode of torch.compile brings."""
    brought = {"default": 1.1, "max-autotune-no-cudagraphs": 1.3}

    def gain(arm, mode):
        changes = arm._changes(mode)
        if changes.get("compile") in world.failing:
            raise world.failing[changes["compile"]]
        return brought.get(changes.get("compile"), 1.0)

    monkeypatch.setattr("fake_arm.FakeArm._gain", gain)
    return brought


def test_the_best_mode_of_compiling_is_reported_and_the_others_shown(world, modes):
    (one,) = tried(advice(**COMPILED)).recommendations
    trial = one.verified
    assert trial.change == {"compile": "max-autotune-no-cudagraphs"} == one.change
    assert trial.speedup == pytest.approx(1.3, abs=0.02)
    assert [other.change for other in trial.others] == [{"compile": "default"}]
    assert trial.others[0].speedup == pytest.approx(1.1, abs=0.02)
    assert trial.others[0].compile_s is not None
    assert one.snippet == 'model = torch.compile(model, mode="max-autotune-no-cudagraphs")'


def test_the_mode_that_was_advised_stays_where_it_is_the_best(world, modes):
    modes["max-autotune-no-cudagraphs"] = 1.02
    (one,) = tried(advice(**COMPILED)).recommendations
    assert one.verified.change == one.change == {"compile": "default"}
    assert one.snippet == "use(fused=True)"
    assert len(one.verified.others) == 1


def test_where_compiling_fails_no_other_mode_is_tried(world, modes):
    world.failing["default"] = PerfdoctorError("no compiler", slug="mode-failed")
    (one,) = tried(advice(**COMPILED)).recommendations
    assert one.verified.outcome == "not_testable" and one.verified.others == ()


def test_which_modes_there_are_depends_on_the_device():
    def others(device, wanted):
        situation = Situation(configuration={}, device=device, wanted={"compile": wanted})
        return [one["compile"] for one in load("compile").others(situation)]

    assert others("cpu", "default") == ["max-autotune-no-cudagraphs"]
    assert others("cuda:0", "default") == ["reduce-overhead", "max-autotune"]
    assert others("cuda:0", "max-autotune") == ["default", "reduce-overhead"]
    assert others("cpu", "off") == []


def test_other_values_and_choices_are_shown(world, modes):
    assert "compile default: verified 1.1" in shown(tried(advice(THREADS, **COMPILED)))
    modes |= {"default": 0.9, "max-autotune-no-cudagraphs": 0.9}
    assert "or PD204 a-third" in shown(tried(advice(THREADS, **COMPILED)))


def shown(report):
    console = Console(width=120, record=True, file=io.StringIO())
    print_report(report, console)
    return console.export_text()


def test_what_leaves_out_a_part_only_refutes_nothing(world):
    world.extra |= {"changes": ["log_every_times"], "periods": {"log_every_times": 1}}
    given = advice(rule="PD503", change={"log_every_times": 10})
    (one,) = tried(given).recommendations
    assert one.verified.outcome == "not_testable" and "only a part" in one.verified.reason
    assert one.verified.speedup is None
    world.gains["log_every_times"] = 1.3
    (one,) = tried(replace(given, predicted=None)).recommendations
    assert one.verified.outcome == "verified"
