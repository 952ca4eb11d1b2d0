"""Throughput and memory of several batch sizes, up to the largest that is sure to fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from perfdoctor.errors import PerfdoctorError
from perfdoctor.experiments.plan import Candidate
from perfdoctor.report import CurvePoint

if TYPE_CHECKING:
    from perfdoctor.experiments.trials import Laboratory

_MOST_POINTS = 5
#: Visits of each size in turns, of so many steps, after so many that warm it up.
_VISITS, _STEPS, _WARM_STEPS = 5, 2, 2
#: A size is not tried if the peak of the one before, doubled, were more than this of the memory.
_SAFE_SHARE = 0.8
#: Of what is left of the budget, what the visits of one size may take.
_SHARE = 0.1


def measured(laboratory: Laboratory, candidate: Candidate) -> tuple[CurvePoint, ...]:
    """The present size, then doubled sizes, as far as time, data and memory allow."""
    arm, peaks, failed = laboratory.arm, dict[int, int | None](), list[CurvePoint]()
    for size in _sizes(laboratory):
        known = list(peaks.values())
        if _would_fill(laboratory, known[-1] if known else None):
            failed.append(CurvePoint(batch_size=size, error="not tried: memory might not do"))
            break
        try:
            arm.add_mode(_mode(size), {"batch_size": size})
            arm.warm(_WARM_STEPS, _mode(size))
        except PerfdoctorError as error:
            if error.slug == "arm-ended":
                raise
            failed.append(CurvePoint(batch_size=size, error=str(error)))
            break
        peaks[size] = arm.facts(_mode(size)).peak_bytes
    rates = _rates(laboratory, list(peaks))
    for size in peaks:
        arm.forget(_mode(size))
    points = (
        CurvePoint(batch_size=size, samples_per_s=rates[size], peak_bytes=peak)
        for size, peak in peaks.items()
    )
    return (*points, *failed)


def _sizes(laboratory: Laboratory) -> Iterator[int]:
    now = int(laboratory.facts.configuration.get("batch_size") or 0)
    samples = laboratory.facts.configuration.get("dataset_size")
    for power in range(_MOST_POINTS if now else 0):
        size = now * 2**power
        visits_s = (_VISITS * (_STEPS + 1) + _WARM_STEPS) * laboratory.step_s * 2**power
        if (samples is not None and size > samples) or visits_s > _SHARE * laboratory.left_s:
            return
        yield size


def _would_fill(laboratory: Laboratory, peak_before: int | None) -> bool:
    total = laboratory.facts.total_bytes
    return bool(peak_before and total and 2 * peak_before > _SAFE_SHARE * total)


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
