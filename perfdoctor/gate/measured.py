"""From the steps of both sides to one logarithm of new ÷ old for each quantity."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from perfdoctor.collect.arm import Chunk
from perfdoctor.collect.lock_step import Pair
from perfdoctor.compare.judging import PairValues
from perfdoctor.record import Floats
from perfdoctor.report import Report, Stat

#: Within a chunk of a dozen steps these have a meaning; the median over the chunks counts.
_OF_CHUNK: Mapping[str, Callable[[Floats], float]] = {
    "p25": lambda x: float(np.quantile(x, 0.25)),
    "p50": lambda x: float(np.median(x)),
    "min": lambda x: float(x.min()),
}
#: These need all steps of a side.
_OF_ALL: Mapping[str, Callable[[Floats], float]] = {
    "p95": lambda x: float(np.quantile(x, 0.95)),
    "mean": lambda x: float(x.mean()),
}
#: Steps of a side; below that a 95th percentile is the largest few.
FEWEST_FOR_TAIL = 72


def of_pair(pair: Pair, peaks: tuple[int | None, int | None]) -> PairValues:
    """All quantities of a pair in lock step; `peaks` of memory in bytes.

    Where the two sides differ in their batches, times are per sample (of the old batch's size).
    """
    sides = (pair.first, pair.second)
    scale = _batch(pair.first) / _batch(pair.second)
    values: tuple[dict[str, float], dict[str, float]] = ({}, {})
    differences: dict[str, float] = {}
    for name in ("step", *_stages(sides)):
        columns = [[_column(chunk, name) for chunk in side] for side in sides]
        columns[1] = [column * scale for column in columns[1]]
        _chunked(name, sides, columns, scale, values, differences)
        _pooled(name, columns, values, differences)
    cpu = [np.array([chunk.cpu_s / chunk.step_s.size for chunk in side]) for side in sides]
    _note("step:cpu", [cpu[0], cpu[1] * scale], values, differences)
    if peaks[0] and peaks[1]:
        for side, peak in zip(values, peaks, strict=True):
            side["memory:peak"] = float(peak or 0)
        differences["memory:peak"] = math.log(peaks[1] / peaks[0])
    return PairValues(differences, *values)


def _stages(sides: Sequence[Sequence[Chunk]]) -> list[str]:
    return sorted({name for side in sides for chunk in side for name in chunk.stages_s})


def _batch(side: Sequence[Chunk]) -> float:
    return float(np.median(np.concatenate([chunk.samples for chunk in side]))) or 1.0


def _column(chunk: Chunk, name: str) -> Floats:
    """The seconds of each step; of a stage that did not run in it, none."""
    if name == "step":
        return chunk.step_s
    return np.nan_to_num(chunk.stages_s.get(name, np.zeros(chunk.step_s.size)))


def _chunked(
    name: str,
    sides: tuple[Sequence[Chunk], Sequence[Chunk]],
    columns: Sequence[Sequence[Floats]],
    scale: float,
    values: tuple[dict[str, float], dict[str, float]],
    differences: dict[str, float],
) -> None:
    for statistic, of in _OF_CHUNK.items():
        found = [np.array([of(column) for column in side]) for side in columns]
        if name == "step":
            found = [
                np.maximum(x, [factor * (chunk.steady_s or 0.0) for chunk in side])
                for x, side, factor in zip(found, sides, (1.0, scale), strict=True)
            ]
        _note(f"{name}:{statistic}", found, values, differences)


def _pooled(
    name: str,
    columns: Sequence[Sequence[Floats]],
    values: tuple[dict[str, float], dict[str, float]],
    differences: dict[str, float],
) -> None:
    together = [np.concatenate(side) for side in columns]
    for statistic, of in _OF_ALL.items():
        if statistic == "p95" and min(x.size for x in together) < FEWEST_FOR_TAIL:
            continue
        _note(f"{name}:{statistic}", [np.array([of(x)]) for x in together], values, differences)


def _note(
    key: str,
    found: Sequence[Floats],
    values: tuple[dict[str, float], dict[str, float]],
    differences: dict[str, float],
) -> None:
    """Typical values of the sides that have the quantity; the median ratio where both have."""
    for side, x in zip(values, found, strict=True):
        if (typical := float(np.median(x))) > 0:
            side[key] = typical
    both = (found[0] > 0) & (found[1] > 0)
    if both.sum() > both.size / 2:
        differences[key] = float(np.median(np.log(found[1][both] / found[0][both])))


def of_reports(before: Report, after: Report) -> PairValues:
    """All quantities of two processes that ran one after the other."""
    values = dict(_values(before)), dict(_values(after))
    common = values[0].keys() & values[1].keys()
    differences = {key: math.log(values[1][key] / values[0][key]) for key in common}
    return PairValues(differences, *values)


def _values(report: Report) -> Iterator[tuple[str, float]]:
    stats: dict[str, Stat] = dict(report.stages)
    if report.steps is not None:
        stats["step"] = report.steps.time
        yield "step:p25", _lower_quartile(report)
    for name, stat in stats.items():
        for statistic in ("p50", "p95", "mean", "min"):
            value = getattr(stat, f"{statistic}_s")
            if value > 0 and (statistic != "p95" or stat.count >= FEWEST_FOR_TAIL):
                yield f"{name}:{statistic}", value
    if report.memory.peak_bytes:
        yield "memory:peak", float(report.memory.peak_bytes)


def _lower_quartile(report: Report) -> float:
    """Of all steps where the report has them all, else the median: the next best it holds."""
    assert report.steps is not None
    steps = [s for s in report.series.get("step_s", ()) if s is not None]
    if len(steps) < report.steps.count:
        return report.steps.time.p50_s
    return float(np.quantile(steps, 0.25))
