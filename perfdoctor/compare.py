"""Comparing runs whose blocks were interleaved: paired ratios, intervals, and which is best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfdoctor.record import Floats
from perfdoctor.report import ComparedConfiguration, Comparison, Interval, Report
from perfdoctor.stats import ratio_interval


@dataclass(frozen=True)
class Row:
    """One configuration to compare: its report and samples/s of each block, or why it failed."""

    label: str
    varied: dict[str, object]
    report: Report | None
    rates: Floats | None
    error: str | None = None


def block_rates(step_s: Floats, samples: Floats, block: NDArray[np.int64]) -> Floats:
    """Samples/s of each block, stalls included."""
    numbers = np.unique(block)
    return np.array([samples[block == n].sum() / step_s[block == n].sum() for n in numbers])


def ratio(rates: Floats, base: Floats) -> tuple[float, Interval | None]:
    """Median of the paired ratios `rates` ÷ `base`, and its interval."""
    return ratio_interval(np.log(rates) - np.log(base))


def compare_rows(rows: Sequence[Row]) -> Comparison:
    """All rows relative to the first that was measured, and the best of them."""
    base = next(row.rates for row in rows if row.rates is not None)
    return Comparison(
        varied=tuple(rows[0].varied),
        rows=tuple(_compared(row, base) for row in rows),
        best=best(rows),
    )


def best(rows: Sequence[Row]) -> tuple[int, ...]:
    """The fastest row, and every other that it cannot be told from."""
    medians = {i: float(np.median(r.rates)) for i, r in enumerate(rows) if r.rates is not None}
    first = max(medians, key=lambda index: medians[index])
    return tuple(i for i in medians if i == first or not _beats(rows[first], rows[i]))


def _beats(winner: Row, other: Row) -> bool:
    assert winner.rates is not None and other.rates is not None
    _, interval = ratio(winner.rates, other.rates)
    return interval is not None and interval[0] > 1


def _compared(row: Row, base: Floats) -> ComparedConfiguration:
    if row.report is None or row.rates is None:
        return ComparedConfiguration(
            label=row.label, configuration=dict(row.varied), error=row.error
        )
    relative, interval = ratio(row.rates, base)
    return ComparedConfiguration(
        label=row.label,
        configuration=dict(row.varied),
        samples_per_s=row.report.throughput.samples_per_s,
        step_p50_s=row.report.steps.time.p50_s,
        relative=relative,
        relative_ci=interval,
        peak_bytes=row.report.memory.peak_bytes,
        bottleneck=_largest_stage(row.report),
    )


def _largest_stage(report: Report) -> str:
    return max(report.stages, key=lambda name: report.stages[name].share)
