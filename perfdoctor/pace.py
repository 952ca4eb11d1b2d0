"""How fast a run went: the work done in each record and the time it took, in every unit known.

Runs may have ten million records, so arrays are only made where they differ from what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfdoctor.record import Floats, Run

SAMPLES, TOKENS, STEPS, EPOCHS = "samples/s", "tokens/s", "steps/s", "epochs/h"
#: Fewer records have no trend.
FEWEST = 10
_HOUR_S = 3600.0
#: A unit that is known in fewer records than this share of the best known one does not represent
#: the run.
_COVERED = 0.5
#: Records so many times slower than the median are looked at to learn what they are of.
_SLOW = 1.5
#: How many training steps each record stands for: one number where it is the same for all.
Weights = Floats | float


@dataclass(frozen=True)
class Pace:
    """Work and time of the records that tell both; `index` is their place among all records.

    Both may be in any unit, as only their ratio counts.
    """

    unit: str
    index: NDArray[np.int64] | range
    work: Floats
    time: Floats

    def places(self, elements: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where some of the elements lie among all records."""
        if isinstance(self.index, range):
            return self.index.start + elements
        return self.index[elements]

    @property
    def rate(self) -> float:
        """Work in all records by the time of all."""
        return float(self.work.sum() / self.time.sum())

    @property
    def rates(self) -> Floats:
        """The rate in each record."""
        found: Floats = self.work / self.time
        return found


def record_count(run: Run) -> int:
    """How many records (or steps) the run has."""
    return max([run.step_s.size, *(values.size for values in run.rates.values())])


def step_weights(run: Run) -> Weights:
    """How many training steps each record stands for; 1 where it is not known."""
    if run.track is None or run.track.steps is None:
        return 1.0
    return run.track.weights if run.track.steps.size == record_count(run) else 1.0


def part_of(weights: Weights, kept: slice | NDArray[np.bool_]) -> Weights:
    """The weights of some of the records."""
    return weights if isinstance(weights, float) else weights[kept]


def weighted(values: Floats, weights: Weights) -> tuple[float, float]:
    """Sum of the finite values by their weights, and of these weights."""
    known = np.isfinite(values)
    if not known.all():
        values, weights = values[known], part_of(weights, known)
    if isinstance(weights, float):
        return float(values.sum()) * weights, values.size * weights
    return float(values @ weights), float(weights.sum())


def seconds_per_step(run: Run) -> Floats:
    """The mean over the steps since the record before where it is known, else as printed.

    Where other records tell means, one that does not tells of its own step alone (the first of an
    epoch, before which lie the last steps of the one before): the others took what is usual.
    """
    count = record_count(run)
    step_s = run.step_s if run.step_s.size == count else np.full(count, np.nan)
    if run.mean_step_s is None or run.mean_step_s.size != count:
        return step_s
    told = run.mean_step_s > 0
    if told.all() or not np.isfinite(step_s).any():
        return run.mean_step_s
    usual = float(np.nanmedian(step_s))
    alone = usual + (step_s - usual) / np.maximum(step_weights(run), 1.0)
    means: Floats = np.where(told, run.mean_step_s, alone)
    return means


def stalled_steps(run: Run) -> Weights:
    """How many steps took as much longer as each record says, if one of them stalled.

    A mean over n steps dilutes a stall n times; a single step that is printed shows it in full.
    Where the log has a clock, that tells which of both the records are.
    """
    steps = step_weights(run)
    if run.mean_step_s is not None:
        return steps
    if run.sampled or (run.started_at is not None and _clock_tells_single_steps(run)):
        return 1.0
    return steps


