"""All recommendations at once: the pipeline model's word, not the product of the single gains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from bases import CPU_PARTS, input_bound_cpu, training

from perfdoctor.record import Run
from perfdoctor.report import Prediction, Recommendation, Together
from perfdoctor.rules.engine import diagnose
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.together import together
from perfdoctor.schema import from_json, to_dict, to_json
from perfdoctor.settings import Settings
from perfdoctor.summarise import summarise


def advice(stage: str, speedup: float, change: dict[str, Any], **others: Any) -> Recommendation:
    fields: dict[str, Any] = {
        "rank": 1,
        "rule": f"PD {stage}",
        "name": "a-fault",
        "title": "A fault",
        "advice": "Mend it.",
        "snippet": "",
        "evidence": (),
        "effort": "flag",
        "safety": "exact",
        "confidence": 0.8,
        "predicted": Prediction(speedup=speedup, low=speedup, high=speedup, model="some"),
    }
    return Recommendation(stage=stage, change=change, **(fields | others))


def all_of(run: Run, *recommendations: Recommendation) -> Together:
    found = together(Facts(to_dict(summarise(run))), recommendations)
    assert found is not None
    return found


def workers(count: int, speedup: float = 2.5) -> Recommendation:
    return advice("data_loading", speedup, {"num_workers": count, "persistent_workers": True})


def test_one_recommendation_says_it_alone() -> None:
    facts = Facts(to_dict(summarise(input_bound_cpu())))
    assert together(facts, [workers(2)]) is None
    assert together(facts, []) is None


def test_a_faster_model_that_then_waits_for_data_brings_less_than_the_product() -> None:
    # 80 ms a batch, 50 ms of computing: two workers make a step of 50 ms, halving the computing
    # then leaves 42 ms, since two workers deliver no faster
    compute = advice("forward", 1.24, {"precision": "bf16"})
    found = all_of(input_bound_cpu(), workers(2), compute)
    assert found.product == pytest.approx(2.5 * 1.24)
    assert found.speedup == pytest.approx(0.130 / 0.042, rel=0.03)
    assert found.low <= found.speedup <= found.high
    assert found.model == "pipeline model"


def test_a_faster_model_behind_a_slow_loader_brings_nothing_more() -> None:
    slow = training(batch_s=0.400, parts_s=CPU_PARTS, workers=1, cores=8)
    compute = advice("forward", 1.02, {"precision": "bf16"})
    found = all_of(slow, workers(2, 2.0), compute)
    assert found.speedup == pytest.approx(2.0, rel=0.02)


def test_parts_of_different_stages_add_up() -> None:
    busy = training(batch_s=0.010, parts_s={"forward": 0.060, "optimizer": 0.040}, workers=2)
    found = all_of(
        busy,
        advice("forward", 1 / (1 - 0.3), {"precision": "bf16"}),
        advice("optimizer", 1 / (1 - 0.2), {"optimizer_fused": True}),
    )
    assert found.speedup == pytest.approx(1 / (1 - 0.5), rel=0.03)


def test_two_changes_of_one_stage_do_not_save_more_than_it_takes() -> None:
    busy = training(batch_s=0.010, parts_s={"forward": 0.060, "optimizer": 0.040}, workers=2)
    half = 1 / (1 - 0.3)  # each takes half of the forward's 60 %
    found = all_of(busy, advice("forward", half, {"a": 1}), advice("forward", half, {"b": 2}))
    assert found.speedup == pytest.approx(1 / (1 - 0.45), rel=0.03)


def test_a_cheaper_batch_and_more_workers_share_one_wait() -> None:
    cheaper = advice("data_loading", 0.130 / 0.090, {"cache_samples": True})
    found = all_of(input_bound_cpu(), workers(2), cheaper)
    assert found.speedup == pytest.approx(0.130 / 0.050, rel=0.03)


@pytest.mark.parametrize(
    "left_out",
    [
        {"optional": True},
        {"safety": "semantics"},
        {"predicted": None},
        {"predicted": Prediction(speedup=2.0, low=1.0, high=4.0, model="amdahl-upper-bound")},
    ],
)
def test_options_risks_and_unknown_gains_are_left_out(left_out: dict[str, Any]) -> None:
    facts = Facts(to_dict(summarise(input_bound_cpu())))
    other = advice("forward", 1.2, {"precision": "bf16"}, **left_out)
    assert together(facts, [workers(2), other]) is None


def test_without_a_loader_the_parts_are_summed() -> None:
    run = replace(input_bound_cpu(), loader=None)
    found = all_of(run, advice("forward", 1.05, {"a": 1}), advice("backward", 1.1, {"b": 2}))
    assert found.model == "amdahl-sum"
    assert found.speedup == pytest.approx(1 / (1 - (1 - 1 / 1.05) - (1 - 1 / 1.1)), rel=0.01)


def test_it_is_part_of_the_report_and_its_json() -> None:
    report = diagnose(summarise(input_bound_cpu()), Settings())
    assert report.together is None  # one recommendation
    both = Together(speedup=2.0, low=1.8, high=2.2, model="m", rules=("PD1", "PD2"), product=2.4)
    again = from_json(to_json(replace(report, together=both)))
    assert again.together == both


@pytest.mark.parametrize("loader", [True, False])
def test_what_is_spread_over_all_stages_is_in_the_parts_of_the_others_too(loader: bool) -> None:
    """Pauses for garbage, say: of a stage that is gone theirs are gone as well."""
    run = training(batch_s=0.001, parts_s={"forward": 0.030, "logging": 0.070}, workers=2)
    pauses = advice("other", 1.25, {"gc_frozen": True})
    figures = advice("logging", 1 / (1 - 0.65), {"figures_every_times": 50})
    found = all_of(run if loader else replace(run, loader=None), figures, pauses)
    assert found.speedup <= found.product * 1.001
    assert found.speedup == pytest.approx(found.product, rel=0.05)
