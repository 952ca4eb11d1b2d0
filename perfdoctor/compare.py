"""Comparing runs whose blocks were interleaved: paired ratios, intervals, and which is best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfdoctor.record import Floats
from perfdoctor.report import ComparedConfiguration, Comparison, Interval, Report, Stat
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


def compare_logs(reports: Sequence[Report]) -> Comparison:
    """Runs that were logged, best first: by samples/s, tokens/s or steps/s, or time per epoch.

    They did not run in interleaved blocks, so the interval of a ratio holds only for what the
    logs show, not for what a busy machine did to one of them. `best` are those whose interval
    overlaps that of the first.
    """
    key = _common_measure(reports)
    rates = [_rate(report, key) for report in reports]
    order = sorted(range(len(reports)), key=lambda i: -(rates[i][0] or 0.0))
    first = rates[order[0]]
    rows = tuple(_logged(reports[i], rates[i], first) for i in order)
    tied = [n for n, i in enumerate(order) if rates[i][0] and _overlaps(rates[i], first)]
    return Comparison(varied=("run",), rows=rows, best=tuple(tied))


#: A rate and its interval.
_Rate = tuple[float | None, Interval | None]


def _common_measure(reports: Sequence[Report]) -> str:
    """What most of the reports tell; the first of those that tie."""
    keys = ("samples", "tokens", "steps", "epochs")
    return max(keys, key=lambda key: sum(_rate(r, key)[0] is not None for r in reports))


def _rate(report: Report, key: str) -> _Rate:
    throughput, steps, epochs = report.throughput, report.steps, report.epochs
    if key == "epochs":
        return _inverse(None if epochs is None else epochs.time)
    if key == "steps":
        return _inverse(None if steps is None else steps.time)
    if throughput is None:
        return None, None
    if key == "tokens":
        return throughput.median_tokens_per_s or throughput.tokens_per_s, None
    rate = throughput.median_samples_per_s or throughput.samples_per_s
    return rate, throughput.samples_per_s_ci


def _inverse(stat: Stat | None) -> _Rate:
    if stat is None or stat.p50_s <= 0:
        return None, None
    interval = stat.p50_ci
    ends = None if interval is None or interval[0] <= 0 else (1 / interval[1], 1 / interval[0])
    return 1 / stat.p50_s, ends


def _overlaps(rate: _Rate, first: _Rate) -> bool:
    value, interval = rate
    high = interval[1] if interval is not None else value
    low = first[1][0] if first[1] is not None else first[0]
    return high is not None and low is not None and high >= low


def _logged(report: Report, rate: _Rate, first: _Rate) -> ComparedConfiguration:
    relative = rate[0] / first[0] if rate[0] and first[0] else None
    interval = None
    if relative is not None and rate[1] is not None and first[1] is not None:
        interval = (rate[1][0] / first[1][1], rate[1][1] / first[1][0])
    economics = report.epochs.economics if report.epochs is not None else None
    epochs = report.epochs.time if report.epochs is not None else None
    throughput = report.throughput
    return ComparedConfiguration(
        label=report.name,
        configuration={"run": report.name},
        samples_per_s=throughput.samples_per_s if throughput is not None else None,
        steps_per_s=throughput.steps_per_s if throughput is not None else None,
        step_p50_s=report.steps.time.p50_s if report.steps is not None else None,
        epoch_p50_s=epochs.p50_s if epochs is not None else None,
        wall_s=report.wall.total_s if report.wall is not None else None,
        relative=relative,
        relative_ci=interval,
        peak_bytes=report.memory.peak_bytes,
        bottleneck=_largest_stage(report),
        verdict=report.diagnosis.verdict if report.diagnosis is not None else None,
        best_metric=economics.best if economics is not None else None,
    )
