"""All trials of a report: a control first, then the most promising, at the end all together."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from perfdoctor.collect import belongings
from perfdoctor.collect.arm import NO_TIME, Arm, ArmFacts, ArmSpec
from perfdoctor.collect.fitness import Fitness, Waiting
from perfdoctor.collect.lock_step import Steps, Watched
from perfdoctor.collect.options import Progress
from perfdoctor.errors import PerfdoctorError
from perfdoctor.experiments import events, first_losses, in_process, restarts, room, starts
from perfdoctor.experiments.outcomes import told
from perfdoctor.experiments.plan import Candidate
from perfdoctor.experiments.turns import Decision
from perfdoctor.report import Trial
from perfdoctor.sequential import LOOKS, ONE_PROCESS, Claim

#: Steps before anything is compared: caches fill, kernels are chosen (benchmarks of the gate's
#: protocol used as many).
WARM_STEPS = 20
#: A slow training is warm after fewer: so much of the budget and no more.
_WARM_SHARE = 0.08
#: Pairs of the control, and the part of the budget it may take.
CONTROL_PAIRS = 7
_CONTROL_SHARE = 0.15
#: More of the device's memory than this leaves no room for a longer batch or fragmentation.
_FULL_SHARE = 0.95

#: Steps of the shortest block: four chunks of one, and one before each that is not counted.
_BLOCK_STEPS = 8
LEAST_S = 3.0

#: An answer may take so long, and longer while there is time left: compiling does. [own]
_PATIENCE_S = 60.0

CONTROL = "control"


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
        repeatable: whether the first losses are the same once more; None: nobody has looked.
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
    repeatable: bool | None = None
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
        steps = (
            in_process.MODE_STEPS
            + first_losses.PARITY_STEPS
            + LOOKS[0] * max(_BLOCK_STEPS, 4 * (chunk + 1))
        )
        return max(LEAST_S, steps * self.step_s)

    def stretch(self, candidate: Candidate) -> int:
        """Steps of its shortest chunk: more than one where it makes something rarer."""
        how = events.occasions(self, candidate.changes)
        if how is not None:
            return how.steps
        return in_process.stretch(self, candidate.changes)

    def period(self, change: str) -> int | None:
        """Steps between two of what it makes rarer; the whole observed run has seen more of them
        than the process."""
        return self.periods.get(change) or self.facts.extra.get("periods", {}).get(change)

    def periods_in(self, facts: ArmFacts) -> Mapping[str, int]:
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
        alone = candidate.experiment.restart
        losses_s = 0.0 if alone else first_losses.needs_s(self, candidate)
        return self._least_s(self.stretch(candidate)) + losses_s

    def is_long(self, candidate: Candidate, count: int) -> bool:
        """Whether it makes something rarer and would take more than its share of the time."""
        return self.stretch(candidate) > 1 and self.needs_s(candidate) > self.left_s / count

    def budget_for(self, candidate: Candidate, count: int) -> float:
        """A budget of which there is enough left for this, the last one of so many.

        Each of the others takes its share of what is left, and so does all of them together.
        """
        shares = (count + 1) / 2 if count > 1 else 1.0
        return (self.setup_s + shares * self.needs_s(candidate)) / (1 - _CONTROL_SHARE)

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
        label = "control, nothing changed"
        in_process.compare(self, label, CONTROL, decision, allotted, CONTROL_PAIRS)
        outcome = "inconclusive" if decision.verdict is None else decision.verdict
        self.control = told(decision, outcome, None)
        return self.control

    def attempt(self, candidate: Candidate, allotted_s: float) -> Trial:
        """One trial, whatever becomes of it."""
        begun, self.waiting = time.perf_counter(), Waiting()
        self.others.begin()
        try:
            trial = self._made(candidate, allotted_s)
        except PerfdoctorError as error:
            trial = self._failed(candidate, error)
            self.recover(error)
        except KeyboardInterrupt:
            if self.interrupted is not None:
                self.interrupted = _of(candidate, self.interrupted, begun)
            raise
        return _of(candidate, trial, begun)

    def _made(self, candidate: Candidate, allotted_s: float) -> Trial:
        if candidate.experiment.restart:
            why = room.not_for_pair(self.facts)
            return why or restarts.attempt(self, candidate, allotted_s)
        begun = time.perf_counter()
        trial = None
        if events.occasions(self, candidate.changes) is not None:
            trial = events.attempt(self, candidate, allotted_s)
        spent_s = time.perf_counter() - begun
        return trial or in_process.attempt(self, candidate, max(0.0, allotted_s - spent_s))

    def _failed(self, candidate: Candidate, error: PerfdoctorError) -> Trial:
        if error.slug == NO_TIME:
            return Trial(outcome="inconclusive", reason=str(error))
        alone = not candidate.experiment.restart
        return room.failed(error, own=alone and self.arm.trying == in_process.MODE)

    def recover(self, error: PerfdoctorError) -> None:
        """After a trial that failed: the process can be used again, or there is another one."""
        if error.slug == NO_TIME:
            self.gone = True
        elif error.slug == "arm-ended" or not self.arm.alive or not self.forgets():
            self._replace()

    def forgets(self) -> bool:
        """Whether the process can be used without the mode of the trial that failed."""
        try:
            for mode in (in_process.MODE, starts.USUAL):
                self.arm.forget(mode)
        except PerfdoctorError:
            return False
        return True

    def _replace(self) -> None:
        self.arm.close()
        self.gone = self.left_s < self.setup_s + self.least_s
        if not self.gone:
            self._begin()


def _of(candidate: Candidate, trial: Trial, begun: float) -> Trial:
    return replace(
        trial,
        experiment=candidate.experiment.name,
        change=dict(candidate.changes),
        seconds=time.perf_counter() - begun,
    )


def memory_full(trial: Trial, total_bytes: int | None) -> bool:
    """Whether the change leaves next to no memory."""
    peak = trial.peak_bytes_after
    return bool(peak and total_bytes and peak > _FULL_SHARE * total_bytes)
