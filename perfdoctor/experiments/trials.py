"""All trials of a report: a control first, then the most promising, at the end all together."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from perfdoctor.collect import belongings
from perfdoctor.collect.arm import NO_TIME, Arm, ArmFacts, ArmSpec
from perfdoctor.collect.fitness import Fitness, Waiting
from perfdoctor.collect.lock_step import InMode, Steps, Watched
from perfdoctor.collect.options import Progress
from perfdoctor.collect.out_of_memory import NO_ROOM, OUT_OF_MEMORY
from perfdoctor.errors import PerfdoctorError
from perfdoctor.experiments import curve, events, restarts, room, starts
from perfdoctor.experiments.outcomes import concluded, cut_short, told
from perfdoctor.experiments.parity import DIVERGES, Parity, of_batches, parity
from perfdoctor.experiments.plan import Candidate
from perfdoctor.experiments.turns import ChunkPlan, Decision, by_blocks, chunk_plan
from perfdoctor.report import CurvePoint, Trial
from perfdoctor.sequential import LOOKS, ONE_PROCESS, Claim

#: Steps before anything is compared: caches fill, kernels are chosen (benchmarks of the gate's
#: protocol used as many).
WARM_STEPS = 20
#: A slow training is warm after fewer: so much of the budget and no more.
_WARM_SHARE = 0.08
#: Steps of a mode before it is measured: compiling may take the first few.
_MODE_STEPS = 5
PARITY_STEPS = 8
#: Pairs of the control, and the part of the budget it may take.
CONTROL_PAIRS = 7
_CONTROL_SHARE = 0.15
#: More of the device's memory than this leaves no room for a longer batch or fragmentation.
_FULL_SHARE = 0.95

#: Steps of the shortest block: four chunks of one, and one before each that is not counted.
_BLOCK_STEPS = 8
LEAST_S = 3.0

#: Of the time of a trial, what all of its blocks are to take: steps get slower on a busy machine,
#: and a block that would not fit into the budget is not begun. [own]
_FILLED = 0.9

#: A change is not taken to make steps longer than this before it was measured. [own]
_MOST_SLOWER = 2.0

#: An answer may take so long, and longer while there is time left: compiling does. [own]
_PATIENCE_S = 60.0

CONTROL, MODE = "control", "trial"
_MOST_TIMES = 20
#: Why losses of the first steps tell nothing, by where a training lists its changes of that kind.
_NOT_COMPARABLE = {"redrawn": "other batches", "later": "the first steps cannot be changed"}
_LOSSES_TOO_LATE = "not comparable: no time was left for a process that makes the first steps"
_LOSSES_TOO_LARGE = "not compared: memory would not do for a second training beside this one"
#: Changes with which the same batches come another way, and those with which others come.
_SAME_BATCHES = {
    "num_workers",
    "prefetch_factor",
    "persistent_workers",
    "pin_memory",
    "reads_at_once",
}
_OTHER_BATCHES = {"batch_size", "cache_samples", "free_loading"}
#: Batches of each loader that are compared, and the part of the time left that this may take;
#: beside the batches workers have to start.
_BATCHES, _BATCHES_SHARE, _WORKERS_START_S = 3, 0.1, 1.0


@dataclass
class Laboratory:
    """One process in which changes are made and undone, and what is known of the training as it is.

    A context manager; the process is ended with it, and started anew after a change that killed it.

    Attributes:
        control: nothing changed, once it was measured. interrupted: the trial that Ctrl-C ended.
        gone: a change has killed the process, and there was no time for another one.
        periods: change → steps between two of what it makes rarer, as the report has them.
        costs: change → seconds that one of these takes, as the report has it.
        start_s: what the training waits for the first batch of an epoch, as the report has it.
        waiting: for a core, in the trial that is made; waited: in all of them. others: what other
            programs use, from the beginning of that trial on.
    """

    spec: ArmSpec
    budget_s: float
    progress: Progress
    started_s: float = field(default_factory=lambda: time.perf_counter())
    _label: str = ""
    _fitness: Fitness = field(default_factory=Fitness)
    control: Trial | None = None
    interrupted: Trial | None = None
    gone: bool = False
    periods: Mapping[str, int] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    start_s: float = 0.0
    waiting: Waiting = field(default_factory=Waiting)
    waited: Waiting = field(default_factory=Waiting)
    others: Fitness = field(default_factory=Fitness)

    def __enter__(self) -> Laboratory:
        self.tell("setting up")
        until_s = time.monotonic() + self.left_s
        self.spec = replace(
            self.spec, patience_s=_PATIENCE_S, patient_until_s=until_s, waiting=self._tick
        )
        belongings.take_in_orphans()
        self.others.begin()
        self._fitness.begin()
        try:
            self._begin()
        except BaseException:
            belongings.take_in_orphans(wanted=False)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.arm.close()
        belongings.take_in_orphans(wanted=False)

    def _begin(self) -> None:
        begun = time.perf_counter()
        self.arm: Arm = self.spec.start()
        try:
            first_s = float(self.arm.warm(2)[-1])
            limit = max(1, int(_WARM_SHARE * self.budget_s / max(1e-6, first_s)))
            # the mean, since workers hand over their batches in bursts
            self.step_s = float(np.mean(self.arm.warm(min(WARM_STEPS, limit))[-10:]))
            self.facts: ArmFacts = self.arm.facts()
        except BaseException:
            self.arm.close()
            raise
        self.setup_s = time.perf_counter() - begun
        self.arm.begins_until_s = self.started_s + self.budget_s - self.setup_s

    # -- time ------------------------------------------------------------------------------

    @property
    def spent_s(self) -> float:
        """Seconds of the budget that are gone."""
        return time.perf_counter() - self.started_s

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        return max(0.0, self.budget_s - self.spent_s)

    @property
    def least_s(self) -> float:
        """What the shortest trial takes: below, none is begun."""
        return self._least_s(1)

    def _least_s(self, chunk: int) -> float:
        steps = _MODE_STEPS + PARITY_STEPS + LOOKS[0] * max(_BLOCK_STEPS, 4 * (chunk + 1))
        return max(LEAST_S, steps * self.step_s)

    def stretch(self, candidate: Candidate) -> int:
        """Steps of its shortest chunk: more than one where it makes something rarer."""
        how = events.occasions(self, candidate.changes)
        if how is not None:
            return how.steps
        return math.lcm(*_occasions(self._periods(self.facts), candidate.changes))

    def period(self, change: str) -> int | None:
        """Steps between two of what it makes rarer; the whole observed run has seen more of them
        than the process."""
        return self.periods.get(change) or self.facts.extra.get("periods", {}).get(change)

    def _periods(self, facts: ArmFacts) -> Mapping[str, int]:
        """What the process has seen itself comes first."""
        return {**self.periods, **facts.extra.get("periods", {})}

    def needs_s(self, candidate: Candidate) -> float:
        """What the shortest trial of this takes, with the process that compares its losses."""
        if self.gone:
            return math.inf
        how = events.occasions(self, candidate.changes)
        if how is not None:
            return events.needs_s(self, how)
        epochs = None if candidate.experiment.restart else starts.plan_for(self, candidate.changes)
        if epochs is not None:
            return self.least_s + starts.needs_s(epochs)
        alone = candidate.experiment.restart or not self._compares(candidate)
        return self._least_s(self.stretch(candidate)) + (0.0 if alone else self._losses_s)

    def is_long(self, candidate: Candidate, count: int) -> bool:
        """Whether it makes something rarer and would take more than its share of the time."""
        return self.stretch(candidate) > 1 and self.needs_s(candidate) > self.left_s / count

    def budget_for(self, candidate: Candidate, count: int) -> float:
        """A budget of which there is enough left for this, the last one of so many.

        Each of the others takes its share of what is left, and so does all of them together.
        """
        shares = (count + 1) / 2 if count > 1 else 1.0
        return (self.setup_s + shares * self.needs_s(candidate)) / (1 - _CONTROL_SHARE)

    @property
    def _losses_s(self) -> float:
        """What the first losses of another training take, where that is a process of its own."""
        return self.setup_s if self.facts.extra.get("losses_by_process") else 0.0

    def _compares(self, candidate: Candidate) -> bool:
        return not candidate.experiment.ceiling and self._not_comparable(candidate) is None

    def _not_comparable(self, candidate: Candidate) -> str | None:
        for name, why in _NOT_COMPARABLE.items():
            if set(candidate.changes) & set(self.facts.extra.get(name, ())):
                return f"not comparable: {why}"
        return None

    def tell(self, label: str) -> None:
        """Shows what is being tried, on a bar that counts the budget down."""
        self._label = label
        self._tick()

    def _tick(self) -> None:
        """The bar goes on while an answer is waited for."""
        spent_s = min(self.budget_s, self.spent_s)
        self.progress(f"verify: {self._label}", spent_s, self.budget_s)

    # -- machine ---------------------------------------------------------------------------

    def foreign_share(self) -> float | None:
        """What other programs have used of all cores since the trials began."""
        return self._fitness.foreign_share()

    def watched(self, steps: Steps) -> Steps:
        """The same steps, of which it is noted how long they wait for a core."""
        return Watched(steps, (self.waiting, self.waited))

    def unfit(self) -> str | None:
        """Why nothing that was measured here can be believed; None: it can."""
        if self.control is not None and self.control.outcome != "inconclusive":
            assert self.control.speedup is not None
            return (
                "the machine is unfit: the same training, measured twice in turns, differed by "
                f"{abs(100 * (self.control.speedup - 1)):.1f} %"
            )
        return None

    # -- trials ----------------------------------------------------------------------------

    def measure_control(self) -> Trial:
        """Nothing changed, measured like a change: how far equal trainings differ here."""
        decision = Decision(Claim(common=ONE_PROCESS))
        self.arm.add_mode(CONTROL, {})
        self.arm.warm(1, CONTROL)
        allotted = _CONTROL_SHARE * self.budget_s
        self._blocks("control, nothing changed", CONTROL, decision, allotted, most=CONTROL_PAIRS)
        outcome = "inconclusive" if decision.verdict is None else decision.verdict
        self.control = told(decision, outcome, None)
        return self.control

    def attempt(self, candidate: Candidate, allotted_s: float) -> Trial:
        """One trial, whatever becomes of it."""
        begun, self.waiting = time.perf_counter(), Waiting()
        self.others.begin()
        try:
            if candidate.experiment.restart:
                why = room.not_for_pair(self.facts)
                trial = why or restarts.attempt(self, candidate, allotted_s)
            elif events.occasions(self, candidate.changes) is not None:
                trial = events.attempt(self, candidate, allotted_s)
            else:
                trial = self.in_process(candidate, allotted_s)
        except PerfdoctorError as error:
            trial = self._failed(candidate, error)
            self._recover(error)
        except KeyboardInterrupt:
            if self.interrupted is not None:
                self.interrupted = _of(candidate, self.interrupted, begun)
            raise
        return _of(candidate, trial, begun)

    def _failed(self, candidate: Candidate, error: PerfdoctorError) -> Trial:
        if error.slug == NO_TIME:
            return Trial(outcome="inconclusive", reason=str(error))
        alone = not candidate.experiment.restart
        return room.failed(error, own=alone and self.arm.trying == MODE)

    def _recover(self, error: PerfdoctorError) -> None:
        if error.slug == NO_TIME:
            self.gone = True
        elif error.slug == "arm-ended" or not self.arm.alive or not self._forgets():
            self._replace()

    def _forgets(self) -> bool:
        """Whether the process can be used without the mode of the trial that failed."""
        try:
            for mode in (MODE, starts.USUAL):
                self.arm.forget(mode)
        except PerfdoctorError:
            return False
        return True

    def _replace(self) -> None:
        self.arm.close()
        self.gone = self.left_s < self.setup_s + self.least_s
        if not self.gone:
            self._begin()

    def in_process(self, candidate: Candidate, allotted_s: float) -> Trial:
        """Blocks with and without the change, in the process that is there."""
        self.tell(named(candidate))
        arm = self.arm
        if (why := room.not_for_batch(self.facts, candidate.changes)) is not None:
            return why
        if starts.unknown(self, candidate.changes):
            return Trial(outcome="not_testable", reason=starts.UNKNOWN)
        epochs, changes = starts.plan_for(self, candidate.changes), candidate.changes
        claim = Claim(predicted_low=candidate.predicted_low, common=ONE_PROCESS)
        before = arm.facts()  # what was tried until now may have raised the peak
        arm.add_mode(MODE, changes if epochs is None else epochs.changes(changes))
        begun = time.perf_counter()
        warm = arm.warm(_MODE_STEPS, MODE)
        if epochs is None:
            epochs = starts.plan_for(self, changes, starts.first_s(warm))
            if epochs is not None:  # how long it takes to begin an epoch is seen only now
                arm.forget(MODE)
                arm.add_mode(MODE, epochs.changes(changes))
                warm = arm.warm(_MODE_STEPS, MODE)
        after = arm.facts(MODE)
        same = None if candidate.experiment.ceiling else self._parity(candidate)
        decision = Decision(claim)
        try:
            if epochs is not None:
                epochs = starts.ready(epochs, self, MODE, warm)
            spent = time.perf_counter() - begun
            allotted_s = max(1.0, allotted_s - spent)
            slower, label = float(np.median(warm[-2:])) / self.step_s, named(candidate)
            self._blocks(label, MODE, decision, allotted_s, LOOKS[0], slower, epochs)
            points = self._curve(candidate)
        except KeyboardInterrupt:
            self.interrupted = cut_short(decision, same, self)
            raise
        trial = replace(
            concluded(decision, same, self),
            peak_bytes_before=before.peak_bytes,
            peak_bytes_after=after.peak_bytes,
            curve=points,
        )
        lacking = None if epochs is None else starts.too_few(epochs, self, decision)
        if lacking is not None and self.unfit() is None:
            trial = replace(trial, reason=lacking)
        if not self.gone:
            self._forgets()
        return self._payback(trial, warm, candidate)

    def _curve(self, candidate: Candidate) -> tuple[CurvePoint, ...]:
        """Of batch sizes; whatever becomes of it, the trial before it counts."""
        if "batch_size" not in candidate.changes or self.gone:
            return ()
        try:
            return curve.measured(self, candidate)
        except PerfdoctorError as error:
            self._recover(error)
            size = int(candidate.changes["batch_size"])
            return (CurvePoint(batch_size=size, error=f"further sizes were not measured: {error}"),)

    def _blocks(
        self,
        label: str,
        mode: str,
        decision: Decision,
        allotted_s: float,
        least: int = 0,
        slower: float = 1.0,
        epochs: starts.EpochPlan | None = None,
        most: int = LOOKS[-1],
    ) -> None:
        """Time is allotted for `least` blocks in any case, as far as there is any left.

        `slower`: how much longer steps of the mode seem to take. `epochs`: what is compared in the
        place of single steps.
        """
        usual = None if epochs is None else starts.USUAL
        old, new = self.watched(InMode(self.arm, usual)), self.watched(InMode(self.arm, mode))
        both = 1 + min(_MOST_SLOWER, max(1.0, slower))  # after two steps that is not sure
        if epochs is None:
            chunks = self.chunks(mode, _FILLED * min(allotted_s, self.left_s) / most)
            block_s = 2 * chunks.rounds * (chunks.steps + 1) * both * self.step_s
        else:
            chunks, block_s = epochs, epochs.pair_s * both / 2
        deadline = time.perf_counter() + min(max(allotted_s, least * block_s), self.left_s)
        try:
            by_blocks(
                old, new, chunks, decision, deadline, lambda: self.tell(label), most,
                end_s=self.started_s + self.budget_s, block_s=block_s,
            )  # fmt: skip
        except PerfdoctorError as error:
            if error.slug != NO_TIME:
                raise
            self.gone = True  # what was measured until then is kept

    def chunks(self, mode: str, block_s: float) -> ChunkPlan:
        """Chunks that suit both sides."""
        mine, other = self.facts, self.arm.facts(mode)
        turns = [int(facts.extra.get("turn", 1)) for facts in (mine, other)]
        turn = math.lcm(*turns, *_occasions(self._periods(other), other.configuration))
        queue = max(int(mine.extra.get("queue", 0)), int(other.extra.get("queue", 0)))
        return chunk_plan(self.step_s, block_s, turn=turn, queue=queue)

    def _parity(self, candidate: Candidate) -> Parity:
        safety, changes = candidate.experiment.safety, candidate.changes
        why, batches = self._not_comparable(candidate), self._batches(candidate)
        if why is not None:
            return of_batches(Parity(why), batches)
        if self.left_s < self._losses_s:  # what came before took longer than was expected
            return of_batches(Parity(_LOSSES_TOO_LATE), batches)
        found = self._first_losses()
        if found is None:
            return of_batches(Parity(_LOSSES_TOO_LARGE), batches)
        losses, norms = found
        same = parity(self.facts.losses, losses, norms, safety=safety, change=changes)
        if same.label != DIVERGES:
            return of_batches(same, batches)
        if "_repeatable" not in vars(self) and self.left_s < self._losses_s:
            return Parity("not comparable: no time was left to see what they differ by anyway")
        if not self._repeatable:
            return Parity("not comparable: they differ from run to run")
        return same

    def _first_losses(self) -> Any:
        """Those with the change, and the norms; None where there is no memory for them."""
        if not room.for_second(self.facts):
            return None
        try:
            return self.arm.first_losses(PARITY_STEPS, MODE)
        except PerfdoctorError as error:
            if error.slug not in (NO_ROOM, OUT_OF_MEMORY) or not self.arm.alive:
                raise
            return None

    def _batches(self, candidate: Candidate) -> str | None:
        """How the first batches with the change compare, where it is one of how they come."""
        changes = set(candidate.changes)
        if not changes & _SAME_BATCHES or changes & _OTHER_BATCHES:
            return None
        workers = int(candidate.changes.get("num_workers", 1))  # each begins with one of its own
        turn = max(int(self.facts.extra.get("turn", 1)), workers)
        needed_s = _WORKERS_START_S + 2 * _BATCHES * turn * self.step_s
        if needed_s > _BATCHES_SHARE * self.left_s:
            return None
        return self.arm.batches(MODE, _BATCHES)

    @cached_property
    def _repeatable(self) -> bool:
        """Whether the training as it is has the same losses once more."""
        losses, norms = self.arm.first_losses(PARITY_STEPS)
        return parity(self.facts.losses, losses, norms, safety="exact", change={}).acceptable

    def _payback(self, trial: Trial, warm: Any, candidate: Candidate) -> Trial:
        if candidate.changes.get("compile", "off") == "off":
            return trial
        usual = float(np.median(warm[-2:]))
        compile_s = float(np.maximum(0.0, warm - usual).sum())
        saved_s = self.step_s * (1 - 1 / trial.speedup) if trial.speedup else 0.0
        worth = trial.outcome == "verified" and saved_s > 0
        steps = math.ceil(compile_s / saved_s) if worth else None
        return replace(trial, compile_s=compile_s, pays_back_steps=steps)


def _of(candidate: Candidate, trial: Trial, begun: float) -> Trial:
    return replace(
        trial,
        experiment=candidate.experiment.name,
        change=dict(candidate.changes),
        seconds=time.perf_counter() - begun,
    )


def named(candidate: Candidate) -> str:
    """How it is called while it is tried."""
    name = candidate.experiment.name
    return name if candidate.label == name else f"{candidate.label} {name}"


def _occasions(periods: Mapping[str, int], changes: Mapping[str, Any]) -> list[int]:
    """Steps between two of what the change makes rarer: a chunk with none of them shows nothing.

    Of what becomes very rare there may be none in a chunk with the change; that is less than
    1 / `_MOST_TIMES` of its time too good.
    """
    return [
        period * min(_MOST_TIMES, max(1, int(changes[name])))
        for name, period in periods.items()
        if name in changes
    ]


def memory_full(trial: Trial, total_bytes: int | None) -> bool:
    """Whether the change leaves next to no memory."""
    peak = trial.peak_bytes_after
    return bool(peak and total_bytes and peak > _FULL_SHARE * total_bytes)
