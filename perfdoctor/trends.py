"""The trend of a run's speed: its ends, its change points and its shape."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from perfdoctor.changes import Change, best_cut, block_medians, find_changes
from perfdoctor.noise import long_run_sd
from perfdoctor.pace import FEWEST, Pace
from perfdoctor.record import Floats, Track
from perfdoctor.report import ChangePoint, Stalls, Trend
from perfdoctor.stats import kendall_p

#: Parts the run is cut into to see a trend, and to put an interval on its throughput.
PARTS = 20
#: A change of throughput smaller than this is no trend: the median of identical blocks varied by
#: 2.1 % (one standard deviation) on a loaded two-core machine.
_STEADY_CHANGE = 0.05
_TREND_P = 0.01
#: Too few records to measure their noise still show a change by half that hardly ever turns round:
#: of 3 000 series of 10 to 200 records with noise of 16 % that was correlated by 0.9, 6 had one.
_PLAIN_CHANGE, _PLAIN_P = 0.6, 5e-5
#: The ends of a gradual change differ by so many standard errors (normal, two-sided p = 0.01).
_ERRORS = 2.58
_BLOCKS = 100
#: 16 % was the coefficient of variation of the mean step over identical blocks on that machine.
_DECAY_CHANGE = -0.15
#: Of a decay, so much happens in the second half at least: it goes on.
_GOES_ON = 0.25
#: The share from which PyTorch's TensorBoard plug-in warns of waiting for data.
_PERIODIC_SHARE = 0.05
#: An epoch is looked at in so many parts, and two epochs are alike with such a correlation.
_EPOCH_PARTS, _FEWEST_PARTS, _ALIKE = 50, 3, 0.7
_SAMPLED, _EPOCHS_SAMPLED = 100_000, 500
_MOST_BLOCKS = 200_000


@dataclass(frozen=True)
class InEpochs:
    """The epoch of each element of a series and its place in it, in steps or records."""

    number: NDArray[np.int64]
    place: Floats

    @property
    def single(self) -> bool:
        """Whether everything lies in one epoch, and its order may explain a drift."""
        return bool(self.number[0] == self.number[-1])


#: Tells the epochs of records, given their places among all; None where the run has no epochs.
EpochsOf = Callable[[NDArray[np.int64]], InEpochs]


def part_rates(work: Floats, time: Floats) -> Floats:
    """Rates of up to `PARTS` equal parts of the run."""
    parts = min(PARTS, work.size)
    cuts = np.linspace(0, work.size, parts + 1).astype(np.int64)[:-1]
    rates: Floats = np.add.reduceat(work, cuts) / np.add.reduceat(time, cuts)
    return rates


def find_trend(
    pace: Pace,
    printed: Pace,
    epochs_of: EpochsOf | None = None,
    stalls: Stalls | None = None,
    track: Track | None = None,
) -> Trend | None:
    """How the rate went; None for fewer than `FEWEST` records.

    `pace` tells the ends, `printed` the levels between changes; both are of the same records.
    What repeats in every epoch (batches sorted by length) is taken out first. Long runs are looked
    at in blocks of a few records.
    """
    count = pace.work.size
    if count < FEWEST:
        return None
    length = -(-count // _MOST_BLOCKS)
    starts = np.arange(0, count - length + 1, length)
    slowness = _slowness(printed, length)
    epochs = None if epochs_of is None else epochs_of(pace.places(starts))
    profile = np.zeros(1) if epochs is None else epoch_profile(slowness, epochs)
    slowness -= profile
    if _is_periodic(stalls):
        rates = _part_medians(slowness)
    else:
        time = np.add.reduceat(pace.time, starts) / np.exp(profile)
        rates = part_rates(np.add.reduceat(pace.work, starts), time)
    changes = find_changes(slowness)
    level = np.broadcast_to(profile, slowness.shape)
    exact = [_unblocked(printed, change, length, float(level[change.index])) for change in changes]
    first, last = float(np.median(rates[:3])), float(np.median(rates[-3:]))
    return Trend(
        first=first,
        last=last,
        change=last / first - 1,
        shape=_shape(rates, slowness, changes, epochs, stalls),
        change_points=tuple(_change_point(pace, change, track) for change in exact),
        unit=pace.unit,
    )


def _part_medians(slowness: Floats) -> Floats:
    """Rates of parts less their stalls, which fall into some parts and not into others."""
    parts = np.array_split(slowness, min(PARTS, slowness.size))
    return np.exp([-float(np.median(part)) for part in parts])


def _slowness(pace: Pace, length: int) -> Floats:
    """Logarithm of the time for a unit of work, the middle of every `length` records."""
    slowness: Floats = np.log(block_medians(pace.time / pace.work, length))
    return slowness


def _unblocked(pace: Pace, change: Change, length: int, profile: float) -> Change:
    """The change at the record and not at the block."""
    if length == 1:
        return change
    start = max(0, (change.index - 1) * length)
    near = slice(start, start + 2 * length)
    values = np.log(pace.time[near] / pace.work[near]) - profile
    return replace(change, index=start + best_cut(values, change.before, change.after))


def _shape(
    rates: Floats,
    slowness: Floats,
    changes: tuple[Change, ...],
    epochs: InEpochs | None,
    stalls: Stalls | None,
) -> str:
    if changes:
        return "step"
    gradual = _is_gradual(rates, slowness)
    if gradual and _decays(rates) and not (epochs is not None and epochs.single):
        return "decay"
    if _is_periodic(stalls):
        return "periodic"
    return "drift" if gradual else "steady"


def _is_periodic(stalls: Stalls | None) -> bool:
    if stalls is None or stalls.share < _PERIODIC_SHARE:
        return False
    return stalls.period_steps is not None or stalls.at_epoch_start


def _is_gradual(rates: Floats, slowness: Floats) -> bool:
    """Whether the ends differ by more than noise, and the parts between are in order."""
    change = float(np.log(np.median(rates[-3:]) / np.median(rates[:3])))
    order_p = kendall_p(rates)
    if abs(change) <= np.log1p(_STEADY_CHANGE) or order_p >= _TREND_P:
        return False
    if abs(change) >= _PLAIN_CHANGE and order_p < _PLAIN_P:
        return True
    blocks = block_medians(slowness, -(-slowness.size // _BLOCKS))
    ends = blocks.size * min(3, rates.size) / rates.size
    return abs(change) > _ERRORS * long_run_sd(blocks) * float(np.sqrt(2 / ends))


def _decays(rates: Floats) -> bool:
    first, last = float(np.median(rates[:3])), float(np.median(rates[-3:]))
    middle = float(np.median(rates[rates.size // 2 - 1 : rates.size // 2 + 2]))
    fallen = last / first - 1 <= _DECAY_CHANGE
    return fallen and np.log(last / middle) <= _GOES_ON * np.log(last / first)


def _change_point(pace: Pace, change: Change, track: Track | None) -> ChangePoint:
    index = int(pace.index[change.index])
    return ChangePoint(
        index=index,
        before=float(np.exp(-change.before)),
        after=float(np.exp(-change.after)),
        p=change.p,
        step=None if track is None else _at(track.step, index),
        step_before=None if track is None else _at(track.step, int(pace.index[change.index - 1])),
        at_s=None if track is None else _at(track.at_s, index),
        where=None if track is None else place(track, index),
    )


def _at(values: Floats | None, index: int) -> float | None:
    if values is None or index >= values.size or not np.isfinite(values[index]):
        return None
    return float(values[index])


def place(track: Track, index: int) -> str | None:
    """FILE:LINE of a record."""
    if index >= track.line.size:
        return None
    return f"{track.files[int(track.file[index])]}:{int(track.line[index])}"


def epoch_profile(slowness: Floats, epochs: InEpochs) -> Floats:
    """How much slower each place in an epoch is than the epoch, the same in all epochs.

    The column effects of a median polish (Tukey 1977) of epochs × parts of an epoch; zeros where
    there are fewer than three epochs, or two that do not look alike.
    """
    nothing = np.zeros(1)
    longest = float(epochs.place.max()) + 1
    parts = int(min(_EPOCH_PARTS, longest))
    if parts < _FEWEST_PARTS or epochs.number[0] == epochs.number[-1]:
        return nothing
    part = (epochs.place * (parts / longest)).astype(np.int64)
    table = _table(slowness, epochs.number, part, parts)
    if table.shape[0] < 3 and not _look_alike(table):
        return nothing
    effects = _column_effects(table)
    profile: Floats = effects[part]
    return profile


def _table(
    values: Floats, number: NDArray[np.int64], part: NDArray[np.int64], parts: int
) -> Floats:
    """Medians of epochs × parts; NaN where there is nothing. Long series are sampled."""
    every = max(1, -(-values.size // _SAMPLED))
    number, part, values = number[::every], part[::every], values[::every]
    row = np.cumsum(np.diff(number, prepend=number[0]) != 0)
    fewer = max(1, -(-int(row[-1] + 1) // _EPOCHS_SAMPLED))
    chosen = row % fewer == 0
    group = (row[chosen] // fewer) * parts + part[chosen]
    order = np.lexsort((values[chosen], group))
    group, ordered = group[order], values[chosen][order]
    first = np.flatnonzero(np.diff(group, prepend=-1))
    middle = (first + np.append(first[1:], group.size) - 1) // 2
    table = np.full((int(row[-1]) // fewer + 1) * parts, np.nan)
    table[group[first]] = ordered[middle]
    return table.reshape(-1, parts)


def _look_alike(table: Floats) -> bool:
    both = np.isfinite(table).all(axis=0)
    if both.sum() < _FEWEST_PARTS or (table[:, both].std(axis=1) == 0).any():
        return False
    correlation: Floats = np.atleast_2d(np.corrcoef(table[:, both]))
    return float(correlation[0, 1]) >= _ALIKE


def _column_effects(table: Floats) -> Floats:
    effects = np.zeros(table.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a part that no epoch has
        for _ in range(3):
            levels = np.nanmedian(table - effects, axis=1, keepdims=True)
            effects = np.nan_to_num(np.nanmedian(table - levels, axis=0))
    return effects - float(np.median(effects))
