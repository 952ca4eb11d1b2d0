"""Workers that keep the queue full, and take the cores on which the model computes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from run_bases import line, script

from perfdoctor import schema
from perfdoctor.report import Report
from perfdoctor.rules.engine import diagnose
from perfdoctor.settings import Settings


def judged(
    worker_line: tuple[str, str] = ("Tiles.__getitem__", "decode"),
    *,
    step_cpu_s: float = 0.060,
    batch_s: float = 0.040,
    cores: int = 2,
    device: str = "cpu",
    **changed: Any,
) -> Report:
    """Steps of 50 ms, and two workers whose batches are always there in time."""
    function, calls = worker_line
    hot = line("data.py:9", function, calls, "data_loading", 0.9, "worker")
    report = script(batch_s=batch_s, workers=2, cores=cores, hotspots=(hot,), **changed)
    facts: dict[str, Any] = schema.to_dict(report)
    facts["steps"]["cpu_s"] = step_cpu_s
    facts["environment"]["device"] = device
    return diagnose(schema.from_json(json.dumps(facts).encode()), Settings())


def rules(result: Report) -> list[str]:
    return [advice.rule for advice in result.recommendations if not advice.optional]


def test_what_they_do_for_every_sample_is_the_bottleneck() -> None:
    result = judged()
    assert result.diagnosis is not None
    assert (result.diagnosis.verdict, result.diagnosis.bottleneck) == (
        "input-bound",
        "data_loading",
    )
    assert "workers take 40 % of the processor time of a step" in result.diagnosis.summary
    assert rules(result) == ["PD107"]
    advice = result.recommendations[0]
    assert "workers take 40 % of the processor time, on the cores" in advice.title
    assert "workers, of a step's processor time" in [e.metric for e in advice.evidence]
    assert advice.predicted is not None
    assert 1.2 < advice.predicted.speedup < 2.0


def test_so_it_is_with_collating() -> None:
    result = judged(collate_share=0.9)
    assert result.recommendations[0].rule == "PD109"
    assert "workers take 40 % of the processor time" in result.recommendations[0].title


@pytest.mark.parametrize(
    "fine",
    [
        {"cores": 4},  # there is room for both
        {"batch_s": 0.010},  # a small part of the work
        {"device": "cuda"},  # the model computes elsewhere
        {"worker_line": ("random_crop", "uniform")},  # what is drawn anew cannot be kept
    ],
    ids=str,
)
def test_nothing_is_held_against_them(fine: dict[str, Any]) -> None:
    step_cpu_s = 0.080 if "batch_s" in fine else 0.060
    result = judged(step_cpu_s=step_cpu_s, **fine)
    assert result.diagnosis is not None
    assert result.diagnosis.verdict == "healthy"
    assert rules(result) == []
