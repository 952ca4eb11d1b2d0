"""Waiting for data in a log: the usual wait, and that of the steps that stall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfdoctor.record import Bools, Floats
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.groups import stage_columns
from perfdoctor.rules.logs import data_share
from perfdoctor.stages import DATA_LOADING, OTHER

#: A record so many times the median is one of those that stall: a stall is diluted where a record
#: is the mean over many steps.
_SLOW = 1.25


@dataclass(frozen=True)
class Wait:
    """Parts (0–1) of the time of all steps that wait for data: in all, and in stalls."""

    share: float
    stalled: float

    @property
    def usual(self) -> float:
        """In the steps that do not stall. Stalls are for the rules that look for these."""
        return max(0.0, self.share - self.stalled)

    @property
    def mostly_stalls(self) -> bool:
        """Whether long waits now and then are the larger part of it."""
        return self.stalled > self.share / 2


def waiting(facts: Facts) -> Wait:
    """The wait for data. Raises `Missing` where the log does not tell it."""
    share = data_share(facts)
    stalls = facts.known("stalls.share")
    if stalls is None:
        return Wait(share, 0.0)
    return Wait(share, min(share, stalls * _data_in_stalls(facts, share, stalls)))


def data_in_stalls(facts: Facts) -> float:
    """How much (0–1) of what stalled steps take longer is waiting for data; 0 if unknown."""
    try:
        share, stalls = data_share(facts), facts.number("stalls.share")
    except Missing:
        return 0.0
    return _data_in_stalls(facts, share, stalls)


def in_stalls(facts: Facts, stage: str) -> float:
    """How much (0–1) of what slow steps take longer goes into a stage (`other`: into what the
    stages leave); 0 if unknown."""
    try:
        step_s, stage_s = _timed(facts, stage)
    except Missing:
        return 0.0
    slow = _slow(step_s)
    return _part_of_excess(step_s, stage_s, slow) if slow.any() else 0.0


def _data_in_stalls(facts: Facts, share: float, stalls: float) -> float:
    try:
        step_s, data_s = _timed(facts, DATA_LOADING)
    except Missing:
        return 0.0
    slow = _slow(step_s)
    if slow.any():
        return _part_of_excess(step_s, data_s, slow)
    return _hidden_in_averages(step_s, data_s, share, stalls)


def _timed(facts: Facts, stage: str) -> tuple[Floats, Floats]:
    """Steps and a stage of them, where both are known. Raises `Missing` where none is."""
    step_s = facts.series("step_s")
    if stage == OTHER:
        left = stage_columns(facts).get(OTHER)
        if left is None:
            raise Missing(f"series.{OTHER}_s")
        return step_s[np.isfinite(step_s)], left
    stage_s = facts.series(f"{stage}_s")
    known = np.isfinite(step_s) & np.isfinite(stage_s) if step_s.size == stage_s.size else False
    if not np.any(known):
        raise Missing(f"series.{stage}_s")
    return step_s[known], stage_s[known]


def _slow(step_s: Floats) -> Bools:
    return step_s > _SLOW * np.median(step_s)


def _part_of_excess(step_s: Floats, stage_s: Floats, slow: Bools) -> float:
    more = _excess(step_s, slow)
    return min(1.0, max(0.0, _excess(stage_s, slow) / more)) if more > 0 else 0.0


def _hidden_in_averages(step_s: Floats, data_s: Floats, share: float, stalls: float) -> float:
    """A log that prints one step of many, or medians, shows stalls in its averages alone: the wait
    that is in these and not in what it prints."""
    usual = float(np.median(data_s) / np.median(step_s))
    return min(1.0, max(0.0, share - usual) / stalls) if stalls > 0 else 0.0


def _excess(values: Floats, slow: Bools) -> float:
    return float((values[slow] - np.median(values)).sum())
