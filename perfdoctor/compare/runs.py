"""Comparing runs: which is best, and how well that is known.

Runs whose blocks were interleaved are compared in pairs, runs that were logged by their medians.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfdoctor.pace import EPOCHS, FEWEST, SAMPLES, STEPS, TOKENS
from perfdoctor.record import Floats
from perfdoctor.report import ComparedConfiguration, Comparison, Interval, Report, Stat
from perfdoctor.stats import ratio_interval

#: Half the interval of a run's speed, at least (logarithmic): identical code drifted by 9.5 %
#: within an hour on one machine.
_BETWEEN_RUNS = 0.05
#: Epochs are means over many steps: with so many, few records do not matter.
_FEWEST_EPOCHS = 3
#: 95 % of a normal distribution lies within so many standard deviations.
_NORMAL = 1.96


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
    stands last and has no relative speed, and so does one that rests on too few records. The runs
    did not take turns, so that intervals are those of two independent means, and no narrower than
    machines drift. `best` are the rows whose interval overlaps that of the first.
    """
    reasons = [_too_few(report) for report in reports]
    judged = [r for r, reason in zip(reports, reasons, strict=True) if reason is None]
    measure = max(_MEASURES, key=lambda m: sum(m(r) is not None for r in judged or reports))
    speeds = [
        None if judged and reason is not None else measure(report)
        for report, reason in zip(reports, reasons, strict=True)
    ]
    order = sorted(range(len(reports)), key=lambda i: (-_rate(speeds[i]), reasons[i] is not None))
    first = speeds[order[0]] if order else None
    rows = tuple(_logged(reports[i], speeds[i], first, reasons[i]) for i in order)
    best = tuple(n for n, i in enumerate(order) if _may_be_first(speeds[i], first))
    told = [r for r, speed in zip(reports, speeds, strict=True) if speed is not None]
    return Comparison(
        varied=("run",),
        rows=rows,
        best=best,
        notes=_how_compared(measure, told),
        measure=_MEASURES[measure] if first is not None else None,
    )


def _too_few(report: Report) -> str | None:
    """Why a run is not compared with others; a summary of a whole run has no records."""
    steps = 0 if report.steps is None else report.steps.count
    rates = [report.series.get(name, ()) for name in ("samples_per_s", "tokens_per_s")]
    records = max([steps, *(sum(value is not None for value in column) for column in rates)])
    time = None if report.epochs is None else report.epochs.time
    epochs = 0 if time is None else time.count
    summary = not any(log.records for log in report.logs)
    if summary or records >= FEWEST or epochs >= _FEWEST_EPOCHS or not (records or epochs):
        return None
    told = f"{records} record{'' if records == 1 else 's'} with a step time or a rate"
    return f"only {told}: too few to compare"


def _how_compared(
    measure: Callable[[Report], object], reports: Sequence[Report]
) -> tuple[str, ...]:
    """Steps are only alike where batches are."""
    if measure is not _by_steps or len(reports) < 2:
        return ()
    sizes = [_batch_size(report) for report in reports]
    known = sorted({size for size in sizes if size is not None})
    if None not in sizes and len(known) == 1:
        return ()
    how = "not all batch sizes are known"
    if len(known) > 1:
        how = f"batch sizes differ ({', '.join(f'{size:,g}' for size in known)})"
    return (
        f"Compared by steps/s, since not all logs tell samples/s; {how}, so that a faster step "
        "may do less work.",
    )


def _batch_size(report: Report) -> float | None:
    told = report.throughput
    if told is not None and told.samples_per_s and told.steps_per_s:
        return float(round(told.samples_per_s / told.steps_per_s))
    size = report.configuration.get("batch_size")
    if isinstance(size, bool) or not isinstance(size, int | float) or size <= 0:
        return None
    return float(size)


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


def _of_mean(time: Stat) -> Interval | None:
    """Of the mean time, as if the steps were independent; machines drift by more in any case."""
    error = _NORMAL * time.std_s / math.sqrt(time.count)
    return None if error >= time.mean_s else (time.mean_s - error, time.mean_s + error)


def _by_samples(report: Report) -> _Speed | None:
    told = report.throughput
    return None if told is None else _speed(told.samples_per_s, told.samples_per_s_ci)


def _by_tokens(report: Report) -> _Speed | None:
    told = report.throughput
    return None if told is None else _speed(told.tokens_per_s, told.samples_per_s_ci)


def _by_steps(report: Report) -> _Speed | None:
    steps, told = report.steps, report.throughput
    rate = None if told is None else told.steps_per_s
    return _speed(rate, None if steps is None else _of_mean(steps.time))


def _by_epochs(report: Report) -> _Speed | None:
    time = None if report.epochs is None else report.epochs.time
    if time is None or time.p50_s <= 0:
        return None
    return _speed(1 / time.p50_s, time.p50_ci)


_MEASURES = {_by_samples: SAMPLES, _by_tokens: TOKENS, _by_steps: STEPS, _by_epochs: EPOCHS}


def _logged(
    report: Report, speed: _Speed | None, first: _Speed | None, note: str | None
) -> ComparedConfiguration:
    relative = None if speed is None or first is None else speed.rate / first.rate
    throughput, epochs = report.throughput, report.epochs
    economics = None if epochs is None else epochs.economics
    return ComparedConfiguration(
        label=report.name,
        configuration={"run": report.name},
        samples_per_s=None if throughput is None else throughput.samples_per_s,
        tokens_per_s=None if throughput is None else throughput.tokens_per_s,
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
        note=note,
    )


def _relative_interval(
    relative: float | None, speed: _Speed | None, first: _Speed | None
) -> Interval | None:
    """Of the ratio of two independent rates; None for the first row itself."""
    if relative is None or speed is None or first is None or speed is first:
        return None
    factor = math.exp(math.hypot(speed.half, first.half))
    return relative / factor, relative * factor
