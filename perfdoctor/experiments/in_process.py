"""Trials within one process: blocks with and without a change, which is made and undone."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from perfdoctor.collect.arm import NO_TIME, ArmFacts
from perfdoctor.collect.lock_step import InMode
from perfdoctor.errors import PerfdoctorError
from perfdoctor.experiments import curve, first_losses, room, starts
from perfdoctor.experiments.often import Often, often
from perfdoctor.experiments.outcomes import concluded, cut_short
from perfdoctor.experiments.plan import Candidate, named
from perfdoctor.experiments.turns import ChunkPlan, Decision, by_blocks, chunk_plan
from perfdoctor.record import Floats
from perfdoctor.report import CurvePoint, Trial
from perfdoctor.sequential import LOOKS, ONE_PROCESS, Claim

if TYPE_CHECKING:
    from perfdoctor.experiments.trials import Laboratory

MODE = "trial"
#: Steps of a mode before it is measured: compiling may take the first few.
MODE_STEPS = 5
#: Of the time of a trial, what all of its blocks are to take: steps get slower on a busy machine,
#: and a block that would not fit into the budget is not begun. [own]
_FILLED = 0.9
#: A change is not taken to make steps longer than this before it was measured. [own]
_MOST_SLOWER = 2.0
_MOST_TIMES = 20


@dataclass
class _Side:
    """The training with the change, made ready.

    Attributes:
        warm: seconds of its first steps. seldom, epochs: what is compared in the place of steps.
    """

    changes: Mapping[str, Any]
    seldom: Often | None = None
    epochs: starts.EpochPlan | None = None
    warm: Floats = field(default_factory=lambda: np.zeros(0))


def attempt(laboratory: Laboratory, candidate: Candidate, allotted_s: float) -> Trial:
    """Blocks with and without the change, in the process that is there."""
    laboratory.tell(named(candidate))
    arm, changes = laboratory.arm, candidate.changes
    if (why := room.not_for_batch(laboratory.facts, changes)) is not None:
        return why
    if starts.unknown(laboratory, changes):
        return Trial(outcome="not_testable", reason=starts.UNKNOWN)
    decision = Decision(Claim(predicted_low=candidate.predicted_low, common=ONE_PROCESS))
    before = arm.facts()  # what was tried until now may have raised the peak
    begun = time.perf_counter()
    side = _ready(laboratory, changes)
    after = arm.facts(MODE)
    ceiling = candidate.experiment.ceiling
    same = None if ceiling else first_losses.compared(laboratory, candidate, MODE)
    try:
        if side.epochs is not None:
            side.epochs = starts.ready(side.epochs, laboratory, MODE, side.warm)
        left_s = max(1.0, allotted_s - (time.perf_counter() - begun))
        _blocks_of(laboratory, candidate, side, decision, left_s)
        points = _curve(laboratory, candidate)
    except KeyboardInterrupt:
        laboratory.interrupted = cut_short(decision, same, laboratory)
        raise
    trial = replace(
        concluded(decision, same, laboratory),
        peak_bytes_before=before.peak_bytes,
        peak_bytes_after=after.peak_bytes,
        curve=points,
    )
    lacking = None if side.epochs is None else starts.too_few(side.epochs, laboratory, decision)
    if lacking is not None and laboratory.unfit() is None:
        trial = replace(trial, reason=lacking)
    if not laboratory.gone:
        laboratory.forgets()
    return _payback(trial, side.warm, candidate, laboratory.step_s)


def _ready(laboratory: Laboratory, changes: Mapping[str, Any]) -> _Side:
    """The change is made, and its first steps are over."""
    side = _Side(changes, often(laboratory, changes), starts.plan_for(laboratory, changes))
    if side.seldom is not None:
        _enter(laboratory, side.seldom.half)
        laboratory.arm.chunk(max(MODE_STEPS, 2 * side.seldom.period), MODE)
        laboratory.arm.forget(MODE)
        side.changes = side.seldom.none
    side.warm = _enter(laboratory, _in_epochs(side))
    if side.epochs is None:
        side.epochs = starts.plan_for(laboratory, changes, starts.first_s(side.warm))
        if side.epochs is not None:  # how long it takes to begin an epoch is seen only now
            laboratory.arm.forget(MODE)
            side.warm = _enter(laboratory, _in_epochs(side))
    return side


def _in_epochs(side: _Side) -> Mapping[str, Any]:
    return side.changes if side.epochs is None else side.epochs.changes(side.changes)


def _enter(laboratory: Laboratory, changes: Mapping[str, Any]) -> Floats:
    laboratory.arm.add_mode(MODE, changes)
    return laboratory.arm.warm(MODE_STEPS, MODE)


def _blocks_of(
    laboratory: Laboratory, candidate: Candidate, side: _Side, decision: Decision, left_s: float
) -> None:
    slower = float(np.median(side.warm[-2:])) / laboratory.step_s
    both = 1 + min(_MOST_SLOWER, max(1.0, slower))  # after two steps that is not sure
    old = None
    if side.epochs is None:
        plan, block_s = _chunks_for(laboratory, MODE, left_s, LOOKS[-1], both, side.seldom)
    else:
        plan, block_s, old = side.epochs, side.epochs.pair_s * both / 2, starts.USUAL
    allotted_s = max(left_s, LOOKS[0] * block_s)
    _take_turns(laboratory, named(candidate), (old, MODE), plan, decision, allotted_s, block_s)


def compare(
    laboratory: Laboratory, label: str, mode: str, decision: Decision, allotted_s: float, most: int
) -> None:
    """Up to so many blocks with and without what a mode changes."""
    plan, block_s = _chunks_for(laboratory, mode, allotted_s, most, 2.0)
    sides = (None, mode)
    _take_turns(laboratory, label, sides, plan, decision, allotted_s, block_s, most=most)


def _chunks_for(
    laboratory: Laboratory,
    mode: str,
    allotted_s: float,
    most: int,
    both: float,
    seldom: Often | None = None,
) -> tuple[ChunkPlan, float]:
    """Chunks of which so many blocks fill the time, and what one takes; `both`: both sides' steps,
    in those of the training as it is."""
    plan = chunks(laboratory, mode, _FILLED * min(allotted_s, laboratory.left_s) / most, seldom)
    return plan, 2 * plan.rounds * (plan.steps + 1) * both * laboratory.step_s


def _take_turns(
    laboratory: Laboratory,
    label: str,
    sides: tuple[str | None, str],
    plan: ChunkPlan,
    decision: Decision,
    allotted_s: float,
    block_s: float,
    most: int = LOOKS[-1],
) -> None:
    old, new = (laboratory.watched(InMode(laboratory.arm, side)) for side in sides)
    deadline = time.perf_counter() + min(allotted_s, laboratory.left_s)
    try:
        by_blocks(
            old, new, plan, decision, deadline, lambda: laboratory.tell(label), most,
            end_s=laboratory.started_s + laboratory.budget_s, block_s=block_s,
        )  # fmt: skip
    except PerfdoctorError as error:
        if error.slug != NO_TIME:
            raise
        laboratory.gone = True  # what was measured until then is kept


def chunks(
    laboratory: Laboratory, mode: str, block_s: float, seldom: Often | None = None
) -> ChunkPlan:
    """Chunks that suit both sides."""
    mine, other = laboratory.facts, laboratory.arm.facts(mode)
    turns = [int(facts.extra.get("turn", 1)) for facts in (mine, other)]
    turns += [seldom.period] if seldom else _occasions(laboratory.periods_in(other), other)
    queue = max(int(mine.extra.get("queue", 0)), int(other.extra.get("queue", 0)))
    plan = chunk_plan(laboratory.step_s, block_s, turn=math.lcm(*turns), queue=queue)
    return plan if seldom is None else seldom.chunks(plan)


def stretch(laboratory: Laboratory, changes: Mapping[str, Any]) -> int:
    """Steps of the shortest chunk: more than one where it makes something rarer."""
    seldom = often(laboratory, changes)
    if seldom is not None:
        return seldom.period
    return math.lcm(*_times(laboratory.periods_in(laboratory.facts), changes))


def _occasions(periods: Mapping[str, int], facts: ArmFacts) -> list[int]:
    return _times(periods, facts.configuration)


def _times(periods: Mapping[str, int], changes: Mapping[str, Any]) -> list[int]:
    """Steps between two of what the changes make rarer: a chunk with none of them shows nothing.

    Of what becomes very rare there may be none in a chunk with the change; that is less than
    1 / `_MOST_TIMES` of its time too good.
    """
    return [
        period * min(_MOST_TIMES, max(1, int(changes[name])))
        for name, period in periods.items()
        if name in changes
    ]


def _curve(laboratory: Laboratory, candidate: Candidate) -> tuple[CurvePoint, ...]:
    """Of batch sizes; whatever becomes of it, the trial before it counts."""
    if "batch_size" not in candidate.changes or laboratory.gone:
        return ()
    try:
        return curve.measured(laboratory, candidate)
    except PerfdoctorError as error:
        laboratory.recover(error)
        size = int(candidate.changes["batch_size"])
        return (CurvePoint(batch_size=size, error=f"further sizes were not measured: {error}"),)


def _payback(trial: Trial, warm: Floats, candidate: Candidate, step_s: float) -> Trial:
    if candidate.changes.get("compile", "off") == "off":
        return trial
    usual = float(np.median(warm[-2:]))
    compile_s = float(np.maximum(0.0, warm - usual).sum())
    saved_s = step_s * (1 - 1 / trial.speedup) if trial.speedup else 0.0
    worth = trial.outcome == "verified" and saved_s > 0
    steps = math.ceil(compile_s / saved_s) if worth else None
    return replace(trial, compile_s=compile_s, pays_back_steps=steps)
