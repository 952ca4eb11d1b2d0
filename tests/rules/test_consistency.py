"""No two pieces of advice contradict each other, or what is on already; whatever the facts."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from bases import report
from hypothesis import given, settings
from hypothesis import strategies as st
from test_rule_cases import CASES, base_facts, facts_of
from test_rule_engine import finding, rule

from perfdoctor.report import Recommendation
from perfdoctor.rules import Facts, catalogue, engine, ranking
from perfdoctor.rules.consistency import GPU_ONLY, consistent
from perfdoctor.rules.facts import Missing
from perfdoctor.rules.ranking import Found
from perfdoctor.rules.wording import on_cuda
from perfdoctor.schema import to_dict

RULES = catalogue.load().rules
BY_BASE: dict[str, list[dict[str, Any]]] = defaultdict(list)
for _case in CASES:
    BY_BASE[_case["base"]].append(_case)
MEMORY = {"memory-limit": ("batch_size",), "host-memory": ("num_workers", "prefetch_factor")}


def advised(facts: Facts) -> tuple[list[Found], tuple[Recommendation, ...]]:
    outcome = engine.judge(RULES, facts, {})
    found = consistent(facts, ranking.worthwhile(outcome.found))
    return found, ranking.recommend(found)


def on_a_cpu(facts: Facts) -> bool:
    try:
        return not on_cuda(facts)
    except Missing:
        return False


def check(facts: Facts) -> None:
    found, recommendations = advised(facts)
    configuration = facts.get("configuration") if facts.has("configuration") else {}
    wanted: dict[str, object] = {}
    for one in recommendations:
        for key, value in one.change.items():
            assert wanted.setdefault(key, value) == value, (one.rule, key)
        same = [configuration.get(key) == value for key, value in one.change.items()]
        assert not same or not all(same), f"{one.rule} advises what is on"
        if on_a_cpu(facts):
            assert not GPU_ONLY & set(one.change), one.rule
    causes = {f.finding.cause for f in found}
    for cause, keys in MEMORY.items():
        for key in keys if cause in causes else ():
            now = configuration.get(key) or 0
            now = max(0, now) if isinstance(now, int | float) else 0  # some say -1, or "auto"
            assert all(f.finding.change.get(key, 0) <= now for f in found), (cause, key)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['rule']} {c['name']}")
def test_all_rules_together_agree_on_every_case(case: dict[str, Any]) -> None:
    check(Facts(facts_of(case)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_all_rules_agree_whatever_cases_come_together(data: st.DataObject) -> None:
    base = data.draw(st.sampled_from(sorted(BY_BASE)))
    cases = data.draw(st.lists(st.sampled_from(BY_BASE[base]), min_size=1, max_size=5))
    merged: dict[str, Any] = {}
    for case in cases:
        merged |= case.get("facts", {})
    check(Facts(facts_of({"base": base, "facts": merged})))


def facts_with(base: str = "healthy_cpu", **configuration: Any) -> Facts:
    raw = to_dict(report(base))
    raw["configuration"] |= configuration
    return Facts(raw)


def kept(facts: Facts, *findings: Found) -> list[str]:
    return [one.rule.code for one in consistent(facts, findings)]


def of(code: str, **changes: Any) -> Found:
    made = finding(changes.pop("speedup", 1.5), **changes)
    return Found(rule(code, cause=made.cause), made)


def test_what_is_on_already_is_not_advised() -> None:
    on = of("PD801", change={"num_workers": 2}, cause="a")
    more = of("PD802", change={"num_workers": 4}, cause="b")
    assert kept(facts_with(num_workers=2), on, more) == ["PD802"]


def test_any_mode_of_compiling_is_compiled() -> None:
    advice = of("PD801", change={"compile": "default"})
    assert kept(facts_with(compile="max-autotune"), advice) == []
    assert kept(facts_with(compile="off"), advice) == ["PD801"]


def test_settings_of_a_gpu_are_not_advised_on_a_cpu() -> None:
    advice = of("PD801", change={"pin_memory": True})
    assert kept(facts_with(), advice) == []
    assert kept(facts_with("plain_gpu"), advice) == ["PD801"]


def test_arithmetic_is_not_made_wider_again() -> None:
    advice = of("PD801", change={"precision": "tf32"})
    assert kept(facts_with("plain_gpu", precision="bf16"), advice) == []
    assert kept(facts_with("plain_gpu", precision="fp32"), advice) == ["PD801"]


def test_of_two_causes_that_pull_apart_the_better_stays() -> None:
    up = of("PD801", change={"num_workers": 8}, cause="a", speedup=1.8)
    down = of("PD802", change={"num_workers": 1}, cause="b", speedup=1.2)
    assert kept(facts_with(), down, up) == ["PD801"]


def test_two_ways_to_mend_one_cause_are_choices_and_stay() -> None:
    ways = [of("PD801", change={"num_workers": 8}), of("PD802", change={"num_workers": 4})]
    assert kept(facts_with(), *ways) == ["PD801", "PD802"]


def test_a_choice_does_not_undo_other_advice_either() -> None:
    first = of("PD801", change={"cache_samples": True}, cause="a", speedup=2.0)
    choice = of("PD802", change={"num_workers": 8}, cause="a", speedup=1.5)
    other = of("PD803", change={"num_workers": 1}, cause="b", speedup=1.4)
    assert kept(facts_with(), first, choice, other) == ["PD801", "PD803"]


@pytest.mark.parametrize(
    ("cause", "change"),
    [
        ("memory-limit", {"batch_size": 64}),
        ("memory-limit", {"gradient_checkpointing": False}),
        ("host-memory", {"num_workers": 8}),
        ("host-memory", {"cache_samples": True}),
    ],
)
def test_full_memory_is_not_to_be_filled_further(cause: str, change: dict[str, Any]) -> None:
    spends = of("PD801", change=change, cause="a")
    full = of("PD802", cause=cause, speedup=None)
    assert kept(facts_with(), spends, full) == ["PD802"]


@pytest.mark.parametrize(
    ("cause", "change"),
    [("memory-limit", {"batch_size": 64}), ("host-memory", {"num_workers": 8})],
)
def test_of_nearly_full_memory_and_what_takes_more_of_it_one_is_advised(
    cause: str, change: dict[str, Any]
) -> None:
    nearly = of("PD802", cause=cause, speedup=None, optional=True)
    fault = of("PD801", change=change, cause="a")
    assert kept(facts_with(), fault, nearly) == ["PD801"]
    option = of("PD801", change=change, cause="a", optional=True)
    assert kept(facts_with(), option, nearly) == ["PD802"]
    elsewhere = of("PD801", change={"threads": 2}, cause="a")
    assert kept(facts_with(), elsewhere, nearly) == ["PD801", "PD802"]


def test_less_of_what_fills_memory_is_advised_all_the_same() -> None:
    less = of("PD801", change={"num_workers": 1}, cause="a")
    full = of("PD802", cause="host-memory", speedup=None)
    assert kept(facts_with(num_workers=4), less, full) == ["PD801", "PD802"]


def test_advice_without_a_prediction_says_why() -> None:
    from perfdoctor.rules.engine import diagnose
    from perfdoctor.settings import Settings

    for base in ("crowded_workers", "idle_gpu", "noisy", "input_bound_cpu"):
        for one in diagnose(report(base), Settings()).recommendations:
            assert (one.predicted is None) == bool(one.unpredicted), one.rule


def test_every_rule_that_never_predicts_gives_its_reason() -> None:
    reasons = {r.code: catalogue.why_unpredicted(r) for r in RULES}
    assert reasons["PD301"] == "this buys safety"
    assert reasons["PD504"] == "the training does not get faster, it ends earlier"
    assert all(reason and len(reason) < 120 for reason in reasons.values())


def test_the_facts_of_a_base_are_not_changed_by_a_case() -> None:
    before = str(base_facts("healthy_cpu"))
    check(Facts(facts_of({"base": "healthy_cpu", "facts": {"configuration.threads": 1}})))
    assert str(base_facts("healthy_cpu")) == before
