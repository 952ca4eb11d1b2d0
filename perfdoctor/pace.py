"""How fast a run went: the work done in each record and the time it took, in every unit known."""

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


@dataclass(frozen=True)
class Pace:
    """Work and time of the records that tell both; `index` is their place among all records."""

    unit: str
    index: NDArray[np.int64]
    work: Floats
    time: Floats

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


def step_weights(run: Run) -> Floats:
    """How many training steps each record stands for; 1 where it is not known."""
    steps = None if run.track is None else run.track.steps
    if steps is None or steps.size != record_count(run):
        return np.ones(record_count(run))
    known: Floats = np.where(steps > 0, steps, 1.0)
    return known


def seconds_per_step(run: Run) -> Floats:
    """The mean over the steps since the record before where it is known, else as printed."""
    step_s = run.step_s if run.step_s.size else np.full(record_count(run), np.nan)
    if run.mean_step_s is None or run.mean_step_s.size != step_s.size:
        return step_s
    means: Floats = np.where(run.mean_step_s > 0, run.mean_step_s, step_s)
    return means


def paces(run: Run, kept: slice) -> dict[str, Pace]:
    """Unit → pace over the records in `kept`, for every unit in which it is known."""
    count = record_count(run)
    place = np.arange(count)[kept]
    step_s, steps = seconds_per_step(run)[kept], step_weights(run)[kept]
    samples = run.samples[kept] if run.samples.size == count else np.full(place.size, np.nan)
    rates = {name: values[kept] for name, values in run.rates.items() if values.size == count}
    found = [
        _known(SAMPLES, place, samples * steps, step_s * steps),
        _printed(SAMPLES, place, rates.get("samples_per_s"), step_s, steps),
        _printed(TOKENS, place, rates.get("tokens_per_s"), step_s, steps),
        _known(STEPS, place, steps, step_s * steps),
    ]
    if run.tokens_per_sample is not None:
        found.append(_known(TOKENS, place, samples * run.tokens_per_sample * steps, step_s * steps))
    by_unit: dict[str, Pace] = {}
    for pace in found:
        if pace is not None:
            by_unit.setdefault(pace.unit, pace)
    return by_unit


def best_pace(found: Mapping[str, Pace], epoch_s: Floats) -> Pace | None:
    """The pace in the best unit: samples, else tokens, else steps; of epochs where all are few."""
    most = max((pace.index.size for pace in found.values()), default=0)
    epochs = _known(EPOCHS, np.arange(epoch_s.size), np.full(epoch_s.size, _HOUR_S), epoch_s)
    if most < FEWEST and epochs is not None and epochs.index.size >= FEWEST:
        return epochs
    known = [p for u in (SAMPLES, TOKENS, STEPS) if (p := found.get(u)) is not None]
    return next((pace for pace in known if pace.index.size >= _COVERED * most), None)


def _printed(
    unit: str, place: NDArray[np.int64], rate: Floats | None, step_s: Floats, steps: Floats
) -> Pace | None:
    """Rates as a log prints them: records count by their time, else by equal work."""
    if rate is None:
        return None
    timed = np.isfinite(step_s) & (step_s > 0)
    if timed[np.isfinite(rate)].all():
        return _known(unit, place, rate * step_s * steps, step_s * steps)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _known(unit, place, steps, steps / rate)


def _known(unit: str, place: NDArray[np.int64], work: Floats, time: Floats) -> Pace | None:
    known = np.isfinite(work) & np.isfinite(time) & (work > 0) & (time > 0)
    if not known.any():
        return None
    if known.all():
        return Pace(unit, place, work, time)
    return Pace(unit, place[known], work[known], time[known])
