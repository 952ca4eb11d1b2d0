"""A search whose architecture steps are rarer than its training steps is no fault."""

from __future__ import annotations

from dataclasses import replace

import pytest
from run_bases import PARTS_S, remade_model, script, seldom

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


@pytest.mark.parametrize(("share", "first"), [(0.25, "PD243"), (0.06, "PD402")])
def test_a_model_that_is_made_anew_there_comes_before_rarer_steps(share: float, first: str) -> None:
    report = remade_model()
    made, *rest = report.hotspots
    report = replace(report, hotspots=(replace(made, share=share), *rest))
    found = {r.rule: r for r in diagnose(report, Settings()).recommendations}
    assert found[first].rank == 1
    assert found["PD402"].optional is (first == "PD243")
    assert not found["PD243"].optional
    assert "PD403" in {choice.rule for choice in found["PD402"].choices}
