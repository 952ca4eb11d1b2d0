"""Floors: what rests on a few records or samples is not said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from log_bases import STEP_S, bare, times, wall, with_steps

from perfdoctor.record import LogFile
from perfdoctor.report import Abstained, Epochs, Report, Usage
from perfdoctor.rules.engine import diagnose
from perfdoctor.settings import Settings
from perfdoctor.stats import describe


def log(records: int, **fields: object) -> Report:
    """Half of each step waits, a third of the run is validation."""
    step_s = times(STEP_S, 1, count=records)
    report = with_steps(bare(), step_s, {"data_loading": 0.5 * step_s})
    file = LogFile(path="train.log", format="generic", reason="", lines=40, records=records)
    return replace(report, logs=(file,), wall=wall(validation=0.33), **fields)  # type: ignore[arg-type]


def abstained(report: Report) -> dict[str, Abstained]:
    return {a.rule: a for a in diagnose(report, Settings()).abstained if a.reason is not None}


@pytest.mark.parametrize(("records", "said"), [(1, "1 record"), (9, "9 records")])
def test_a_few_records_give_no_advice(records: int, said: str) -> None:
    found = abstained(log(records))
    assert {"PD106", "PD501"} <= set(found)
    assert found["PD106"].reason == (
        f"only {said} with a step time or a rate, at least 10 (or 3 epochs) are needed"
    )
    assert not diagnose(log(records), Settings()).recommendations


def test_ten_records_do() -> None:
    assert {a.rule for a in diagnose(log(10), Settings()).recommendations} == {"PD106", "PD501"}


def test_three_epochs_do_without_many_records() -> None:
    time = describe(times(90.0, 1, count=3))
    found = diagnose(log(3, epochs=Epochs(count=3, time=time)), Settings())
    assert found.recommendations


def test_a_trace_times_the_few_steps_that_it_holds() -> None:
    report = log(5)
    source = replace(report.source, format="pytorch_chrome_trace")
    assert not abstained(replace(report, source=source))


@pytest.mark.parametrize(("samples", "fires"), [(1, False), (9, False), (10, True), (None, True)])
def test_one_snapshot_of_the_gpu_is_no_evidence(samples: int | None, fires: bool) -> None:
    usage = {"gpu": Usage(mean=20.0, p50=20.0, p95=20.0, count=samples)}
    report = replace(bare(), utilisation=usage)
    judged = diagnose(report, Settings())
    assert ("PD206" in {a.rule for a in judged.recommendations}) == fires
    assert ("PD206" in abstained(report)) != fires


def test_a_snapshot_of_a_busy_gpu_is_no_verdict() -> None:
    usage = {"gpu": Usage(mean=99.0, p50=99.0, p95=99.0, count=1)}
    report = replace(with_steps(bare(), times(STEP_S, 1), {}), utilisation=usage)
    judged = diagnose(report, Settings()).diagnosis
    assert judged is not None
    assert judged.verdict == "inconclusive"


@pytest.mark.parametrize(("count", "told"), [(1, False), (12, True)])
def test_how_often_is_said_only_where_it_is_known(count: int, told: bool) -> None:
    clock = wall(validation=0.33)
    parts = tuple(replace(part, count=count) for part in clock.parts)
    advice = diagnose(replace(bare(), wall=replace(clock, parts=parts)), Settings()).recommendations
    validation = next(a for a in advice if a.rule == "PD501")
    assert ("times" in {item.metric for item in validation.evidence}) == told
    assert ("times)" in validation.title) == told