def _clock_tells_single_steps(run: Run) -> bool:
    """Whether the time between slow records is nearer to one slow step than to all being slow."""
    track, step_s = run.track, run.step_s
    if track is None or track.at_s is None or track.steps is None:
        return False
    if not np.isfinite(step_s).any() or track.at_s.size != step_s.size:
        return False
    usual = float(np.nanmedian(step_s))
    slow = 1 + np.flatnonzero((step_s[1:] > _SLOW * usual) & (track.steps[1:] > 1))
    more = track.at_s[slow] - track.at_s[slow - 1] - usual * track.steps[slow]
    of_one = step_s[slow] - usual
    nearer = np.abs(more - of_one) < np.abs(more - of_one * track.steps[slow])
    return bool(nearer.size and nearer[np.isfinite(more)].mean() > 0.5)


def paces(run: Run, kept: slice, *, printed: bool = False) -> dict[str, Pace]:
    """Unit → pace over the records in `kept`, for every unit in which it is known.

    By the means over the steps since the record before, where these are known; `printed`: by the
    steps that a log prints. Those means add up to the true time, but come from averages that are
    rounded, the more so the longer they have run.
    """
    count = record_count(run)
    as_printed = printed and run.step_s.size == count
    step_s = run.step_s if as_printed else seconds_per_step(run)
    step_s, weights = step_s[kept], part_of(step_weights(run), kept)
    samples = run.samples[kept] if run.samples.size == count else None
    rates = {name: values[kept] for name, values in run.rates.items() if values.size == count}
    places = range(count)[kept]
    found = [
        _timed(SAMPLES, places, samples, step_s, weights),
        _printed(SAMPLES, places, rates.get("samples_per_s"), step_s, weights),
        _printed(TOKENS, places, rates.get("tokens_per_s"), step_s, weights),
        _timed(STEPS, places, np.broadcast_to(1.0, step_s.size), step_s, weights),
    ]
    if run.tokens_per_sample is not None and samples is not None:
        tokens = samples * run.tokens_per_sample
        found.append(_timed(TOKENS, places, tokens, step_s, weights))
    by_unit: dict[str, Pace] = {}
    for pace in found:
        if pace is not None:
            by_unit.setdefault(pace.unit, pace)
    return by_unit


def best_pace(found: Mapping[str, Pace], epoch_s: Floats) -> Pace | None:
    """The pace in the best unit: samples, else tokens, else steps; of epochs where all are few."""
    most = max((pace.work.size for pace in found.values()), default=0)
    if most < FEWEST and np.isfinite(epoch_s).sum() >= FEWEST and not _one_mean(epoch_s):
        return _known(EPOCHS, range(epoch_s.size), np.full(epoch_s.size, _HOUR_S), epoch_s)
    known = [p for u in (SAMPLES, TOKENS, STEPS) if (p := found.get(u)) is not None]
    return next((pace for pace in known if pace.work.size >= _COVERED * most), None)


def _one_mean(epoch_s: Floats) -> bool:
    """Whether all epochs have the same time to the last digit, and not in whole seconds: a mean
    that is known of all of them has no trend."""
    known = epoch_s[np.isfinite(epoch_s)]
    return bool((known == known[0]).all() and known[0] % 1)


def _timed(
    unit: str, places: range, work: Floats | None, step_s: Floats, weights: Weights
) -> Pace | None:
    """Work of one step and its time, as often as records stand for steps."""
    if work is None:
        return None
    if isinstance(weights, float):
        return _known(unit, places, work, step_s)
    return _known(unit, places, work * weights, step_s * weights)


def _printed(
    unit: str, places: range, rate: Floats | None, step_s: Floats, weights: Weights
) -> Pace | None:
    """Rates as a log prints them: records count by their time, else by equal work."""
    if rate is None:
        return None
    if (step_s > 0)[np.isfinite(rate)].all():
        return _timed(unit, places, rate * step_s, step_s, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _timed(unit, places, np.ones(rate.size), 1 / rate, weights)


def _known(unit: str, places: range, work: Floats, time: Floats) -> Pace | None:
    known = np.isfinite(work) & np.isfinite(time) & (work > 0) & (time > 0)
    if not known.any():
        return None
    if known.all():
        return Pace(unit, places, work, time)
    return Pace(unit, places.start + np.flatnonzero(known), work[known], time[known])
