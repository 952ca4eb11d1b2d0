"""A run that evaluates for longer than it trains is held up by that, wherever it does so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from run_bases import line, prepares_long

from perfdoctor.ending import Ending
from perfdoctor.report import Report, Wall, WallPart
from perfdoctor.rules.engine import diagnose
from perfdoctor.settings import Settings

SCORES = line("search.py:48", "accuracy", "Sequential.forward", "validation", 0.5)


def diagnosed(share: float, *, among: float = 0.0, how: str = "finished") -> Report:
    """A run of which so much is evaluation, `among` of the training's steps; and a start-up."""
    shares = {"start_up": 0.1, "forward": 0.9 - share, "validation": share}
    parts = tuple(WallPart(name=n, seconds=100 * s, share=s, count=1) for n, s in shares.items())
    made = replace(
        prepares_long(),
        wall=Wall(total_s=100.0, parts=parts),
        hotspots=(SCORES,),
        ending=Ending(how=how),
    )
    if among:
        one = replace(made.stages["forward"], share=among)
        made = replace(made, stages={**made.stages, "validation": one})
    return diagnose(made, Settings())


def test_evaluating_for_longer_than_all_else_is_named_with_its_line() -> None:
    found = diagnosed(0.65).diagnosis
    assert found is not None
    assert (found.verdict, found.bottleneck, found.of) == ("evaluation-bound", "validation", "run")
    assert found.share == pytest.approx(0.65)
    assert "65 % of the run (65 s)" in found.summary
    assert "search.py:48 `Sequential.forward`" in found.summary


@pytest.mark.parametrize(
    "report",
    [
        diagnosed(0.45),  # a test at the end
        diagnosed(0.65, among=0.3),  # among the steps: how often it happens is known
        diagnosed(0.65, how="running"),  # what comes may be training
    ],
)
def test_otherwise_the_verdict_is_of_the_steps(report: Report) -> None:
    assert report.diagnosis is not None
    assert report.diagnosis.of == "step"
