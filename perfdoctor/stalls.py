"""Stalls: isolated records much slower than their neighbours, and whether they come regularly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from perfdoctor.pace import Weights, weighted
from perfdoctor.record import Bools, Floats
from perfdoctor.report import Stalls

#: A stall takes at least so much longer than its neighbours …
_LONGER = 0.5
#: … and where a record is the mean over many steps, as long as so many of them, and 5 % at least.
_STEPS_LONG, _LEAST_LONGER = 5.0, 0.05
#: … and lies outside the spread of all records: three robust standard deviations.
_DEVIATIONS = 3.0
#: Neighbours are blocks of so many records: the next ones on both sides count as well.
_BLOCK = 32
#: More slow records in a row are a slow phase; more of all records are no exception.
_LONGEST, _MOST = 5, 0.25
_SAMPLED = 100_000
_FEWEST_RECORDS = 10
#: Regular: nearly all distances are one to three periods within a tenth of the period, and so
#: many would be so by chance in one series of a hundred.
_FEWEST_REGULAR, _REGULAR, _SIGNIFICANCE = 4, 0.8, 0.01
_MISSED, _TOLERANCE, _WIDEST_TOLERANCE = 3, 0.05, 0.25


@dataclass(frozen=True)
class Timed:
    """Records in order, all finite.

    Attributes:
        step_s: seconds per step. steps: how many each stands for. lasting: how many of these are
            longer where it is slow. position: in steps. epoch_start: first in an epoch.
    """

    step_s: Floats
    steps: Weights
    lasting: Weights
    position: Floats
    epoch_start: Bools


def find_stalls(records: Timed) -> Stalls | None:
    """The stalls; None where no record stands out."""
    if records.step_s.size < _FEWEST_RECORDS:
        return None
    usual = _neighbours(records.step_s)
    first, last = _isolated(_slow(records, usual))
    if not first.size:
        return None
    excess = _excess(records, usual, first, last)
    spent = weighted(usual, records.steps)[0] + float(excess.sum())
    starts = records.epoch_start
    # by time: a busy machine adds small ones anywhere
    there = float(excess[starts[first]].sum()) / float(excess.sum())
    at_start = there >= _REGULAR and float(starts.mean()) <= 0.5 and int(starts[first].sum()) > 1
    return Stalls(
        count=int(first.size),
        excess_s=float(np.median(excess)),
        share=float(excess.sum()) / spent,
        period_steps=find_period(records.position[first], _spacing(records.position)),
        at_epoch_start=at_start,
    )


def _neighbours(step_s: Floats) -> Floats:
    """The median of the block a record is in and of the blocks beside it."""
    width = min(_BLOCK, step_s.size)
    blocks = step_s.size // width
    medians = np.sort(step_s[: blocks * width].reshape(blocks, width), axis=1)[:, width // 2]
    if blocks > 2:
        medians = np.median(sliding_window_view(np.pad(medians, 1, mode="edge"), 3), axis=1)
    counts = np.full(blocks, width)
    counts[-1] += step_s.size - blocks * width
    usual: Floats = np.repeat(medians, counts)
    return usual


def _slow(records: Timed, usual: Floats) -> Bools:
    longer = records.step_s / usual
    np.log(longer, out=longer)
    some = longer[:: max(1, longer.size // _SAMPLED)]
    spread = 1.4826 * float(np.median(np.abs(some)))
    least = np.log1p(np.clip(_STEPS_LONG / records.lasting, _LEAST_LONGER, _LONGER))
    slow: Bools = longer > np.maximum(least, _DEVIATIONS * spread)
    return slow


def _excess(
    records: Timed, usual: Floats, first: NDArray[np.int64], last: NDArray[np.int64]
) -> Floats:
    """Seconds that each group of slow records takes more than usual."""
    inside = np.repeat(last - np.cumsum(last - first), last - first) + np.arange(
        int((last - first).sum())
    )
    lasting = records.lasting
    times = lasting if isinstance(lasting, float) else lasting[inside]
    more = (records.step_s[inside] - usual[inside]) * times
    excess: Floats = np.add.reduceat(more, np.append(0, np.cumsum(last - first)[:-1]))
    return excess


def _isolated(slow: Bools) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First element of each short group of slow records, and the one after its last."""
    if slow.mean() > _MOST:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    edges = np.flatnonzero(np.diff(slow, prepend=False, append=False))
    first, last = edges[::2], edges[1::2]
    short = last - first <= _LONGEST
    return first[short], last[short]


def _spacing(position: Floats) -> float:
    """Steps from one record to the next."""
    steps = np.diff(position[:_SAMPLED])
    steps = steps[steps > 0]
    return float(np.median(steps)) if steps.size else 1.0


def find_period(position: Floats, spacing: float = 1.0) -> float | None:
    """The distance at which events come, where they do so regularly; `spacing` is how exactly
    their positions are known."""
    distances = np.diff(position)
    distances = distances[distances > 0]
    if distances.size < _FEWEST_REGULAR - 1:
        return None
    period = float(np.median(distances))
    tolerance = max(spacing, _TOLERANCE * period)
    if tolerance > _WIDEST_TOLERANCE * period:
        return None
    times = np.round(distances / period)
    hits = (np.abs(distances - times * period) <= tolerance) & (times >= 1) & (times <= _MISSED)
    chance = _chance(period, tolerance, float(distances.mean()))
    if hits.mean() < _REGULAR or _at_least(int(hits.sum()) - 1, hits.size - 1, chance) > (
        _SIGNIFICANCE
    ):
        return None
    exact = float(distances[hits].sum() / times[hits].sum())
    return float(round(exact)) if abs(exact - round(exact)) < _TOLERANCE * exact else exact


def _chance(period: float, tolerance: float, mean: float) -> float:
    """That a distance between events placed at random (exponential) is near a multiple."""
    found = 0.0
    for times in range(1, _MISSED + 1):
        low, high = times * period - tolerance, times * period + tolerance
        found += math.exp(-low / mean) - math.exp(-high / mean)
    return min(1.0, found)


def _at_least(hits: int, trials: int, chance: float) -> float:
    """Binomial probability of at least `hits`."""
    if hits <= 0 or chance >= 1:
        return 1.0
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        + k * math.log(chance) + (trials - k) * math.log1p(-chance)
        for k in range(hits, trials + 1)
    ]  # fmt: skip
    return min(1.0, sum(math.exp(value) for value in logs))
