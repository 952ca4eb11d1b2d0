"""A slow-down stands under the finding that names its cause."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_rule_engine import finding, rule

from perfdoctor.report import Evidence, Prediction
from perfdoctor.rules import Finding
from perfdoctor.rules.named_causes import under_their_causes
from perfdoctor.rules.ranking import Found, recommend
from perfdoctor.rules.run_growth import SLOW_DOWN

LINE = "train.py:61"


def told(speedup: float, where: str | None = LINE, **changes: object) -> Finding:
    predicted = Prediction(speedup=speedup, low=1.1, high=9.0, model="amdahl-range")
    evidence = (Evidence(metric="share", value=0.5, unit="share", where=where),)
    return replace(finding(), predicted=predicted, evidence=evidence, **changes)


def codes(*others: Finding) -> list[tuple[str, list[str]]]:
    """Recommendations with their choices, of a slow-down (PD701) and others (PD900, PD901 …)."""
    slow = told(2.0, cause=SLOW_DOWN, confidence=0.9)
    found = [Found(rule("PD701"), slow)]
    found += [Found(rule(f"PD90{n}"), one) for n, one in enumerate(others)]
    advice = recommend(under_their_causes(found))
    return [(one.rule, [choice.rule for choice in one.choices]) for one in advice]


def test_what_names_the_line_that_grows_comes_first() -> None:
    assert codes(told(1.9, cause="draws", confidence=0.4)) == [("PD900", ["PD701"])]


@pytest.mark.parametrize(
    "other",
    [
        told(1.9, "train.py:80", cause="draws", confidence=0.4),
        told(1.9, None, cause="draws", confidence=0.4),
        told(1.2, cause="draws", confidence=0.4),
        told(1.9, cause="draws", confidence=0.4, optional=True),
        replace(told(1.9, cause="draws"), predicted=None),
    ],
    ids=["another line", "no line", "a small fault", "an option", "no gain told"],
)
def test_what_does_not_explain_it_stands_for_itself(other: Finding) -> None:
    assert codes(other) == [("PD701", []), ("PD900", [])]


def test_of_two_it_stands_under_the_better() -> None:
    first, second = told(1.8, cause="lists"), told(2.5, cause="draws")
    assert codes(first, second) == [("PD901", ["PD701"]), ("PD900", [])]
