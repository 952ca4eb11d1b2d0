"""What must hold for all rules at once on the report of a log, whatever it tells."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_bases import LOGS, healthy_log, usage

from perfdoctor import schema
from perfdoctor.rules import BUILTIN, Facts, catalogue, engine, ranking
from perfdoctor.rules.engine import diagnose
from perfdoctor.rules.verdict import verdict
from perfdoctor.settings import Settings

RULES = catalogue.load().rules
REPORTS = {base: schema.to_dict(make()) for base, make in LOGS.items()}
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NO_MORE_THAN = 4  # workers, where a log does not tell the cores

ANYTHING = st.sampled_from(
    [None, True, False, 0, 1, 4, 64, -1, 0.5, 1e308, "auto", "", "fp32", "bf16", "off", [1], {}]
)
SETTINGS = {
    "num_workers": st.sampled_from([0, 1, 4, 64, None]) | ANYTHING,
    "pin_memory": st.sampled_from([True, False]) | ANYTHING,
    "persistent_workers": st.sampled_from([True, False]) | ANYTHING,
    "precision": st.sampled_from(["fp32", "tf32", "bf16"]) | ANYTHING,
    "compile": st.sampled_from([True, False, "reduce-overhead"]) | ANYTHING,
    "batch_size": st.sampled_from([1, 256]) | ANYTHING,
    "log_interval": ANYTHING,
    "arch_every": ANYTHING,
    "arch_order": ANYTHING,
    "device": ANYTHING,
}
PARTS = [
    *("train", "validation", "data_loading", "arch_step", "checkpoint", "logging", "metrics"),
    *("start_up", "unexplained", "repeated", "my_own"),
]


def used(*percents: float) -> st.SearchStrategy[Any]:
    return st.sampled_from([{"mean": p, "p50": p, "p95": p} for p in percents] + [None])


@st.composite
def any_log(draw: st.DrawFn) -> dict[str, Any]:
    """A log that tells anything that a log may tell."""
    raw = copy.deepcopy(REPORTS[draw(st.sampled_from(sorted(REPORTS)))])
    raw["configuration"] = {key: draw(values) for key, values in SETTINGS.items()}
    raw["environment"]["device"] = draw(st.sampled_from(["cpu", "cuda:0", None]))
    raw["environment"]["cores_usable"] = draw(st.sampled_from([1.0, 3.5, 16.0, None]))
    raw["memory"]["peak_share"] = draw(st.sampled_from([0.1, 0.6, 0.85, 0.95, None]))
    raw["utilisation"] = {
        "gpu": draw(used(20, 60, 98)),
        "gpu_memory": draw(used(20, 95)),
        "ram": draw(used(40, 85, 96)),
        "swap_bytes": draw(used(0, 5e9)),
    }
    if raw["stages"]:
        share = draw(st.sampled_from([0.0, 0.05, 0.15, 0.5, 0.95, 1.0]))
        raw["stages"] = {"data_loading": {"share": share}, "other": {"share": 1 - share}}
    shares = draw(st.lists(st.floats(0, 1), min_size=len(PARTS), max_size=len(PARTS)))
    parts = [
        {"name": name, "seconds": 3600 * share, "share": share, "count": draw(st.integers(1, 60))}
        for name, share in zip(PARTS, shares, strict=True)
        if draw(st.booleans())
    ]
    raw["wall"] = draw(st.sampled_from([None, {"total_s": 3600.0, "parts": parts}]))
    stalls = {
        "count": draw(st.integers(1, 60)),
        "excess_s": 3.1,
        "share": draw(st.sampled_from([0.01, 0.2, 1.0])),
        "period_steps": draw(st.sampled_from([None, 500.0])),
        "at_epoch_start": draw(st.booleans()),
    }
    raw["stalls"] = draw(st.sampled_from([None, stalls]))
    raw["restarts"] = draw(st.sampled_from([[], [10, 20]]))
    return raw


@settings(QUICK, max_examples=200)
@given(any_log())
def test_advice_from_a_log_never_contradicts_itself_nor_what_is_there(raw: dict[str, Any]) -> None:
    outcome = engine.judge(RULES, Facts(raw), {})
    advice = ranking.recommend(ranking.worthwhile(outcome.found))
    assert not outcome.warnings
    assert len(advice) <= len({found.finding.cause for found in outcome.found})
    assert [one.rank for one in advice] == list(range(1, len(advice) + 1))
    wanted: dict[str, Any] = {}
    for one in advice:
        for key, value in one.change.items():
            assert wanted.setdefault(key, value) == value
            assert raw["configuration"].get(key) != value, f"{one.rule}: {key} is {value} already"
    check_possible(raw, wanted)
    check_room(raw, wanted, " ".join(one.advice for one in advice))
    for found in outcome.found:
        check_claim(found)


def check_possible(raw: dict[str, Any], wanted: dict[str, Any]) -> None:
    cores = raw["environment"]["cores_usable"]
    most = NO_MORE_THAN if cores is None else max(1, math.floor(cores))
    assert wanted.get("num_workers", 0) <= most
    if raw["environment"]["device"] == "cpu":
        assert not {"pin_memory", "precision", "compile"} & set(wanted)


def check_room(raw: dict[str, Any], wanted: dict[str, Any], text: str) -> None:
    """Nothing is advised that needs memory where there is none."""
    ram = (raw["utilisation"]["ram"] or {"p95": 0})["p95"]
    device = (raw["utilisation"]["gpu_memory"] or {"p95": 0})["p95"] / 100
    if raw["memory"]["peak_share"] is not None:
        device = raw["memory"]["peak_share"]
    if ram > 80:
        now = Facts(raw).known("configuration.num_workers") or 0
        assert wanted.get("num_workers", 0) <= max(1, now)
        assert "pin_memory" not in wanted
        assert "If each is always busy" not in text
    if device > 0.8:
        assert "batch_size" not in wanted
        assert "larger batch, " not in text


def check_claim(found: ranking.Found) -> None:
    finding = found.finding
    assert 0 < finding.confidence <= 1
    assert finding.title
    assert finding.advice
    if finding.predicted is not None:
        assert 0 < finding.predicted.low <= finding.predicted.speedup <= finding.predicted.high
        assert math.isfinite(finding.predicted.high)
    if not finding.evidence:  # nothing but a printed setting
        assert finding.optional
        assert finding.predicted is None
        assert finding.confidence <= 0.3
        assert "`perfdoctor bench --workload FILE` measures it" in finding.advice


def leaves(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a number in a report, but for those in columns and settings."""
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        if key == "configuration" or (isinstance(tree, list) and isinstance(value, float)):
            continue  # settings may be anything, and columns are drawn as a whole
        if isinstance(value, dict | list):
            yield from leaves(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield tree, key


ODD = st.sampled_from([None, 0, -1, 1e-300, 1e308, math.nan, math.inf, -math.inf])
TIMES = st.sampled_from([None, 0.0, -1.0, 1e-9, 0.4, 1e12, math.nan])


def as_lists(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: as_lists(value) for key, value in tree.items()}
    return [as_lists(value) for value in tree] if isinstance(tree, list | tuple) else tree


@settings(QUICK, max_examples=200)
@given(st.sampled_from(sorted(REPORTS)), st.data())
def test_odd_numbers_and_gaps_break_no_rule_and_no_verdict(base: str, data: st.DataObject) -> None:
    raw = as_lists(REPORTS[base])
    places = list(leaves(raw))
    for place, key in data.draw(st.lists(st.sampled_from(places), max_size=12)):
        place[key] = data.draw(ODD)
    for column in data.draw(st.sets(st.sampled_from([*raw["series"], "none"]))):
        size = len(raw["series"].get(column, ()))
        raw["series"][column] = data.draw(st.lists(TIMES, min_size=size, max_size=size))
    for key in data.draw(st.sets(st.sampled_from(sorted(raw)), max_size=3)):
        raw[key] = [] if key in ("restarts",) else {} if key == "configuration" else None
    facts = Facts({**raw, "source": {"kind": "log"}})
    outcome = engine.judge(RULES, facts, {})
    assert not outcome.warnings
    for found in outcome.found:
        check_claim(found)
    diagnosis = engine.judged_verdict(facts, [found.finding for found in outcome.found])
    assert diagnosis.summary
    assert 0 <= diagnosis.confidence <= 1


def test_a_healthy_log_gets_no_advice_at_all() -> None:
    result = diagnose(healthy_log(), Settings())
    assert result.recommendations == ()
    assert not result.warnings


def test_a_gpu_that_idles_for_lack_of_data_is_one_cause_with_the_wait() -> None:
    report = replace(LOGS["waiting_log"](), utilisation={"gpu": usage(35.0)})
    (only,) = diagnose(report, Settings()).recommendations
    assert (only.rule, [choice.rule for choice in only.choices]) == ("PD106", ["PD206"])


@pytest.mark.parametrize("base", sorted(LOGS))
def test_a_stored_report_of_a_log_is_judged_like_a_fresh_one(base: str) -> None:
    fresh = LOGS[base]()
    stored = schema.from_json(schema.to_json(fresh))
    first, second = (diagnose(r, Settings()) for r in (fresh, stored))
    assert first.recommendations == second.recommendations
    assert first.diagnosis == second.diagnosis
    assert first.abstained == second.abstained


def test_a_log_that_tells_nothing_names_the_commands_that_would() -> None:
    result = diagnose(LOGS["bare"](), Settings())
    assert not result.recommendations
    commands = {a.rule: a.measure_with for a in result.abstained}
    assert commands["PD106"] == "perfdoctor run train.py"
    assert commands["PD504"] is None  # no command makes a script compute a metric
    waiting = diagnose(LOGS["waiting_log"](), Settings())
    commands = {a.rule: a.measure_with for a in waiting.abstained}
    assert commands["PD105"] == "perfdoctor bench --workload FILE"


def test_every_rule_about_whole_runs_is_silent_on_a_bench() -> None:
    about_runs = [r for r in RULES if (kinds := getattr(r, "sources", ())) and "bench" not in kinds]
    assert {rule.code for rule in about_runs} >= {"PD106", "PD206", "PD501", "PD701", "PD705"}
    raw = {**REPORTS["waiting_log"], "source": {"kind": "bench"}}
    outcome = engine.judge(about_runs, Facts(raw), {})
    assert (outcome.found, outcome.abstained) == ([], [])
    assert {rule.code for rule in RULES} == set(BUILTIN)


def test_a_setting_of_an_odd_type_is_missing_in_a_log_and_an_error_elsewhere() -> None:
    raw = {"configuration": {"num_workers": "auto"}}
    facts = Facts({**raw, "source": {"kind": "log"}})
    assert facts.known("configuration.num_workers") is None
    with pytest.raises(TypeError):
        Facts(raw).number("configuration.num_workers")
    assert verdict(facts, []).verdict == "inconclusive"
