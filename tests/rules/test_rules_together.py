"""What must hold for all rules at once, whatever the facts."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from bases import BASES, report
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor import schema
from perfdoctor.report import Report
from perfdoctor.rules import BUILTIN, HEADINGS, Facts, Rule, catalogue, engine, ranking
from perfdoctor.rules.engine import diagnose
from perfdoctor.settings import Settings

RULES = catalogue.load().rules
REPORTS = {base: schema.to_dict(report(base)) for base in BASES}


# -- every rule's papers ----------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.code)
def test_a_rule_has_its_headings_in_order(rule: Rule) -> None:
    text = catalogue.explanation(rule)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(HEADINGS)
    bodies = re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]
    assert all(body.strip() for body in bodies)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.code)
def test_a_rule_names_the_source_of_each_threshold(rule: Rule) -> None:
    text = " ".join(catalogue.explanation(rule).split())
    for name, value in rule.thresholds.items():
        assert f"- `{name}` = {value:g} (source: " in text


def test_codes_and_names_are_well_formed_and_unique() -> None:
    assert [rule.code for rule in RULES] == sorted(BUILTIN) == list(BUILTIN)
    assert all(re.fullmatch(r"PD\d{3}", rule.code) for rule in RULES)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", rule.name) for rule in RULES)
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_the_table_says_what_the_docstrings_say() -> None:
    for rule in RULES:
        assert BUILTIN[rule.code][1] == catalogue.one_line(rule)


# -- healthy trainings ------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["healthy_cpu", "healthy_gpu"])
def test_a_healthy_training_gets_no_advice_but_options(base: str) -> None:
    result = diagnose(report(base), Settings())
    assert [r.rule for r in result.recommendations if not r.optional] == []
    assert not result.warnings


@pytest.mark.parametrize("base", BASES)
def test_a_stored_report_is_judged_like_a_fresh_one(base: str) -> None:
    fresh = report(base)
    stored = schema.from_json(schema.to_json(fresh))
    first, second = (diagnose(r, Settings()) for r in (fresh, stored))
    assert first.recommendations == second.recommendations
    assert first.diagnosis == second.diagnosis


# -- any facts --------------------------------------------------------------------------------

CONFIGURATION = {
    "num_workers": st.sampled_from([0, 1, 2, 4, 8, 64, None]),
    "prefetch_factor": st.sampled_from([1, 2, 4, 8, None]),
    "pin_memory": st.sampled_from([True, False, None]),
    "persistent_workers": st.sampled_from([True, False, None]),
    "precision": st.sampled_from(["fp32", "tf32", "bf16", "fp16", None]),
    "threads": st.sampled_from([1, 2, 4, None]),
    "batch_size": st.sampled_from([1, 32, None]),
    "optimizer_fused": st.sampled_from([True, False, None]),
    "optimizer_foreach": st.sampled_from([True, False, None]),
    "arch_every": st.sampled_from([1, 5, None]),
    "arch_order": st.sampled_from([1, 2, None]),
    "loader_kind": st.sampled_from(["map", "iterable", None]),
}
AFFECTS = {
    "bf16": ["forward", "loss", "backward"],
    "fp16": ["forward", "loss", "backward"],
    "tf32": ["forward", "loss", "backward"],
    "threads": ["forward", "loss", "backward"],
    "batch_x2": ["forward", "loss", "backward", "optimizer"],
    "optimizer_fused": ["optimizer"],
    "optimizer_foreach": ["optimizer"],
    "arch_first_order": ["arch_step"],
    "h2d_pinned": ["h2d_copy"],
}


@st.composite
def probes(draw: st.DrawFn) -> dict[str, Any]:
    found = {}
    for name in draw(st.sets(st.sampled_from(sorted(AFFECTS)))):
        speedup = draw(st.floats(0.2, 8.0))
        found[name] = {
            "name": name,
            "speedup": speedup,
            "low": speedup * 0.95,
            "high": speedup * 1.05,
            "pairs": 12,
            "affects": AFFECTS[name],
            "details": {"threads": 4.0, "batch_size": 64.0, "peak_bytes": 1e9},
        }
    return found


@st.composite
def any_changes(draw: st.DrawFn) -> dict[str, Any]:
    machine = {
        "device": draw(st.sampled_from(["cpu", "cuda:0", None])),
        "cores_usable": draw(st.sampled_from([0.5, 1.0, 2.0, 3.5, 16.0, None])),
    }
    return {
        "configuration": {key: draw(values) for key, values in CONFIGURATION.items()},
        "environment": machine,
        "memory": {"peak_share": draw(st.sampled_from([0.1, 0.6, 0.85, 0.95, None]))},
        "probes": draw(probes()),
        "utilisation": draw(st.sampled_from([{}, {"gpu": {"mean": 20.0}}])),
    }


def changed(base: str, changes: dict[str, Any]) -> dict[str, Any]:
    report_ = REPORTS[base]
    return {**report_, **{key: {**report_[key], **value} for key, value in changes.items()}}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(BASES)), any_changes())
def test_advice_never_contradicts_itself_nor_what_is_there(
    base: str, changes: dict[str, Any]
) -> None:
    raw = changed(base, changes)
    outcome = engine.judge(RULES, Facts(raw), {})
    advice = ranking.recommend(ranking.worthwhile(outcome.found))
    assert not outcome.warnings
    assert [one.rank for one in advice] == list(range(1, len(advice) + 1))
    wanted: dict[str, Any] = {}
    for one in advice:
        for key, value in one.change.items():
            assert wanted.setdefault(key, value) == value
            assert raw["configuration"].get(key) != value, f"{one.rule}: {key} is {value} already"
    check_possible(raw, wanted)
    for found in outcome.found:
        check_interval(found)


def check_possible(raw: dict[str, Any], wanted: dict[str, Any]) -> None:
    cores = raw["environment"]["cores_usable"]
    assert wanted.get("num_workers", 0) <= max(1, math.floor(cores or 1))
    assert wanted.get("threads", 0) <= max(1, math.floor(cores or 1))
    if raw["environment"]["device"] == "cpu":
        assert "pin_memory" not in wanted
        assert wanted.get("precision") not in ("tf32", "fp16")


def check_interval(found: ranking.Found) -> None:
    predicted = found.finding.predicted
    if predicted is not None:
        assert 0 < predicted.low <= predicted.speedup <= predicted.high
        assert 0 < found.finding.confidence <= 1


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(BASES)), st.data())
def test_whatever_was_not_measured_no_rule_fails(base: str, data: st.DataObject) -> None:
    raw = dict(REPORTS[base])
    optional = ["loader", "epochs", "utilisation", "probes", "memory", "series", "throughput"]
    for key in data.draw(st.sets(st.sampled_from(optional))):
        raw.pop(key)
    outcome = engine.judge(RULES, Facts(raw), {})
    assert not outcome.warnings


def test_a_report_of_a_log_with_nothing_but_step_times_is_diagnosed() -> None:
    bare = bare_report(report("input_bound_cpu"))
    result = diagnose(bare, Settings())
    assert result.diagnosis is not None
    assert result.diagnosis.verdict == "inconclusive"
    assert not result.recommendations
    assert not result.warnings


def bare_report(full: Report) -> Report:
    raw = schema.to_dict(full)
    for key in ("loader", "epochs", "utilisation", "memory", "probes"):
        raw.pop(key)
    raw["configuration"] = {}
    raw["stages"] = {}
    raw["series"] = {"step_s": raw["series"]["step_s"]}
    return schema.from_json(json.dumps(raw).encode())
