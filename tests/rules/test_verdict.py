"""The verdict's word, sentence and confidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bases import report

from perfdoctor.report import Diagnosis, Finding, Prediction
from perfdoctor.rules.engine import diagnose
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.verdict import verdict
from perfdoctor.settings import Settings

STEP_S = 0.100


def facts(shares: dict[str, float], **changes: Any) -> dict[str, Any]:
    """200 equal steps of 100 ms; what `shares` leave is `other`."""
    shares = {**shares, "other": 1 - sum(shares.values())}
    series = {f"{s}_s": [v * STEP_S] * 200 for s, v in shares.items() if s != "other"}
    return {
        "configuration": {"num_workers": 0},
        "steps": {
            "count": 200,
            "time": {"mean_s": STEP_S, "p50_s": STEP_S, "p50_ci": [STEP_S * 0.98, STEP_S * 1.02]},
        },
        "stages": {stage: {"share": share} for stage, share in shares.items()},
        "series": {"step_s": [STEP_S] * 200, **series},
        **changes,
    }


def judge(shares: dict[str, float], *found: Finding, **changes: Any) -> Diagnosis:
    return verdict(Facts(facts(shares, **changes)), found)


def gain(stage: str, speedup: float, **changes: Any) -> Finding:
    return Finding(
        stage=stage,
        title="",
        advice="",
        change={},
        snippet="",
        evidence=(),
        cause="a-cause",
        predicted=Prediction(speedup=speedup, low=speedup, high=speedup, model="pipeline"),
        **changes,
    )


@pytest.mark.parametrize(
    ("stage", "word"),
    [
        ("data_loading", "input-bound"),
        ("h2d_copy", "transfer-bound"),
        ("optimizer", "optimizer-bound"),
        ("arch_step", "search-bound"),
        ("validation", "evaluation-bound"),
        ("metrics", "evaluation-bound"),
        ("checkpoint", "io-bound"),
        ("logging", "io-bound"),
        ("communication", "communication-bound"),
    ],
)
def test_a_stage_with_a_third_of_the_step_holds_it_up(stage: str, word: str) -> None:
    seen = judge({stage: 0.33, "forward": 0.3, "backward": 0.36})
    assert (seen.verdict, seen.bottleneck) == (word, stage)
    assert seen.share == pytest.approx(0.33)
    assert "33" in seen.summary
    assert "33 ms" in seen.summary
    assert "100 ms" in seen.summary
    assert seen.confidence == pytest.approx(11 / 12)


def test_time_between_the_stages_is_overhead() -> None:
    seen = judge({"forward": 0.3, "backward": 0.3, "data_loading": 0.1})
    assert (seen.verdict, seen.bottleneck) == ("overhead-bound", "other")


def test_waiting_for_data_is_said_in_plain_words() -> None:
    assert judge({"data_loading": 0.62, "forward": 0.38}).summary == (
        "Training waits for data: 62 % of each step is spent waiting for the next batch "
        "(62 ms of 100 ms) while the model is idle."
    )


def test_stages_of_one_group_count_together_and_the_largest_is_named() -> None:
    seen = judge({"validation": 0.08, "metrics": 0.14, "forward": 0.7})
    assert (seen.verdict, seen.bottleneck) == ("evaluation-bound", "metrics")
    assert seen.share == pytest.approx(0.22)
    assert seen.summary.startswith("Metrics and validation take 22 %")


def test_only_computing_and_nothing_to_gain_is_healthy() -> None:
    seen = judge({"data_loading": 0.04, "forward": 0.45, "backward": 0.5})
    assert (seen.verdict, seen.bottleneck, seen.share) == ("healthy", "none", 0.0)


def test_the_users_own_stages_are_computing() -> None:
    assert judge({"graph_build": 0.6, "forward": 0.35}).verdict == "healthy"


def test_computing_that_could_be_faster_is_the_bottleneck() -> None:
    shares = {"forward": 0.4, "backward": 0.55}
    seen = judge(shares, gain("backward", 1.4))
    assert (seen.verdict, seen.bottleneck) == ("compute-bound", "backward")
    assert seen.share == pytest.approx(0.95)
    assert judge(shares, gain("backward", 1.04)).verdict == "healthy"
    assert judge(shares, gain("backward", 1.4, optional=True)).verdict == "healthy"


def test_between_10_and_20_percent_advice_that_helps_decides() -> None:
    shares = {"optimizer": 0.15, "forward": 0.4, "backward": 0.44}
    assert judge(shares).verdict == "healthy"
    assert judge(shares, gain("forward", 1.2)).verdict == "compute-bound"
    assert judge(shares, gain("optimizer", 1.1)).verdict == "optimizer-bound"
    both = gain("optimizer", 1.1), gain("forward", 1.6)
    assert judge(shares, *both).verdict == "compute-bound"
    less = {"optimizer": 0.08, "forward": 0.5, "backward": 0.41}
    assert judge(less, gain("optimizer", 1.06)).verdict == "healthy"


def test_full_memory_counts_only_where_nothing_else_holds_the_training_up() -> None:
    full = {"peak_share": 0.93}
    assert judge({"forward": 0.95}, memory=full).verdict == "memory-bound"
    assert judge({"data_loading": 0.5, "forward": 0.5}, memory=full).verdict == "input-bound"
    assert judge({"forward": 0.95}, memory={"peak_share": 0.85}).verdict == "healthy"


def test_without_times_of_the_computing_it_is_inside_other() -> None:
    assert judge({"data_loading": 0.05}).verdict == "healthy"
    assert judge({"data_loading": 0.45}).verdict == "input-bound"


def test_steps_without_any_stage_cannot_be_judged() -> None:
    seen = judge({})
    assert (seen.verdict, seen.bottleneck, seen.confidence) == ("inconclusive", "none", 0.0)


def test_four_steps_are_too_few() -> None:
    steps = {"count": 4, "time": {"mean_s": STEP_S, "p50_s": STEP_S, "p50_ci": None}}
    assert judge({"data_loading": 0.9}, steps=steps).verdict == "inconclusive"


def test_a_median_known_to_a_third_is_inconclusive() -> None:
    wild = np.exp(np.random.default_rng(0).normal(0, 1.5, 30)) * STEP_S
    series = {"step_s": wild.tolist(), "data_loading_s": (wild * 0.9).tolist()}
    time = {"mean_s": STEP_S, "p50_s": STEP_S, "p50_ci": [0.06, 0.14]}
    seen = judge({"data_loading": 0.9}, steps={"count": 30, "time": time}, series=series)
    assert seen.verdict == "inconclusive"
    assert "varies too much" in seen.summary


def test_turns_of_workers_are_a_pattern_and_not_noise() -> None:
    steps = [0.05, 0.15] * 100
    waits = [0.0, 0.10] * 100
    time = {"mean_s": 0.10, "p50_s": 0.10, "p50_ci": [0.05, 0.15]}
    seen = judge(
        {"data_loading": 0.5, "forward": 0.5},
        configuration={"num_workers": 2},
        steps={"count": 200, "time": time},
        series={"step_s": steps, "data_loading_s": waits},
    )
    assert seen.verdict == "input-bound"


def test_throughput_that_falls_is_degrading_and_the_growing_stage_is_named() -> None:
    waits = np.linspace(0.01, 0.10, 200)
    trend = {"first": 2052.0, "last": 539.0, "change": 539 / 2052 - 1, "shape": "drift"}
    series = {"step_s": (waits + 0.05).tolist(), "data_loading_s": waits.tolist()}
    seen = judge({"data_loading": 0.5, "forward": 0.5}, throughput={"trend": trend}, series=series)
    assert (seen.verdict, seen.bottleneck) == ("degrading", "data_loading")
    assert seen.summary == (
        "Training gets slower as it goes: from 2,052 to 539 samples/s (−74 %); most of the added "
        "time is in data loading."
    )
    assert seen.confidence > 0.8


@pytest.mark.parametrize(("shape", "change"), [("drift", -0.1), ("drift", 0.5), ("steady", -0.2)])
def test_other_trends_do_not_degrade(shape: str, change: float) -> None:
    trend = {"first": 100.0, "last": 100.0 * (1 + change), "change": change, "shape": shape}
    assert judge({"forward": 0.95}, throughput={"trend": trend}).verdict == "healthy"


def test_a_few_seconds_that_get_slower_are_no_trend() -> None:
    trend = {"first": 100.0, "last": 50.0, "change": -0.5, "shape": "drift"}
    time = {"mean_s": STEP_S, "p50_s": STEP_S, "p50_ci": [STEP_S, STEP_S]}
    for total_s, word in ((4.0, "healthy"), (400.0, "degrading")):
        steps = {"count": 40, "time": {**time, "total_s": total_s}}
        seen = judge({"forward": 0.95}, throughput={"trend": trend}, steps=steps)
        assert seen.verdict == word


def test_confidence_is_how_often_the_same_group_leads() -> None:
    waits = np.where(np.arange(200) < 120, 0.08, 0.0)
    series = {"step_s": [0.13] * 200, "data_loading_s": waits.tolist()}
    seen = judge({"data_loading": 0.49, "forward": 0.51}, series=series)
    assert seen.confidence == pytest.approx((6 + 1) / (10 + 2))


def test_short_steps_say_as_little_as_the_time_they_take() -> None:
    waits = np.where(np.arange(200) < 100, 0.9, 0.0)
    series = {"step_s": (waits + 0.1).tolist(), "data_loading_s": waits.tolist()}
    seen = judge({"data_loading": 0.8, "forward": 0.2}, series=series)
    assert seen.confidence == pytest.approx((9 + 1) / (10 + 2)), "one tenth holds half the steps"


def test_without_series_confidence_is_even() -> None:
    seen = judge({"data_loading": 0.5, "forward": 0.5}, series={})
    assert (seen.verdict, seen.confidence) == ("input-bound", 0.5)


@pytest.mark.parametrize(
    ("base", "word"),
    [
        ("input_bound_cpu", "input-bound"),
        ("starved_workers", "input-bound"),
        ("healthy_cpu", "healthy"),
        ("healthy_gpu", "healthy"),
        ("plain_gpu", "compute-bound"),
        ("search", "search-bound"),
        ("few_threads", "compute-bound"),
    ],
)
def test_whole_reports_get_their_verdict(base: str, word: str) -> None:
    diagnosis = diagnose(report(base), Settings()).diagnosis
    assert diagnosis is not None
    assert diagnosis.verdict == word


def test_a_script_of_thousands_of_short_operations_is_not_said_to_be_held_up_by_little() -> None:
    shares = {"forward": 0.4, "backward": 0.55}
    stages = {n: {"share": s, "p50_s": s * STEP_S} for n, s in shares.items()}
    told = {"source": {"kind": "run"}, "stages": stages}
    seen = judge(shares, configuration={"autograd_nodes": 4000}, **told)
    assert "4,000 operations a step of 24 µs each" in seen.summary
    assert "little else" not in seen.summary
    assert "little else" in judge(shares, configuration={"autograd_nodes": 40}, **told).summary


@pytest.mark.parametrize(("recomputes", "said"), [(None, True), (True, False)])
def test_a_backward_pass_longer_than_recomputing_explains_is_told(
    recomputes: bool | None, said: bool
) -> None:
    configuration = {"gradient_checkpointing": recomputes}
    told = {"source": {"kind": "run"}, "configuration": configuration}
    seen = judge({"forward": 0.2, "backward": 0.75}, **told)
    assert ("takes 3.8 times as long as the forward pass" in seen.summary) is said
    assert ("little else" in seen.summary) is not said


def _compiled(speedup: float) -> Diagnosis:
    fault = replace(gain("forward", speedup), cause="compiling-time")
    told = {"counters": {"compile_s": 60.0}, "wall": {"total_s": 80.0}}
    return judge({"data_loading": 0.6}, fault, gain("data_loading", 2.0), **told)


def test_a_run_that_spent_its_time_compiling_is_held_up_by_that() -> None:
    seen = _compiled(4.0)
    assert (seen.verdict, seen.bottleneck, seen.of) == ("overhead-bound", "forward", "run")
    assert "75 % of the run (60 s of 80 s)" in seen.summary


def test_compiling_is_not_the_verdict_where_something_else_gains_more() -> None:
    assert _compiled(1.5).verdict == "input-bound"


def test_a_loss_that_can_be_less_is_named_with_its_own_share() -> None:
    seen = judge({"forward": 0.2, "loss": 0.15, "backward": 0.6}, gain("loss", 1.4))
    assert (seen.bottleneck, seen.share) == ("loss", pytest.approx(0.15))
    assert "with its part of the backward pass can be less" in seen.summary


@pytest.mark.parametrize(
    ("found", "bottleneck"),
    [
        ((gain("data_loading", 1.3), gain("validation", 1.2)), "data_loading"),
        ((gain("data_loading", 1.1), gain("validation", 1.2)), "validation"),
        ((), "validation"),
    ],
)
def test_validation_that_waits_for_batches_is_loading_that_can_be_mended(
    found: tuple[Finding, ...], bottleneck: str
) -> None:
    shares = {"data_loading": 0.14, "validation": 0.22, "forward": 0.6}
    parts = [{"name": "validation", "seconds": 4.4, "share": 0.22}]
    changes = {
        "configuration": {"num_workers": 1, "validation_waits_s": 3.3},
        "wall": {"total_s": 20.0, "parts": parts},
    }
    seen = judge(shares, *found, **changes)
    assert seen.bottleneck == bottleneck
    if bottleneck == "data_loading":
        assert seen.share == pytest.approx(0.14 + 0.22 * 0.75)
        assert "Training and validation wait for data: 30 %" in seen.summary
