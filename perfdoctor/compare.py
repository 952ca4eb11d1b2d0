"""Comparing runs: which is best, and how well that is known.

Runs whose blocks were interleaved are compared in pairs, runs that were logged by their medians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfdoctor.record import Floats
from perfdoctor.report import ComparedConfiguration, Comparison, Interval, Report
from perfdoctor.stats import ratio_interval

#: Half the interval of a run's speed, at least (logarithmic): identical code drifted by 9.5 %
#: within an hour on one machine.
_BETWEEN_RUNS = 0.05


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
        samples_per_s=row.report.throughput.samples_per_s if row.report.throughput else None,
        step_p50_s=row.report.steps.time.p50_s if row.report.steps else None,
        relative=relative,
        relative_ci=interval,
        peak_bytes=row.report.memory.peak_bytes,
        bottleneck=_largest_stage(row.report),
    )


def _largest_stage(report: Report) -> str | None:
    if not report.stages:
        return None
    return max(report.stages, key=lambda name: report.stages[name].share)


@dataclass(frozen=True)
class _Speed:
    """A rate, more is better, and half its interval on a logarithmic scale."""

    rate: float
    half: float


def compare_logs(reports: Sequence[Report]) -> Comparison:
    """Runs that were logged, best first: by samples/s, tokens/s, steps/s or epochs per time.

    The first of these that all reports tell counts, else the one that most tell; a row without it
    stands last and has no relative speed. The runs did not take turns, so that intervals are those
    of two independent medians, and no narrower than machines drift. `best` are the rows whose
    interval overlaps that of the first.
    """
    speeds = max(
        ([measure(report) for report in reports] for measure in _MEASURES),
        key=lambda found: sum(speed is not None for speed in found),
    )
    order = sorted(range(len(reports)), key=lambda i: -_rate(speeds[i]))
    first = speeds[order[0]] if order else None
    rows = tuple(_logged(reports[i], speeds[i], first) for i in order)
    best = tuple(n for n, i in enumerate(order) if _may_be_first(speeds[i], first))
    return Comparison(varied=("run",), rows=rows, best=best)


def _rate(speed: _Speed | None) -> float:
    return -math.inf if speed is None else speed.rate


def _may_be_first(speed: _Speed | None, first: _Speed | None) -> bool:
    if speed is None or first is None:
        return False
    return math.log(first.rate / speed.rate) <= first.half + speed.half


def _speed(rate: float | None, interval: Interval | None) -> _Speed | None:
    """The interval as far as it is known, and no narrower than `_BETWEEN_RUNS`."""
    if rate is None or rate <= 0:
        return None
    half = 0.0
    if interval is not None and 0 < interval[0] <= interval[1]:
        half = math.log(interval[1] / interval[0]) / 2
    return _Speed(rate, max(half, _BETWEEN_RUNS))


def _by_samples(report: Report) -> _Speed | None:
    told = report.throughput
    return None if told is None else _speed(told.samples_per_s, told.samples_per_s_ci)


def _by_tokens(report: Report) -> _Speed | None:
    told = report.throughput
    return None if told is None else _speed(told.tokens_per_s, told.samples_per_s_ci)


def _by_steps(report: Report) -> _Speed | None:
    steps, told = report.steps, report.throughput
    rate = None if told is None else told.steps_per_s
    return _speed(rate, None if steps is None else steps.time.p50_ci)


def _by_epochs(report: Report) -> _Speed | None:
    time = None if report.epochs is None else report.epochs.time
    if time is None or time.p50_s <= 0:
        return None
    return _speed(1 / time.p50_s, time.p50_ci)


_MEASURES = (_by_samples, _by_tokens, _by_steps, _by_epochs)


def _logged(report: Report, speed: _Speed | None, first: _Speed | None) -> ComparedConfiguration:
    relative = None if speed is None or first is None else speed.rate / first.rate
    throughput, epochs = report.throughput, report.epochs
    economics = None if epochs is None else epochs.economics
    return ComparedConfiguration(
        label=report.name,
        configuration={"run": report.name},
        samples_per_s=None if throughput is None else throughput.samples_per_s,
        steps_per_s=None if throughput is None else throughput.steps_per_s,
        step_p50_s=None if report.steps is None else report.steps.time.p50_s,
        epoch_p50_s=None if epochs is None or epochs.time is None else epochs.time.p50_s,
        wall_s=None if report.wall is None else report.wall.total_s,
        relative=relative,
        relative_ci=_relative_interval(relative, speed, first),
        peak_bytes=report.memory.peak_bytes,
        bottleneck=_largest_stage(report),
        verdict=None if report.diagnosis is None else report.diagnosis.verdict,
        best_metric=None if economics is None else economics.best,
    )


def _relative_interval(
    relative: float | None, speed: _Speed | None, first: _Speed | None
) -> Interval | None:
    """Of the ratio of two independent medians; None for the first row itself."""
    if relative is None or speed is None or first is None or speed is first:
        return None
    factor = math.exp(math.hypot(speed.half, first.half))
    return relative / factor, relative * factor
