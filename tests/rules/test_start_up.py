"""A start-up of the script's own: gains of the whole run, the verdict, and who else may look."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_bases import line, prepares_long

from perfdoctor import schema
from perfdoctor.record import Hotspot
from perfdoctor.report import Report, Wall, WallPart
from perfdoctor.rules.engine import diagnose
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.mended import VECTORISED
from perfdoctor.rules.observed import hot_lines
from perfdoctor.settings import Settings

SCAN = line("train.py:33", "ShopLog.setup", "DataFrame.__getitem__", "start_up", 0.5)
COLLECTS = line("train.py:61", "train", "gc.collect", "other", 0.12)


def run(*hotspots: Hotspot, start: float = 0.4, total_s: float = 100.0, **told: Any) -> Report:
    """A whole run of which `start` is start-up and a twentieth comes after the last step."""
    shares = [("start_up", start), ("forward", 0.95 - start), ("shut_down", 0.05)]
    parts = tuple(WallPart(name=n, seconds=total_s * s, share=s, count=1) for n, s in shares)
    made = replace(prepares_long(), wall=Wall(total_s=total_s, parts=parts), hotspots=hotspots)
    facts = schema.to_dict(made) | told
    return schema.from_json(json.dumps(facts).encode())


def diagnosed(*hotspots: Hotspot, **told: Any) -> Report:
    return diagnose(run(*hotspots, **told), Settings())


@pytest.mark.parametrize("start", [0.4, 0.6, 0.9])
def test_the_gain_is_of_the_whole_run_however_small_the_training_is_beside_it(start: float) -> None:
    seen = replace(SCAN, share=start - 0.05)
    advice = next(r for r in diagnosed(seen, start=start).recommendations if r.rule == "PD509")
    gone = VECTORISED[1] * seen.share
    assert advice.predicted is not None
    assert advice.predicted.speedup == pytest.approx(1 / (1 - gone))
    assert advice.evidence[0].value == pytest.approx(seen.share)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.25, 0.9), st.floats(0.2, 1.0))
def test_the_gain_is_never_more_than_a_run_without_its_start_up(start: float, part: float) -> None:
    found = diagnosed(replace(SCAN, share=part * start), start=start).recommendations
    for one in found:
        if one.rule == "PD509":
            assert one.predicted is not None
            assert 1.0 <= one.predicted.low <= one.predicted.speedup
            assert one.predicted.speedup <= 1 / (1 - start) + 1e-9


def test_the_verdict_names_a_start_up_that_is_the_best_advice() -> None:
    seen = diagnosed(replace(SCAN, share=0.35), COLLECTS)
    assert seen.diagnosis is not None
    assert (seen.diagnosis.bottleneck, seen.diagnosis.of) == ("start_up", "run")
    assert seen.diagnosis.share == pytest.approx(0.35)
    assert "35 % of the run (35 s of 100 s)" in seen.diagnosis.summary
    assert [r.rule for r in seen.recommendations][:2] == ["PD509", "PD215"]


def test_the_verdict_is_on_the_training_where_more_is_gained_there() -> None:
    seen = diagnosed(replace(SCAN, share=0.22), replace(COLLECTS, share=0.4))
    assert {"PD509", "PD215"} <= {r.rule for r in seen.recommendations}
    assert seen.recommendations[0].rule == "PD215"
    assert seen.diagnosis is not None
    assert seen.diagnosis.bottleneck != "start_up"


def test_gains_of_the_training_are_compared_as_gains_of_the_run() -> None:
    # 1 / (1 - 0.15 / 0.35) = 1.75 of the training, but 1 / (1 - 0.15) = 1.18 of the run
    seen = diagnosed(replace(SCAN, share=0.3), replace(COLLECTS, share=0.15), start=0.6)
    assert seen.recommendations[0].rule == "PD509"
    assert seen.diagnosis is not None
    assert seen.diagnosis.bottleneck == "start_up"


def test_lines_of_the_start_up_are_no_lines_of_the_training() -> None:
    facts = Facts(schema.to_dict(run(SCAN, COLLECTS)))
    assert [found.library for found in hot_lines(facts)] == ["gc.collect"]
    assert [found.share for found in hot_lines(facts, "start_up")] == [0.5]
    early = replace(COLLECTS, stage="start_up", share=0.3)
    assert "PD215" not in {r.rule for r in diagnosed(early).recommendations}


def test_advice_on_the_start_up_is_not_in_what_the_training_gains_together() -> None:
    both = (COLLECTS, line("train.py:33", "train", "roc_auc_score", "metrics", 0.2))
    seen = diagnosed(replace(SCAN, share=0.3), *both)
    assert seen.together is None or "PD509" not in seen.together.rules
