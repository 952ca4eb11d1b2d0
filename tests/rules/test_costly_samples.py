"""A benchmark that waits for data always gets advice; that samples cost too much is said last."""

from __future__ import annotations

from typing import Any

import pytest
from bases import BASES, CPU_PARTS, report, training

from perfdoctor.record import Run
from perfdoctor.report import Recommendation, Report
from perfdoctor.rules.engine import diagnose
from perfdoctor.settings import Settings
from perfdoctor.summarise import summarise

LAST = "PD107"


def judged(run: Run) -> Report:
    return diagnose(summarise(run), Settings())


def first(found: Report) -> Recommendation:
    return found.recommendations[0]


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
@pytest.mark.parametrize("cores", [1, 2, 4])
@pytest.mark.parametrize("computing", [0.02, 0.5, 1.0])
@pytest.mark.parametrize("batch_size", [1, 32])
def test_whatever_an_input_bound_benchmark_lacks_it_gets_advice_on_its_loader(
    workers: int, cores: int, computing: float, batch_size: int
) -> None:
    found = judged(
        training(
            batch_s=0.400,
            parts_s=CPU_PARTS,
            workers=workers,
            cores=cores,
            batch_cpu_share=computing,
            batch_size=batch_size,
        )
    )
    assert found.diagnosis is not None
    if found.diagnosis.verdict == "input-bound":
        assert "data_loading" in {one.stage for one in found.recommendations}


@pytest.mark.parametrize("base", BASES)
def test_so_do_the_bases(base: str) -> None:
    found = diagnose(report(base), Settings())
    assert found.diagnosis is not None
    if found.diagnosis.verdict == "input-bound":
        assert "data_loading" in {one.stage for one in found.recommendations}


@pytest.mark.parametrize(
    ("base", "rule"), [("input_bound_cpu", "PD101"), ("starved_workers", "PD102")]
)
def test_where_more_workers_help_that_is_said_first(base: str, rule: str) -> None:
    best = first(diagnose(report(base), Settings()))
    assert best.rule == rule
    assert best.choices[-1].rule == LAST


def test_where_workers_wait_the_threads_come_behind_more_of_them() -> None:
    best = first(diagnose(report("reading_one_core"), Settings()))
    assert best.rule == "PD101"
    assert [choice.rule for choice in best.choices] == ["PD108"]
    threads, workers = best.choices[0].predicted, best.predicted
    assert threads is not None
    assert workers is not None
    assert threads.speedup > workers.speedup


def test_it_goes_behind_a_small_gain_and_not_only_behind_a_large_one() -> None:
    """Three workers of four cores bring little; that a sample costs much could bring far more."""
    best = first(judged(slow_samples(workers=3, cores=4)))
    assert best.rule == "PD102"
    assert best.predicted is not None
    assert best.predicted.speedup < 1.5
    assert best.choices[-1].rule == LAST


def test_where_nothing_else_helps_it_is_alone() -> None:
    best = first(judged(slow_samples(workers=4, cores=4)))
    assert (best.rule, best.choices, best.optional) == (LAST, (), False)


def slow_samples(**settings: Any) -> Run:
    """Far more work for the workers than for the training."""
    return training(batch_s=2.0, parts_s=CPU_PARTS, **settings)
