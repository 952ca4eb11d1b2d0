"""Change points: where the level of a noisy series changes for good, if it does.

A series is cut into at most `_BLOCKS` blocks, each the median of its records, so that stalls do
not count and a million records cost no more than a thousand. Seeded intervals of all lengths
(Kovács et al., Seeded binary segmentation, Biometrika 2023) are searched for the split with the
largest difference of means; the narrowest interval in which that is significant is believed first
(Baranowski, Chen & Fryzlewicz, Narrowest-over-threshold detection, JRSS B 2019), so that a split
is judged against its surroundings and not against another change far away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from perfdoctor.noise import Noise, clipped, measure_noise
from perfdoctor.record import Floats

#: Smaller changes are not told: identical code drifted by 9.5 % within an hour on one machine.
LEAST_CHANGE = 0.10
#: Significance of a change after correction for the number of splits that were tried.
SIGNIFICANCE = 0.01
#: A level must last for so many blocks, and so for 5 % of a long series, or it is a stall. More
#: and shorter blocks were tried: then chance runs of a heavy-tailed series pass for levels.
SHORTEST = 5
_BLOCKS = 100
#: At least this part of a change must happen within a few blocks, or it is a slope.
_ABRUPT = 0.5
#: Noise is measured so many times at most, each time without the changes found before and the
#: largest so many steps besides: with two, correlated noise passed for changes.
_ROUNDS = 8
_PROVISIONAL = 1
#: More than any change: what is not believed sorts below what is.
_BELOW_ALL = 1e6


@dataclass(frozen=True)
class Change:
    """A change of level: the first element of the new level, both medians, significance."""

    index: int
    before: float
    after: float
    p: float


def find_changes(values: Floats) -> tuple[Change, ...]:
    """Significant changes of level in `values` (finite, in order, on a logarithmic scale).

    A change is at least `LEAST_CHANGE`, lasts, and is abrupt: it explains its surroundings better
    than a straight line does. `p` is at most `SIGNIFICANCE`, all splits that were tried allowed
    for.
    """
    length = -(-values.size // _BLOCKS)
    if values.size < 2 * SHORTEST * length or length == 0:
        return ()
    blocks = clipped(block_medians(values, length))
    return _believable(values, _localised(values, _search(blocks), length), length)


def block_medians(values: Floats, length: int) -> Floats:
    """The middle of every `length` elements; a last, partial block is left out.

    Of an even number the lower one: stalls make times longer and never shorter.
    """
    whole = values.size // length
    blocks = np.sort(values[: whole * length].reshape(whole, length), axis=1)
    medians: Floats = blocks[:, (length - 1) // 2]
    return medians


def _search(blocks: Floats) -> list[Change]:
    """All changes, in blocks. What is found is taken out, and noise is measured once more."""
    found: list[Change] = []
    for _ in range(_ROUNDS):
        noise = measure_noise(_without_levels(blocks, [change.index for change in found]))
        more = _one_round(blocks, noise, found)
        if len(more) == len(found):
            break
        found = more
    return found


def _without_levels(blocks: Floats, cuts: list[int]) -> Floats:
    """The blocks less the levels between `cuts` and the largest other steps, real or not.

    What is left shows noise and not the changes that are looked for.
    """
    rest: Floats = blocks.copy()
    for start, end in pairwise([0, *cuts, blocks.size]):
        rest[start:end] -= np.median(rest[start:end])
    for _ in range(_PROVISIONAL):
        _take_out_largest_step(rest)
    return rest


def _take_out_largest_step(rest: Floats) -> None:
    left = np.arange(SHORTEST, rest.size - SHORTEST + 1)
    sums = np.cumsum(rest - rest.mean())[left - 1]
    cut = int(left[np.argmax(sums**2 / (left * (rest.size - left)))])
    rest[:cut] -= rest[:cut].mean()
    rest[cut:] -= rest[cut:].mean()


def _one_round(blocks: Floats, noise: Noise, found: list[Change]) -> list[Change]:
    """`found` and what more is significant in an interval without any of them, in order."""
    intervals = _seeded_intervals(blocks.size)
    tests = sum(end - start - 2 * SHORTEST + 1 for start, end in intervals)
    found = list(found)
    for start, end in intervals:
        if any(start < change.index < end for change in found):
            continue
        change = _best_split(blocks, start, end, noise, tests)
        if change is not None and all(abs(change.index - c.index) >= SHORTEST for c in found):
            found.append(change)
    found.sort(key=lambda change: change.index)
    return _localised(blocks, found, 1)


def _seeded_intervals(size: int) -> list[tuple[int, int]]:
    """Intervals of `size` blocks and of its divisions by √2, half overlapping; shortest first."""
    intervals = {(0, size)}
    width = size / math.sqrt(2)
    while math.ceil(width) >= 2 * SHORTEST:
        whole = math.ceil(width)
        starts = np.linspace(0, size - whole, 2 * math.ceil(size / whole) - 1).astype(int)
        intervals |= {(int(start), int(start) + whole) for start in starts}
        width /= math.sqrt(2)
    return sorted(intervals, key=lambda pair: (pair[1] - pair[0], pair[0]))


def _best_split(z: Floats, start: int, end: int, noise: Noise, tests: int) -> Change | None:
    """The split of z[start:end] that explains most of it, if it is a change at all."""
    part = z[start:end] - z[start:end].mean()
    left = np.arange(SHORTEST, part.size - SHORTEST + 1)
    weight = left * (part.size - left) / part.size
    change = -np.cumsum(part)[left - 1] / weight
    best = int(np.argmax(weight * change**2))
    explained = float(weight[best] * change[best] ** 2)
    side = min(int(left[best]), int(part.size - left[best]))
    p = tests * _two_sided_p(math.sqrt(explained) / noise.sd[side], float(noise.df[side]))
    small = abs(change[best]) < math.log1p(LEAST_CHANGE)
    if p > SIGNIFICANCE or small or explained <= _explained_by_line(part):
        return None
    return Change(start + int(left[best]), 0.0, float(change[best]), p)


def _explained_by_line(part: Floats) -> float:
    """Sum of squares of a centred series that a straight line explains."""
    x = np.arange(part.size) - (part.size - 1) / 2
    return float(x @ part) ** 2 / float(x @ x)


def _two_sided_p(t: float, df: float) -> float:
    """Student's t by Wallace's normal approximation (Ann. Math. Statist. 30, 1959)."""
    z = (8 * df + 1) / (8 * df + 3) * math.sqrt(df * math.log1p(t * t / df))
    return math.erfc(z / math.sqrt(2))


def _localised(values: Floats, found: Sequence[Change], length: int) -> list[Change]:
    """Each change, found in blocks of `length`, at the element where its two levels fit best."""
    cuts = [0, *(change.index * length for change in found), values.size]
    places = (_best_place(values, cuts[i : i + 3], SHORTEST * length) for i in range(len(found)))
    return [replace(change, index=place) for change, place in zip(found, places, strict=True)]


def _best_place(values: Floats, cuts: Sequence[int], reach: int) -> int:
    low, cut, high = cuts
    before, after = np.median(values[low:cut]), np.median(values[cut:high])
    start, end = max((low + cut) // 2, cut - reach), min((cut + high) // 2, cut + reach)
    return start + best_cut(values[start:end], float(before), float(after))


def best_cut(values: Floats, before: float, after: float) -> int:
    """How many elements lie at the first level, by least absolute deviations from both."""
    loss = np.cumsum(np.abs(values - before) - np.abs(values - after))
    return int(np.argmin(np.concatenate(([0.0], loss))))


def _believable(values: Floats, found: list[Change], length: int) -> tuple[Change, ...]:
    """Changes that are large and abrupt between the levels on both sides; the rest are merged."""
    while found:
        measured = _measured(values, found)
        weakness = [_weakness(values, measured, place, length) for place in range(len(found))]
        weakest = int(np.argmin(weakness))
        if weakness[weakest] > 0:
            return tuple(measured)
        del found[weakest]
    return ()


def _measured(values: Floats, found: Sequence[Change]) -> list[Change]:
    edges = [0, *(change.index for change in found), values.size]
    levels = [float(np.median(values[start:end])) for start, end in pairwise(edges)]
    return [
        replace(change, before=before, after=after)
        for change, (before, after) in zip(found, pairwise(levels), strict=True)
    ]


def _weakness(values: Floats, found: Sequence[Change], place: int, length: int) -> float:
    """The size of a change; negative where it is too small, or more of a slope than a step."""
    edges = [0, *(change.index for change in found), values.size]
    low, cut, high = edges[place : place + 3]
    change = found[place].after - found[place].before
    width = max(SHORTEST * length, min(cut - low, high - cut) // 4)
    near = np.median(values[cut : min(high, cut + width)]) - np.median(
        values[max(low, cut - width) : cut]
    )
    lasts = 2 * min(cut - low, high - cut) >= SHORTEST * length
    if lasts and abs(change) >= math.log1p(LEAST_CHANGE) and near / change >= _ABRUPT:
        return abs(change)
    return abs(change) - _BELOW_ALL
