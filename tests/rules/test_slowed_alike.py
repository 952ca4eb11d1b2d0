"""All that computes got slower alike: the machine's doing, or not to be told apart from it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from bases import _noisy
from run_bases import PARTS_S, STEPS, growing, growing_hooks, script

from perfdoctor import schema
from perfdoctor.record import Floats
from perfdoctor.report import Report
from perfdoctor.rules.engine import diagnose
from perfdoctor.settings import Settings

COMPUTING = ("forward", "loss", "backward")
FAR_AT_ONCE = np.where(np.arange(STEPS) < 0.6 * STEPS, 1.0, 2.0)
AT_ONCE = np.where(np.arange(STEPS) < 0.6 * STEPS, 1.0, 1.35)
GRADUAL = np.linspace(1.0, 1.8, STEPS)


def slower(factor: Floats, stages: Iterable[str], **others: Floats) -> Report:
    """These stages take so many times as long."""
    parts = {n: _noisy(v, 3 + i) for i, (n, v) in enumerate(PARTS_S.items())}
    changed = {n: v * (factor if n in stages else 1.0) for n, v in parts.items()}
    return script(parts_s=changed | others)


def judged(report: Report, **memory: float) -> tuple[str, Any]:
    """The verdict, and PD701's advice or None, where others left the machine alone."""
    facts: dict[str, Any] = schema.to_dict(report)
    for name, value in (("cpu", 60.0), ("cpu_foreign", 1.5)):
        facts["utilisation"][name] = {"mean": value, "p50": value, "p95": value}
    facts["memory"] |= memory
    result = diagnose(schema.from_json(json.dumps(facts).encode()), Settings())
    assert result.diagnosis is not None
    found = [advice for advice in result.recommendations if advice.rule == "PD701"]
    return result.diagnosis.verdict, found[0] if found else None


MACHINE = {
    "at once": slower(AT_ONCE, PARTS_S),
    "what uses all cores more than the update": slower(
        AT_ONCE, COMPUTING, optimizer=_noisy(PARTS_S["optimizer"], 8) * (1 + 0.7 * (AT_ONCE - 1))
    ),
    "little by little": slower(GRADUAL, PARTS_S),
}


@pytest.mark.parametrize("report", MACHINE.values(), ids=MACHINE)
def test_what_hits_all_that_computes_is_not_called_the_scripts_doing(report: Report) -> None:
    verdict, advice = judged(report, trend_bytes_per_step=1e3, peak_bytes=400_000_000)
    assert verdict != "degrading"
    assert (advice.optional, advice.predicted, advice.snippet) == (True, None, "")
    assert "forward, backward and optimizer got slower alike" in advice.title
    assert "measure again" in advice.advice
    assert "grows" not in advice.title + advice.advice


GROWING_OTHER = np.where(np.arange(STEPS) < 0.6 * STEPS, 0.001, 0.03)
SCRIPT = {
    "batches get longer": slower(GRADUAL, COMPUTING),
    "batches are longer from here on": slower(FAR_AT_ONCE, COMPUTING),
    "the backward pass alone": slower(FAR_AT_ONCE, ["backward"]),
    "the forward pass alone": slower(FAR_AT_ONCE * FAR_AT_ONCE, ["forward"]),
    "forward and backward, and the loss is long and stays": slower(
        FAR_AT_ONCE, PARTS_S, loss=_noisy(0.01, 9)
    ),
    "more of it between the stages": slower(1 + 0.4 * (AT_ONCE - 1), PARTS_S, other=GROWING_OTHER),
    "one stage, little by little": growing(),
    "hooks": growing_hooks(),
}


@pytest.mark.parametrize("report", SCRIPT.values(), ids=SCRIPT)
def test_what_one_stage_adds_is_the_scripts_doing(report: Report) -> None:
    verdict, advice = judged(report)
    assert verdict == "degrading"
    assert advice.predicted is not None
    assert not advice.optional


def test_what_goes_with_growing_memory_is_the_scripts_doing() -> None:
    report = slower(AT_ONCE, PARTS_S)
    verdict, _ = judged(report, trend_bytes_per_step=1e6, peak_bytes=400_000_000)
    assert verdict == "degrading"


A_LITTLE = {
    "the backward pass": slower(AT_ONCE, ["backward"]),
    "forward and backward, and the update stays": slower(AT_ONCE, COMPUTING),
}


@pytest.mark.parametrize("report", A_LITTLE.values(), ids=A_LITTLE)
def test_a_small_fall_at_once_seconds_before_the_end_can_be_a_mood_of_the_machine(
    report: Report,
) -> None:
    verdict, advice = judged(report)
    assert verdict == "healthy"
    assert (advice.optional, advice.predicted, advice.snippet) == (True, None, "")
    assert advice.title.endswith("at once and shortly before the end")
    assert "measure again" in advice.advice


def test_a_small_fall_that_lasts_is_the_scripts_doing() -> None:
    long = {name: 4 * seconds for name, seconds in PARTS_S.items()}
    report = script(parts_s=long | {"backward": _noisy(long["backward"], 5) * AT_ONCE})
    verdict, advice = judged(report)
    assert verdict == "degrading"
    assert not advice.optional


def test_a_small_fall_between_the_stages_is_the_scripts_doing() -> None:
    at_once = np.where(np.arange(STEPS) < 0.6 * STEPS, 0.001, 0.015)
    report = script(parts_s=PARTS_S | {"other": _noisy(1.0, 5) * at_once})
    assert judged(report)[0] == "degrading"
