"""The engine: needs, isolation, settings, merging, ranking, contradictions, other packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from bases import report

from perfdoctor import plugins
from perfdoctor.report import Finding, Prediction, Report, Trial
from perfdoctor.rules import Facts, Rule, ranking
from perfdoctor.rules.engine import diagnose
from perfdoctor.settings import Settings


def finding(speedup: float | None = 1.5, **changes: Any) -> Finding:
    predicted = None
    if speedup is not None:
        low = changes.pop("low", speedup - 0.05)
        predicted = Prediction(speedup=speedup, low=low, high=speedup + 0.1, model="pipeline")
    settings = {
        "stage": "forward",
        "title": "A fault",
        "advice": "Mend it.",
        "change": {},
        "snippet": "mend()",
        "evidence": (),
        "cause": "a-cause",
        "predicted": predicted,
        "confidence": 0.8,
        **changes,
    }
    return Finding(**settings)  # type: ignore[arg-type]


def rule(code: str, says: Finding | Exception | None = None, **attributes: Any) -> Rule:
    """A rule that always says the same."""

    class Fixed:
        """A rule of a test."""

        needs: tuple[str, ...] = ()
        verify_with = None
        cause = "a-cause"
        thresholds: Mapping[str, float] = {}

        def evaluate(self, facts: Facts) -> Finding | None:
            if isinstance(says, Exception):
                raise says
            return says

    fixed = Fixed()
    for key, value in {"code": code, "name": f"rule-{code.lower()}", **attributes}.items():
        setattr(fixed, key, value)
    return fixed  # type: ignore[return-value]


def diagnosed(*rules: Rule, settings: Settings | None = None) -> Report:
    return diagnose(report("healthy_cpu"), settings or Settings(), rules)


# -- what the engine asks of a rule -----------------------------------------------------------


def test_a_rule_abstains_where_a_need_was_not_measured() -> None:
    result = diagnosed(rule("PD801", finding(), needs=("limits.compute.peak",)))
    assert [(a.rule, a.missing) for a in result.abstained] == [("PD801", "limits.compute.peak")]
    assert not result.recommendations


def test_a_rule_that_raises_is_named_and_the_others_go_on() -> None:
    result = diagnosed(rule("PD801", ValueError("no such thing")), rule("PD802", finding()))
    assert [r.rule for r in result.recommendations] == ["PD802"]
    warning = "rule PD801 rule-pd801 failed and was left out: ValueError: no such thing"
    assert warning in result.warnings


@pytest.mark.parametrize("word", ["PD801", "rule-pd801"])
def test_a_rule_is_disabled_by_code_or_name(word: str) -> None:
    result = diagnosed(rule("PD801", finding()), settings=Settings(disable=frozenset({word})))
    assert not result.recommendations
    assert not result.warnings


def test_a_setting_that_names_nothing_is_a_warning() -> None:
    settings = Settings(disable=frozenset({"PD999"}), thresholds={"PD801.shar": 0.5})
    result = diagnosed(rule("PD801", thresholds={"share": 0.1}), settings=settings)
    assert any("'PD801.shar'" in warning for warning in result.warnings)
    assert any("'PD999'" in warning for warning in result.warnings)
    assert any("did you mean PD801.share?" in warning for warning in result.warnings)


@pytest.mark.parametrize("key", ["PD801.share", "rule-pd801.share"])
def test_a_threshold_is_set_by_code_or_name(key: str) -> None:
    seen = []
    asking = rule("PD801", thresholds={"share": 0.1})
    asking.evaluate = lambda facts: seen.append(facts.threshold("share"))  # type: ignore
    diagnosed(asking, settings=Settings(thresholds={key: 0.5}))
    assert seen == [0.5]


def test_asking_for_an_undeclared_threshold_is_the_rules_fault() -> None:
    asking = rule("PD801")
    asking.evaluate = lambda facts: facts.threshold("nowhere")  # type: ignore
    assert any("rule PD801" in warning for warning in diagnosed(asking).warnings)


def test_diagnosing_twice_does_not_repeat_warnings() -> None:
    rules = [rule("PD801", ValueError("no"))]
    once = diagnose(report("healthy_cpu"), Settings(), rules)
    assert diagnose(once, Settings(), rules).warnings == once.warnings


# -- merging and ranking ----------------------------------------------------------------------


def test_findings_of_one_cause_become_one_recommendation_with_choices() -> None:
    result = diagnosed(rule("PD801", finding(1.2)), rule("PD802", finding(1.6)))
    (only,) = result.recommendations
    assert (only.rule, [c.rule for c in only.choices]) == ("PD802", ["PD801"])


def test_a_fault_stays_a_fault_when_it_is_merged_with_an_option() -> None:
    optional = rule("PD801", finding(1.2, optional=True))
    fault = rule("PD802", finding(None, danger="ahead"))
    (only,) = diagnosed(optional, fault).recommendations
    assert (only.rule, only.optional, only.danger) == ("PD801", False, "ahead")


def test_gain_times_confidence_decides_then_no_prediction_then_options() -> None:
    result = diagnosed(
        rule("PD801", finding(9.0, cause="option", optional=True)),
        rule("PD802", finding(None, cause="unpredicted")),
        rule("PD803", finding(2.0, cause="bold", confidence=0.3)),
        rule("PD804", finding(1.6, cause="sure", confidence=0.9)),
    )
    order = [(r.rank, r.rule) for r in result.recommendations]
    assert order == [(1, "PD804"), (2, "PD803"), (3, "PD802"), (4, "PD801")]


def test_what_ends_the_training_goes_before_any_gain() -> None:
    result = diagnosed(
        rule("PD801", finding(9.0, cause="a")),
        rule("PD802", finding(None, cause="b", danger="ahead")),
        rule("PD803", finding(None, cause="c", danger="here", confidence=0.1)),
        rule("PD804", finding(None, cause="d", danger="here", optional=True)),
        rule("PD805", finding(1.2, cause="e", optional=True)),
    )
    order = ["PD803", "PD801", "PD802", "PD804", "PD805"]
    assert [r.rule for r in result.recommendations] == order
    assert [r.rule for r in ranking.numbered(reversed(result.recommendations))] == order


def test_gains_within_noise_are_dropped() -> None:
    rules = [rule("PD801", finding(1.02)), rule("PD802", finding(1.04, cause="other"))]
    assert [r.rule for r in diagnosed(*rules).recommendations] == ["PD802"]
    strict = Settings(thresholds={"min_speedup": 1.10})
    assert not diagnosed(*rules, settings=strict).recommendations


def test_advice_that_may_gain_nothing_is_trusted_less() -> None:
    rules = [rule("PD801", finding(1.3, low=0.9)), rule("PD802", finding(1.2, cause="other"))]
    sure, unsure = diagnosed(*rules).recommendations
    assert (sure.rule, sure.confidence) == ("PD802", 0.8)
    assert unsure.confidence == pytest.approx(0.4)


def test_of_two_that_set_one_key_differently_the_better_stays() -> None:
    result = diagnosed(
        rule("PD801", finding(1.2, cause="a", change={"num_workers": 2})),
        rule("PD802", finding(1.9, cause="b", change={"num_workers": 4, "drop_last": True})),
        rule("PD803", finding(1.1, cause="c", change={"drop_last": True})),
    )
    assert [r.rule for r in result.recommendations] == ["PD802", "PD803"]


def test_a_verified_gain_is_ranked_by_what_was_measured() -> None:
    bold, modest = diagnosed(
        rule("PD801", finding(3.0, cause="a")), rule("PD802", finding(1.5, cause="b"))
    ).recommendations
    refuted = replace(bold, verified=Trial(outcome="refuted", speedup=1.0))
    verified = replace(modest, verified=Trial(outcome="verified", speedup=1.4))
    assert [r.rule for r in ranking.numbered([refuted, verified])] == ["PD802", "PD801"]
    unknown = replace(modest, rule="PD803", predicted=None)
    option = replace(modest, rule="PD804", optional=True)
    ranked = ranking.numbered([refuted, option, unknown, verified])
    assert [r.rule for r in ranked] == ["PD802", "PD803", "PD804", "PD801"]


def test_distrust_of_the_measurement_spreads_to_everything_else() -> None:
    plain = diagnosed(rule("PD801", finding()))
    noise = rule("PD951", finding(None, cause="noise", confidence=0.9))
    doubted = diagnosed(rule("PD801", finding()), noise)
    assert doubted.recommendations[0].confidence < plain.recommendations[0].confidence
    assert doubted.recommendations[1].confidence == 0.9
    assert doubted.diagnosis and plain.diagnosis
    assert doubted.diagnosis.confidence < plain.diagnosis.confidence


# -- other packages ---------------------------------------------------------------------------


def offer(monkeypatch: pytest.MonkeyPatch, *things: Any) -> None:
    entries = [SimpleNamespace(name="theirs", load=lambda thing=thing: thing) for thing in things]
    monkeypatch.setattr(plugins, "entry_points", lambda group: entries)


def test_a_rule_of_another_package_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, type(rule("XY101")), rule("XY102", finding(2.0, cause="theirs")))
    result = diagnose(report("healthy_cpu"), Settings())
    assert result.recommendations[0].rule == "XY102"
    assert any("is not a rule" in warning for warning in result.warnings)  # a class with no code


def test_a_code_that_is_taken_is_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, rule("PD101", finding(9.0)))
    result = diagnose(report("healthy_cpu"), Settings())
    assert "PD101" not in [r.rule for r in result.recommendations]
    assert any("the code is taken" in warning for warning in result.warnings)


def test_what_a_healthy_training_could_gain_is_an_option_and_a_danger_stays_a_fault() -> None:
    result = diagnosed(
        rule("PD801", finding(1.07, cause="a", stage="validation")),
        rule("PD802", finding(None, cause="b", danger="ahead")),
        rule("PD803", finding(None, cause="c")),
        rule("PD951", finding(None, cause="noise")),
    )
    assert result.diagnosis is not None
    assert result.diagnosis.verdict == "healthy"
    optional = {r.rule: r.optional for r in result.recommendations}
    assert optional == {"PD801": True, "PD802": False, "PD803": True, "PD951": False}


def test_what_nobody_knows_the_gain_of_is_a_fault_where_the_training_is_held_up() -> None:
    held_up = diagnose(report("input_bound_cpu"), Settings(), [rule("PD801", finding(None))])
    assert [r.optional for r in held_up.recommendations] == [False]
