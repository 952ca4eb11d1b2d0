"""The rules' cases, which are data: each fires, stays quiet or abstains as its file says."""

from __future__ import annotations

import copy
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from bases import BASES, report
from gpu_run_bases import GPU_RUNS
from log_bases import LOGS
from rank_bases import RANKS
from run_bases import RUNS

from perfdoctor.report import Recommendation
from perfdoctor.rules import BUILTIN, catalogue, engine, ranking
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.gains import PIPELINE_BOUND
from perfdoctor.rules.run_gains import UPPER_BOUND
from perfdoctor.schema import to_dict

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SERIES_LENGTH = 200
MEASURE_WITH = {
    "run": "perfdoctor run train.py",
    "bench": "perfdoctor bench --workload FILE",
    None: None,
}
OUTCOMES = {"fires", "quiet", "abstains"}


def load_cases() -> list[dict[str, Any]]:
    files = sorted((Path(__file__).parent / "cases").glob("*.toml"))
    return [case for file in files for case in tomllib.loads(file.read_text("utf-8"))["case"]]


CASES = load_cases()


@cache
def base_facts(base: str) -> dict[str, Any]:
    return to_dict(report(base) if base in BASES else (LOGS | RUNS | RANKS | GPU_RUNS)[base]())


def facts_of(case: dict[str, Any]) -> dict[str, Any]:
    facts = copy.deepcopy(base_facts(case["base"]))
    for path, value in case.get("facts", {}).items():
        *folders, last = path.split(".")
        place = facts
        for key in folders:
            if place.get(key) is None:  # not measured in the base
                place[key] = {}
            place = place[key]
        place[last] = _series(value) if _repeats(value) else value
    for path in case.get("without", ()):
        *folders, last = path.split(".")
        place = facts
        for key in folders:
            place = place[key]
        del place[last]
    return facts


def _repeats(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"repeat"}


def _series(value: dict[str, list[float]]) -> list[float]:
    pattern = value["repeat"]
    return (pattern * SERIES_LENGTH)[:SERIES_LENGTH]


def judged(case: dict[str, Any]) -> tuple[engine.Outcome, tuple[Recommendation, ...]]:
    rule = catalogue.find(catalogue.load().rules, case["rule"])
    outcome = engine.judge([rule], Facts(facts_of(case)), case.get("thresholds", {}))
    return outcome, ranking.recommend(ranking.worthwhile(outcome.found))


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['rule']} {c['expect']}: {c['name']}")
def test_a_rule_decides_as_its_case_says(case: dict[str, Any]) -> None:
    outcome, advice = judged(case)
    seen = "abstains" if outcome.abstained else "fires" if advice else "quiet"
    assert not outcome.warnings
    assert seen == case["expect"], outcome
    if seen == "abstains":
        assert outcome.abstained[0].missing == case["missing"]
        assert outcome.abstained[0].measure_with == MEASURE_WITH[case.get("measure_with")]
    if seen == "fires":
        check_advice(case, advice[0])


def check_advice(case: dict[str, Any], advice: Recommendation) -> None:
    for key in ("change", "safety", "optional", "stage"):
        assert getattr(advice, key) == case.get(key, getattr(advice, key))
    assert case.get("title", "") in advice.title
    assert advice.predicted is None or not case.get("unpredicted", False)
    assert case.get("snippet", "") in advice.snippet
    assert case.get("advice", "") in advice.advice
    if "speedup" in case:
        low, high = case["speedup"]
        assert advice.predicted is not None
        assert low <= advice.predicted.speedup <= high
    if "up_to" in case:
        low, high = case["up_to"]
        assert advice.predicted is not None
        assert advice.predicted.is_bound
        assert low <= advice.predicted.high <= high
    if advice.predicted is not None:
        assert advice.predicted.is_bound == (
            advice.predicted.model in (UPPER_BOUND, PIPELINE_BOUND)
        )
        assert advice.predicted.low <= advice.predicted.speedup <= advice.predicted.high
        assert (advice.predicted.low <= 1.0) == case.get("may_gain_nothing", False)


@pytest.mark.parametrize("code", BUILTIN)
def test_every_rule_has_a_case_of_each_outcome(code: str) -> None:
    assert {case["expect"] for case in CASES if case["rule"] == code} == OUTCOMES


@pytest.mark.parametrize("base", sorted({case["base"] for case in CASES}))
def test_the_facts_of_every_base_add_up(base: str) -> None:
    facts = base_facts(base)
    parts = facts["wall"]["parts"] if facts["wall"] else ()
    for shares in (facts["stages"].values(), parts):
        assert not shares or sum(part["share"] for part in shares) == pytest.approx(1.0)
