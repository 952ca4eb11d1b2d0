"""A search whose architecture steps are rarer than its training steps is no fault."""

from __future__ import annotations

import pytest
from run_bases import PARTS_S, script, seldom

from perfdoctor.rules.engine import diagnose
from perfdoctor.settings import Settings

PASS_S = PARTS_S["forward"] + PARTS_S["loss"] + PARTS_S["backward"]


@pytest.mark.parametrize(
    ("every", "passes", "verdict"),
    [(4, 1.2, "healthy"), (2, 1.2, "healthy"), (1, 1.2, "search-bound"), (4, 6.0, "search-bound")],
)
def test_only_a_frequent_or_a_long_architecture_step_holds_the_training_up(
    every: int, passes: float, verdict: str
) -> None:
    report = script(parts_s={**PARTS_S, "arch_step": seldom(passes * PASS_S, every)})
    result = diagnose(report, Settings())
    assert result.diagnosis is not None
    assert result.diagnosis.verdict == verdict
    advice = next(r for r in result.recommendations if r.rule == "PD402")
    assert advice.optional is (verdict == "healthy")
