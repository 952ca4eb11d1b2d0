"""What holds for observed scripts as a whole: their verdicts, and nothing for healthy ones."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_bases import RUNS

from perfdoctor import schema
from perfdoctor.report import Report
from perfdoctor.rules import Facts, catalogue, engine
from perfdoctor.rules.engine import diagnose
from perfdoctor.settings import Settings

RULES = catalogue.load().rules
REPORTS = {name: make() for name, make in RUNS.items()}

VERDICTS = {
    "fine_script": ("healthy", "none", None),
    "slow_sample": ("input-bound", "data_loading", "PD107"),
    "slow_sample_in_validation_too": ("input-bound", "data_loading", "PD107"),
    "slow_sample_in_workers": ("input-bound", "data_loading", "PD107"),
    "slow_collate": ("input-bound", "data_loading", "PD109"),
    "slow_storage": ("input-bound", "data_loading", "PD108"),
    "generator": ("input-bound", "data_loading", "PD110"),
    "shards": ("input-bound", "data_loading", "PD111"),
    "held_up_in_memory": ("input-bound", "data_loading", None),
    "remade_iterators": ("input-bound", "data_loading", "PD112"),
    "restarted_workers": ("input-bound", "data_loading", "PD104"),
    "reporting": ("evaluation-bound", "metrics", "PD505"),
    "figures_now_and_then": ("io-bound", "logging", "PD506"),
    "own_code": ("compute-bound", "loss", "PD212"),
    "growing": ("degrading", "other", "PD701"),
    "slowed_by_others": ("healthy", "none", None),
    "own_optimizer": ("optimizer-bound", "optimizer", "PD404"),
    "unrolled_search": ("search-bound", "arch_step", "PD402"),
    "remade_model": ("search-bound", "arch_step", "PD243"),
    "one_thread": ("compute-bound", "backward", "PD204"),
    "slow_forward_now_and_then": ("overhead-bound", "other", None),
    "slow_all_over_now_and_then": ("overhead-bound", "other", None),
    "slow_all_over_with_a_long_backward": ("healthy", "none", None),
    "slow_between_stages_now_and_then": ("overhead-bound", "other", None),
    "stalls_between_stages": ("overhead-bound", "other", "PD214"),
    "growing_hooks": ("degrading", "forward", "PD701"),
    "piled_hooks": ("degrading", "forward", "PD242"),
    "piled_hooks_after_a_rough_start": ("degrading", "forward", "PD242"),
    "piled_gradient_hooks": ("compute-bound", "backward", "PD242"),
    "piled_hooks_on_slow_machine": ("healthy", "none", None),
    "prepares_long": ("overhead-bound", "start_up", "PD509"),
    "carried_state": ("compute-bound", "backward", "PD241"),
    "carried_state_of_sequences": ("compute-bound", "backward", "PD241"),
    "rising_and_falling": ("healthy", "none", "PD901"),
    "prefixes": ("evaluation-bound", "validation", "PD511"),
    "one_sample_at_a_time": ("evaluation-bound", "validation", "PD512"),
    "acts_one_by_one": ("compute-bound", "forward", "PD247"),
    "small_validation_batches": ("evaluation-bound", "validation", "PD514"),
    "whole_outputs_kept": ("evaluation-bound", "validation", "PD515"),
    "carried_state_of_the_run": ("degrading", "backward", "PD241"),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_stage_with_the_avoidable_time_is_the_bottleneck(name: str) -> None:
    result = diagnose(REPORTS[name], Settings())
    assert result.diagnosis is not None
    first = next((r.rule for r in result.recommendations), None)
    assert (result.diagnosis.verdict, result.diagnosis.bottleneck, first) == VERDICTS[name]
    assert not result.warnings


def test_a_graph_built_each_step_is_named_and_not_the_model() -> None:
    facts = schema.to_dict(REPORTS["own_code"])
    facts["hotspots"] = [line for line in facts["hotspots"] if line["stage"] == "graph_build"]
    outcome = engine.judge(RULES, Facts(facts), {})
    verdict = engine.judged_verdict(Facts(facts), [found.finding for found in outcome.found])
    assert (verdict.verdict, verdict.bottleneck) == ("compute-bound", "graph_build")
    assert verdict.summary.startswith("Graph build takes")


@pytest.mark.parametrize("name", RUNS)
def test_a_stored_run_is_judged_like_a_fresh_one(name: str) -> None:
    stored = schema.from_json(schema.to_json(REPORTS[name]))
    first, second = (diagnose(r, Settings()) for r in (REPORTS[name], stored))
    assert first.recommendations == second.recommendations
    assert first.diagnosis == second.diagnosis


def _paths(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    inner = ("configuration", "loader", "stages", "epochs", "wall", "memory", "stalls", "series")
    found = [(key,) for key in facts if key != "source"]
    return found + [(k, name) for k in inner if isinstance(facts[k], dict) for name in facts[k]]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_rule_fails_when_any_facts_are_missing(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(RUNS)))
    facts = copy.deepcopy(schema.to_dict(REPORTS[name]))
    for path in data.draw(st.lists(st.sampled_from(_paths(facts)), max_size=6)):
        place = facts if len(path) == 1 else facts.get(path[0])
        if isinstance(place, dict) and path[-1] in place:
            del place[path[-1]]
    outcome = engine.judge(RULES, Facts(facts), {})
    assert not outcome.warnings
    for found in outcome.found:
        predicted = found.finding.predicted
        if predicted is not None:
            assert predicted.low <= predicted.speedup <= predicted.high < math.inf


def test_validation_between_the_steps_is_no_faster_with_workers() -> None:
    """Workers speed the steps up, and not what lies between them."""

    def speedup(report: Report) -> float:
        result = diagnose(report, Settings())
        predicted = next(r.predicted for r in result.recommendations if r.rule == "PD108")
        assert predicted is not None
        return predicted.speedup

    report = REPORTS["slow_storage"]
    facts = schema.to_dict(report)
    facts["stages"]["validation"] = {**facts["stages"]["forward"], "share": 0.5, "between": True}
    beside = schema.from_json(json.dumps(facts).encode())
    assert speedup(beside) < 2.0 < speedup(report)


@pytest.mark.parametrize(("others", "verdict"), [(1.0, "healthy"), (0.0, "degrading")])
def test_a_stage_that_is_most_of_the_step_is_not_blamed_for_a_busy_machine(
    others: float, verdict: str
) -> None:
    """All stages twice as long in the second half: the machine. Only the largest: the script."""
    from run_bases import STEPS, script

    late = np.arange(STEPS) >= STEPS // 2
    seconds = {"forward": 0.010, "backward": 0.080, "optimizer": 0.005}
    parts = {
        name: value * (1 + late * (1.0 if name == "backward" else others))
        for name, value in seconds.items()
    }
    facts = schema.to_dict(script(parts_s=parts))
    facts["utilisation"]["cpu_foreign"] = {"mean": 120.0, "p50": 120.0, "p95": 150.0}
    result = diagnose(schema.from_json(json.dumps(facts).encode()), Settings())
    assert result.diagnosis is not None
    assert result.diagnosis.verdict == verdict


def _judged(report: Report, **facts: Any) -> Report:
    """With facts of these sections changed."""
    raw = schema.to_dict(report)
    for section, values in facts.items():
        raw[section] = {**raw[section], **values}
    return diagnose(schema.from_json(json.dumps(raw).encode()), Settings())


def _usage(value: float) -> dict[str, float]:
    return {"mean": value, "p50": value, "p95": value, "count": 100}


def _optional(result: Report) -> dict[str, bool]:
    return {r.rule: r.optional for r in result.recommendations}


def test_a_break_in_a_compiled_script_is_an_option_and_no_verdict() -> None:
    counters = {"graph_breaks": 1.0, "graphs_compiled": 2.0, "compile_s": 0.1}
    result = _judged(
        REPORTS["fine_script"], configuration={"compile": "default"}, counters=counters
    )
    assert result.diagnosis is not None
    assert result.diagnosis.verdict == "healthy"
    assert _optional(result)["PD227"] is True


def test_of_a_healthy_script_only_dangers_and_the_measurement_are_faults() -> None:
    busy = {"cpu_workers": _usage(300.0), "cpu": _usage(97.0), "cpu_foreign": _usage(200.0)}
    swap = {**_usage(3 * 2**30), "p50": 2**30}
    result = _judged(REPORTS["fine_script"], utilisation={**busy, "swap_bytes": swap})
    assert result.diagnosis is not None
    assert result.diagnosis.verdict == "healthy"
    faults = [rule for rule, optional in _optional(result).items() if not optional]
    assert faults[0] == "PD304"
    assert set(faults) == {"PD304", "PD901"}
    assert _optional(result)["PD120"] is True


def test_swapping_goes_before_the_fastest_gain() -> None:
    swap = {**_usage(3 * 2**30), "p50": 2**30}
    result = _judged(REPORTS["slow_storage"], utilisation={"swap_bytes": swap})
    assert result.recommendations[0].rule == "PD304"
    assert result.recommendations[1].predicted is not None


@pytest.mark.parametrize(("percent", "rules"), [(85.0, {"PD102"}), (95.0, {"PD303"})])
def test_more_workers_are_not_advised_beside_fewer(percent: float, rules: set[str]) -> None:
    from run_bases import script

    starved = script(batch_s=0.2, workers=1, cores=8, persistent_workers=True)
    result = _judged(starved, utilisation={"ram": _usage(percent)})
    assert {"PD102", "PD303"} & set(_optional(result)) == rules


@pytest.mark.parametrize(
    ("rule", "end", "left_s", "facts"),
    [
        (
            "PD228",
            "high",
            24.0,
            {
                "configuration": {"compile": "default"},
                "counters": {"recompiles": 8.0, "recompile_s": 6.0, "compile_s": 7.0},
            },
        ),
        (
            "PD113",
            "speedup",
            24.6,
            {
                "configuration": {"num_workers": 2, "start_method": "spawn"},
                "loader": {"start": {"p50_s": 6.0, "count": 1, "total_s": 6.0}},
            },
        ),
    ],
)
def test_seconds_of_a_whole_run_are_taken_off_it_once(
    rule: str, end: str, left_s: float, facts: dict[str, Any]
) -> None:
    """6 s, or nine tenths of them, of 30 s, 12.6 of which are no training."""
    raw = schema.to_dict(REPORTS["prepares_long"])
    stat = raw["stages"]["forward"]
    for section, values in facts.items():
        whole = {name: {**stat, **v} if name == "start" else v for name, v in values.items()}
        raw[section] = {**(raw[section] or {}), **whole}
    result = diagnose(schema.from_json(json.dumps(raw).encode()), Settings())
    predicted = next(r.predicted for r in result.recommendations if r.rule == rule)
    assert predicted is not None
    assert getattr(predicted, end) == pytest.approx(30 / left_s, rel=0.05)


@pytest.mark.parametrize(
    ("setting", "part", "first"),
    [
        ("saved_unneeded", 0.55, "PD510"),
        ("saved_unneeded", 0.45, "PD502"),
        ("saved_data", 0.55, "PD513"),
        ("saved_data", 0.45, "PD502"),
    ],
)
def test_what_is_saved_for_nothing_comes_before_saving_more_rarely(
    setting: str, part: float, first: str
) -> None:
    report = REPORTS["reporting"]
    used = {**report.configuration, setting: part}
    found = diagnose(replace(report, configuration=used), Settings()).recommendations
    about = [one.rule for one in found if one.rule in {"PD502", "PD510", "PD513"}]
    assert about == [first]
