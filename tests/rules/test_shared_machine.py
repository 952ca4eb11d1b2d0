"""A machine that others use: what it slows down is no fault of the script."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from run_bases import PARTS_S, STEPS, growing, line, script

from perfdoctor import schema
from perfdoctor.report import Report
from perfdoctor.rules import engine
from perfdoctor.rules.engine import diagnose
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_facts import cores_taken, loader_model
from perfdoctor.rules.run_batches import many_workers
from perfdoctor.rules.slowdown import EpochTimeGrows
from perfdoctor.rules.trends import grown_stage, lasting_fall, lost_share
from perfdoctor.settings import Settings

FULL = {"cpu": 100.0, "cpu_foreign": 180.0}


def changed(report: Report, percent: dict[str, float], **counters: float) -> Report:
    """With so much of the processor in use, and with these counters."""
    facts: dict[str, Any] = schema.to_dict(report)
    for name, value in percent.items():
        facts["utilisation"][name] = {"mean": value, "p50": value, "p95": value}
    facts["counters"] |= counters
    return schema.from_json(json.dumps(facts).encode())


def own_share(early: float, late: float) -> dict[str, float]:
    return {"own_cpu_early_percent": early, "own_cpu_late_percent": late}


def judged(report: Report) -> tuple[str, Any]:
    """The verdict, and PD701's advice or None."""
    result = diagnose(report, Settings())
    assert result.diagnosis is not None
    found = [advice for advice in result.recommendations if advice.rule == "PD701"]
    return result.diagnosis.verdict, found[0] if found else None


@pytest.mark.parametrize("counters", [own_share(100.0, 20.0), {}], ids=["no more", "unknown"])
def test_a_step_that_only_waits_longer_for_a_core_is_the_machines_doing(
    counters: dict[str, float],
) -> None:
    verdict, advice = judged(changed(growing(), FULL, **counters))
    assert verdict != "degrading"
    assert (advice.optional, advice.predicted, advice.snippet) == (True, None, "")
    assert "the machine was shared: other programs took 180 % of a core" in advice.title
    assert "grows" not in advice.title + advice.advice


def test_a_step_that_computes_more_is_the_scripts_doing_on_a_full_machine_as_well() -> None:
    verdict, advice = judged(changed(growing(), FULL, **own_share(100.0, 100.0)))
    assert verdict == "degrading"
    assert advice.predicted is not None


def test_others_that_leave_cores_free_do_not_slow_one_stage_down() -> None:
    verdict, _ = judged(changed(growing(), {"cpu": 50.0, "cpu_foreign": 80.0}))
    assert verdict == "degrading"


@pytest.mark.parametrize(("times", "is_script"), [(1.0, False), (20.0, True)])
def test_a_fall_far_beyond_what_others_took_is_the_scripts_doing(
    times: float, is_script: bool
) -> None:
    other = np.linspace(0.010, 0.010 + 0.060 * times, STEPS)
    report = script(parts_s={**PARTS_S, "other": other})
    busy = {"cpu": 100.0, "cpu_foreign": 100.0, "cpu_main": 98.0}
    found, _ = judged(changed(report, busy))
    assert (found == "degrading") is is_script


def growing_by(share_of_line: float) -> Report:
    """`other` doubles, and one of its lines takes this part of the training."""
    hot = line("train.py:33", "train", "merge", "other", share_of_line)
    other = np.linspace(0.100, 0.200, STEPS)
    return script(parts_s={**PARTS_S, "other": other}, hotspots=(hot,))


@pytest.mark.parametrize(("share", "named"), [(0.66, True), (0.30, False)])
def test_a_line_is_named_where_it_takes_more_than_its_stage_did_at_first(
    share: float, named: bool
) -> None:
    _, advice = judged(growing_by(share))
    assert ("train.py:33" in advice.title) is named
    assert ("train.py:33" in advice.advice) is named


def test_single_long_steps_are_not_lost_to_a_fall() -> None:
    seconds = np.where(np.arange(STEPS) < STEPS // 2, 0.030, 0.040)
    seconds[STEPS // 2 :: 10] = 1.0
    facts = Facts(schema.to_dict(script(parts_s={**PARTS_S, "backward": seconds})))
    fall = lasting_fall(facts, 0.05)
    assert fall is not None
    assert lost_share(facts, fall) == pytest.approx(fall.share)


def test_a_stage_that_grew_by_nothing_of_a_step_did_not_make_it_longer() -> None:
    parts = {**PARTS_S, "loss": np.linspace(0.0010, 0.0011, STEPS)}
    parts["backward"] = np.linspace(0.040, 0.030, STEPS)
    assert grown_stage(Facts(schema.to_dict(script(parts_s=parts)))) is None


@pytest.mark.parametrize(
    ("busy", "most"), [({}, 32), (FULL, 2), ({"cpu": 95.0, "cpu_foreign": 0.0}, 2)]
)
def test_no_more_workers_than_cores_where_all_cores_are_taken(
    busy: dict[str, float], most: int
) -> None:
    report = changed(script(batch_s=0.200, cores=2, cpu_share=0.03), busy)
    assert 1 <= many_workers(Facts(schema.to_dict(report))) <= most
    assert cores_taken(Facts(schema.to_dict(report))) is bool(busy)
    advice = " ".join(r.advice for r in diagnose(report, Settings()).recommendations)
    assert ("more workers than" in advice) is not bool(busy)


def test_a_batch_that_waits_for_a_core_counts_as_computed() -> None:
    facts = {
        name: Facts(schema.to_dict(changed(script(batch_s=0.2, cores=2, cpu_share=0.12), busy)))
        for name, busy in (("quiet", {}), ("full", FULL))
    }
    model = {name: loader_model(one) for name, one in facts.items()}
    batch_s = float(model["full"].batch_s.mean())
    assert model["quiet"].batch_cpu_s < 0.2 * batch_s
    assert model["full"].batch_cpu_s == pytest.approx(batch_s)


def test_epochs_that_others_make_longer_are_an_option() -> None:
    slower = np.repeat(np.linspace(1.0, 2.0, 10), STEPS // 10)
    cases = ((180.0, PARTS_S, True), (0.0, PARTS_S, True), (0.0, ["backward"], False))
    for others, stages, optional in cases:
        parts_s = {n: v * (slower if n in stages else np.ones(STEPS)) for n, v in PARTS_S.items()}
        facts: dict[str, Any] = schema.to_dict(script(parts_s=parts_s, epoch=STEPS // 10))
        facts["throughput"]["trend"] = None
        facts["series"]["epoch_s"] = [30.0 * value for value in slower[:: STEPS // 10]]
        facts["utilisation"]["cpu_foreign"] = {"mean": others, "p50": others, "p95": others}
        (found,) = engine.judge([EpochTimeGrows()], Facts(facts), {}).found
        assert found.finding.optional is optional
