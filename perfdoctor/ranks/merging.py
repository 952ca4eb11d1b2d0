"""One report of all ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from perfdoctor.ranks.endings import first_failure, their_warnings, warnings_of
from perfdoctor.ranks.parts import RankPart
from perfdoctor.ranks.side_by_side import SideBySide, trains_together
from perfdoctor.report import Epochs, RankRow, Report, Throughput, Trend


def merge(parts: Sequence[RankPart], world: int, absent: Mapping[int, str]) -> Report | None:
    """One report of all ranks; None where none of them has one.

    Steps, stages and everything that is found from them are of the rank that needs most time by
    itself: what it does is what all others wait for, while in theirs the waiting hides in the
    stage before a collective. Rates are of all ranks together.

    Args:
        parts: of the ranks that handed one in, in any order.
        world: how many ranks there were.
        absent: those that did not until they ended, and in a word why. What they handed in before
            that is among `parts`.
    """
    told = sorted((p for p in parts if p.report is not None), key=lambda part: part.rank)
    if not told:
        return None
    side = SideBySide.of(told)
    skew = None if side is None else side.skew()
    chosen = _chosen(told, side)
    rows = [_row(part, side, absent.get(part.rank)) for part in parts]
    seen = {part.rank for part in parts}
    rows += [RankRow(rank=rank, note=note) for rank, note in absent.items() if rank not in seen]
    factor = _all_to_one(told, chosen)
    first = first_failure(parts)
    report = chosen.report
    assert report is not None
    return replace(
        report,
        ranks=world,
        rank_table=tuple(sorted(rows, key=lambda row: row.rank)),
        rank_skew=skew,
        throughput=_together(told, report.throughput, factor),
        series=_scaled_samples(report.series, factor),
        epochs=_judged(report.epochs, told),
        notes=(*report.notes, _whose(chosen, len(told))),
        warnings=(*warnings_of(parts, absent, first), *their_warnings(told)),
        ending=first.ending if first is not None else told[0].ending,
    )


def _judged(epochs: Epochs | None, told: Sequence[RankPart]) -> Epochs | None:
    """What the epochs brought, also where another rank is the one that printed it."""
    if epochs is None or epochs.economics is not None or not all(map(trains_together, told)):
        return epochs
    others = [part.report.epochs for part in told if part.report and part.report.epochs]
    same = (o.economics for o in others if o.economics and o.count == epochs.count)
    return replace(epochs, economics=next(same, None))


def _chosen(parts: Sequence[RankPart], side: SideBySide | None) -> RankPart:
    if side is not None:
        rank = side.critical()
        return next(part for part in parts if part.rank == rank)
    return max(parts, key=lambda part: (part.steps, -part.rank))


def _row(part: RankPart, side: SideBySide | None, note: str | None) -> RankRow:
    report = part.report
    if report is None:
        return RankRow(rank=part.rank, ending=part.ending, note="it did not import torch")
    place = side.ranks.index(part.rank) if side and part.rank in side.ranks else None
    waits = side is not None and place is not None and side.can_wait
    return RankRow(
        rank=part.rank,
        steps=part.steps,
        step_p50_s=report.steps.time.p50_s if report.steps else None,
        samples_per_s=report.throughput.samples_per_s if report.throughput else None,
        own_s=float(side.own_s()[place]) if waits and side and place is not None else None,
        wait_s=float(np.median(side.wait[place])) if waits and side and place is not None else None,
        between_s=sum(float(np.mean(part.columns[n])) for n in part.between if part.columns[n]),
        stages=_stage_medians(part),
        peak_bytes=report.memory.peak_bytes,
        ending=None if note is not None else part.ending,
        note=note,
    )


def _stage_medians(part: RankPart) -> dict[str, float]:
    columns = {n: v for n, v in part.columns.items() if v and n not in part.between}
    return {n: float(np.median(v[min(part.settled, len(v) - 1) :])) for n, v in columns.items()}


def _all_to_one(parts: Sequence[RankPart], chosen: RankPart) -> float:
    """Samples of all ranks ÷ those of the chosen one, in the same time.

    Ranks that wait for each other make the same steps in it: what each does in one counts, since
    the time of its steps depends on whether it waits in them or works beside them.
    """
    together = all(trains_together(part) for part in parts)
    own, *others = (_rate(p, each_step=together) for p in (chosen, *parts))
    return sum(rate for rate in others if rate is not None) / own if own else 1.0


def _rate(part: RankPart, each_step: bool) -> float | None:
    told = part.report.throughput if part.report else None
    rate = None if told is None else told.samples_per_s or told.tokens_per_s
    if told is None or rate is None or not each_step:
        return rate
    return rate / told.steps_per_s if told.steps_per_s else None


def _together(
    parts: Sequence[RankPart], told: Throughput | None, factor: float
) -> Throughput | None:
    """Sums over the ranks, which work at the same time. Steps are the same ones for all.

    The intervals are as wide relative to the rate as the chosen rank's: ranks that wait for each
    other are slow at the same time.
    """
    if told is None:
        return None
    interval = told.samples_per_s_ci
    return replace(
        told,
        samples_per_s=_times(told.samples_per_s, factor),
        samples_per_s_ci=None if interval is None else (interval[0] * factor, interval[1] * factor),
        tokens_per_s=_times(told.tokens_per_s, factor),
        median_samples_per_s=_times(told.median_samples_per_s, factor),
        median_tokens_per_s=_times(told.median_tokens_per_s, factor),
        trend=None if told.trend is None else _scaled_trend(told.trend, factor),
    )


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _scaled_trend(trend: Trend, factor: float) -> Trend:
    if trend.unit not in ("samples/s", "tokens/s"):
        return trend
    return replace(
        trend,
        first=trend.first * factor,
        last=trend.last * factor,
        change_points=tuple(
            replace(point, before=point.before * factor, after=point.after * factor)
            for point in trend.change_points
        ),
    )


def _scaled_samples(
    series: Mapping[str, tuple[float | None, ...]], factor: float
) -> dict[str, tuple[float | None, ...]]:
    """The samples of a step are those of all ranks, as the rates are."""
    samples = tuple(_times(value, factor) for value in series.get("samples", ()))
    return {**series, "samples": samples} if samples else dict(series)


def _whose(chosen: RankPart, count: int) -> str:
    if count == 1:
        return f"Everything is of rank {chosen.rank}, the only one with a report."
    return (
        f"Rates are of {count} ranks together; steps, stages and advice are of rank {chosen.rank}, "
        "which waits least for the others."
    )
