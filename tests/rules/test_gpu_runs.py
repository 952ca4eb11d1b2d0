"""What is said of observed scripts on a GPU, from their facts as a whole."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bases import healthy_cpu
from gpu_run_bases import GPU_RUNS, copying
from run_bases import script

from perfdoctor.collect import hardware
from perfdoctor.collect.script.machine import MachineWatch
from perfdoctor.record import Run, Source
from perfdoctor.report import Recommendation, Report
from perfdoctor.rules.engine import diagnose
from perfdoctor.settings import Settings
from perfdoctor.summarise import summarise


def _advice(report: Report) -> dict[str, Recommendation]:
    result = diagnose(report, Settings())
    assert not result.warnings
    return {one.rule: one for one in result.recommendations}


def test_pageable_copies_are_named_first_and_a_stream_of_their_own_is_a_choice() -> None:
    result = diagnose(GPU_RUNS["pageable_on_gpu"](), Settings())
    assert result.diagnosis is not None
    assert result.diagnosis.verdict == "transfer-bound"
    first = result.recommendations[0]
    assert first.rule == "PD201"
    assert [choice.rule for choice in first.choices] == ["PD217"]


def test_a_stream_of_their_own_is_advised_where_copies_are_not_waited_for() -> None:
    advice = _advice(copying(0.034, h2d_pinned=True, non_blocking=True))
    assert advice["PD217"].change == {"copy_stream": True}


@pytest.mark.parametrize("copies_s", [0.010, 0.030, 0.049, 0.060, 0.100, 0.300])
def test_no_more_is_promised_than_the_rest_of_a_step_can_hide(copies_s: float) -> None:
    advice = _advice(copying(copies_s, h2d_pinned=True, non_blocking=True))
    whole_s = copies_s + 0.050
    predicted = advice["PD217"].predicted
    assert predicted is not None
    assert predicted.speedup <= whole_s / max(copies_s, whole_s - copies_s) * 1.01
    assert predicted.high <= 2.0


def test_tf32_is_a_choice_beside_sixteen_bits() -> None:
    advice = _advice(GPU_RUNS["products_on_gpu"]())
    assert [choice.rule for choice in advice["PD202"].choices] == ["PD203"]
    assert all(one.optional and one.predicted is None for one in advice.values())
    assert "perfdoctor run --verify train.py" in advice["PD202"].advice


def test_a_script_on_a_cpu_hears_of_none_of_it() -> None:
    settings = {"pin_memory": False, "precision": "fp32", "channels_last": False}
    result = diagnose(script(workers=2, batch_s=0.02, **settings), Settings())
    rules = {one.rule for one in (*result.recommendations, *result.abstained)}
    assert not {"PD201", "PD203", "PD217", "PD222"} & rules


# -- from the collectors on --------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine of 16 GiB; `free` and `swapped` (bytes) are what it tells now."""
    now = SimpleNamespace(free=8 << 30, swapped=3 << 30)

    def memory() -> Any:
        return SimpleNamespace(total=16 << 30, available=now.free)

    monkeypatch.setattr(hardware.psutil, "virtual_memory", memory)
    monkeypatch.setattr(hardware, "swapped_bytes", lambda: now.swapped)
    return now


def _run(kind: str, machine: SimpleNamespace, free: int, swapped: int) -> Run:
    """With samples of a machine that has so much left, and swapped out, after the first ones."""
    sampler = hardware.HardwareSampler(torch.device("cpu"))
    watch = MachineWatch(lambda: 1, list)
    sampler.begin()
    for look in range(12):
        if look == 2:
            machine.free, machine.swapped = free, swapped
        sampler.sample()
        watch.tick()
    seen = sampler if kind == "bench" else watch
    return replace(
        healthy_cpu(),
        source=Source(kind=kind),
        utilisation=seen.utilisation(),
        counters=seen.counters(),
    )


@pytest.mark.parametrize("kind", ["bench", "run"])
def test_a_training_that_fills_the_memory_and_swaps_hears_of_both(
    kind: str, machine: SimpleNamespace
) -> None:
    run = _run(kind, machine, 1 << 29, 5 << 30)
    assert run.counters == {"swap_grown_bytes": float(2 << 30)}
    advice = diagnose(summarise(run), Settings()).recommendations
    first = next(one for one in advice if one.rule in ("PD303", "PD304"))
    assert {first.rule, *(choice.rule for choice in first.choices)} == {"PD303", "PD304"}
    assert not first.optional


@pytest.mark.parametrize("kind", ["bench", "run"])
def test_what_was_swapped_out_before_is_no_fault_of_the_training(
    kind: str, machine: SimpleNamespace
) -> None:
    result = diagnose(summarise(_run(kind, machine, 8 << 30, 3 << 30)), Settings())
    told = {one.rule for one in (*result.recommendations, *result.abstained)}
    assert not {"PD303", "PD304"} & told
