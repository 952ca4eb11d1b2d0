"""Throughput and memory of several batch sizes, up to the largest that is sure to fit."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from perfdoctor.errors import PerfdoctorError
from perfdoctor.experiments.plan import Candidate
from perfdoctor.experiments.room import would_fill
from perfdoctor.report import CurvePoint
from perfdoctor.rules.wording import count
from perfdoctor.sequential import USEFUL

if TYPE_CHECKING:
    from perfdoctor.experiments.trials import Laboratory

_MOST_POINTS = 5
#: Visits of each size in turns, of so many steps, after so many that warm it up.
_VISITS, _STEPS, _WARM_STEPS = 5, 2, 2
#: Of what is left of the budget, what the visits of one size may take.
_SHARE = 0.1


def measured(laboratory: Laboratory, candidate: Candidate) -> tuple[CurvePoint, ...]:
    """The present size, then doubled ones; the last point says why it ends there."""
    arm, peaks = laboratory.arm, dict[int, int | None]()
    size = int(laboratory.facts.configuration.get("batch_size") or 0)
    if not size:
        return ()
    while (why := _why_not(laboratory, size, peaks)) is None:
        try:
            arm.add_mode(_mode(size), {"batch_size": size})
            arm.warm(_WARM_STEPS, _mode(size))
        except PerfdoctorError as error:
            if error.slug == "arm-ended" or not arm.alive:
                raise
            why = str(error)
            break
        peaks[size] = arm.facts(_mode(size)).peak_bytes
        size *= 2
    rates = _rates(laboratory, list(peaks))
    for tried in peaks:
        arm.forget(_mode(tried))
    points = [
        CurvePoint(batch_size=tried, samples_per_s=rates[tried], peak_bytes=peak)
        for tried, peak in peaks.items()
    ]
    return (*points, _ended(CurvePoint(batch_size=size, error=why), list(rates.values())))


def _why_not(laboratory: Laboratory, size: int, peaks: dict[int, int | None]) -> str | None:
    """Why this size is not tried after those that were; None: it is."""
    samples = laboratory.facts.configuration.get("dataset_size")
    if samples is not None and size > samples:
        return f"not tried: the dataset has {count(samples, 'sample')}"
    if would_fill(laboratory.facts, list(peaks.values())[-1] if peaks else None, 2):
        return "not tried: memory might not do"
    if len(peaks) >= _MOST_POINTS:
        return f"not tried: no more than {_MOST_POINTS} sizes are"
    queue = int(laboratory.facts.extra.get("queue", 0))  # prepared ahead, and not counted
    steps = _VISITS * (_STEPS + 1 + queue) + _WARM_STEPS
    visits_s = steps * laboratory.step_s * 2 ** len(peaks)
    more_s = visits_s / _SHARE - laboratory.left_s
    if more_s <= 0:
        return None
    budget_s = math.ceil(laboratory.budget_s + more_s)
    return f"not tried: too little of the budget was left for it: --budget {budget_s}s"


def _ended(last: CurvePoint, rates: list[float]) -> CurvePoint:
    """The point at which it ends, with what the last doubling before it has brought, if nothing."""
    if len(rates) < 2 or math.log(rates[-1] / rates[-2]) > USEFUL:
        return last
    return replace(last, error=f"{last.error}; the last doubling brought no more that was measured")


def _rates(laboratory: Laboratory, sizes: list[int]) -> dict[int, float]:
    """Samples per second of each, from visits forwards and backwards."""
    found: dict[int, list[float]] = {size: [] for size in sizes}
    for visit in range(_VISITS):
        for size in sizes[:: -1 if visit % 2 else 1]:
            chunk = laboratory.arm.chunk(_STEPS, _mode(size))
            found[size].append(float(chunk.samples.sum() / chunk.step_s.sum()))
    return {size: float(np.median(rates)) for size, rates in found.items()}


def _mode(size: int) -> str:
    return f"batch size {size}"
