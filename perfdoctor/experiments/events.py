"""Changes that make something rarer which comes rarely: its occasions are compared.

Whole periods with and without the change would take thousands of steps. An occasion that is made is
compared with one that is left out, each with the steps beside it, and what it costs is spread over
the steps from one to the next. What comes at the end of an epoch comes sooner in shorter epochs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from perfdoctor.collect.arm import NO_TIME, Chunk
from perfdoctor.collect.lock_step import InMode
from perfdoctor.errors import PerfdoctorError
from perfdoctor.experiments.outcomes import concluded, cut_short
from perfdoctor.experiments.parity import SEMANTICS, Parity
from perfdoctor.experiments.plan import Candidate, named
from perfdoctor.experiments.turns import Decision
from perfdoctor.record import Bools
from perfdoctor.report import Trial
from perfdoctor.rules.wording import duration, grouped
from perfdoctor.sequential import LOOKS, ONE_PROCESS, Claim

if TYPE_CHECKING:
    from perfdoctor.experiments.trials import Laboratory

#: Changes whose occasions can be left out one by one.
KEYS = (
    "validate_every_times",
    "checkpoint_every_times",
    "log_every_times",
    "figures_every_times",
)
#: What comes more often is measured as a whole: there are too few steps beside it. Where no workers
#: prepare batches meanwhile, those that belong to it are known, and so many beside them do.
_LEAST_PERIOD, _LEAST_BESIDE = 8, 2
#: Batches of a short epoch, and more than so many epochs from one occasion to the next are not
#: taken for epochs at all. [own]
_SHORT_EPOCH, _MOST_EPOCHS = 24, 5
#: So far may a period be from whole epochs, as a share of one.
_WHOLE = 0.02
#: Stretches until what should come is not expected any more.
_TRIES = 3
#: How long is looked for something of which it is not known how often it comes: at most this part
#: of the time, in stretches of a second.
_SEARCHED, _STRETCH_S = 0.4, 1.0
#: An occasion shows in the steps after it too: copies to a device that nobody waited for.
_STEPS_AFTER = 2
_MADE, _LEFT = "made", "left out"


@dataclass(frozen=True)
class Occasions:
    """How one kind is measured.

    Attributes:
        key: the change. factor: how many times as rarely. steps: of a stretch that has one.
        period: steps from one to the next; None: not known. epoch_steps: batches of an epoch
            meanwhile; None: as many as it has.
    """

    key: str
    factor: int
    steps: int
    period: int | None = None
    epoch_steps: int | None = None

    def changes(self, every: int) -> dict[str, Any]:
        """Each of them, or none (0)."""
        short = {} if self.epoch_steps is None else {"epoch_steps": self.epoch_steps}
        return {self.key: every, **short}


def occasions(laboratory: Laboratory, changes: Mapping[str, Any]) -> Occasions | None:
    """How this change is measured by occasions; None: it is not."""
    key = next((name for name in KEYS if name in changes), None)
    if key is None or len(changes) > 1:
        return None
    period = laboratory.period(key)
    if period is not None and _is_often(period, _queue(laboratory)):
        return None
    factor = max(1, int(changes[key]))
    steps = math.ceil(_STRETCH_S / max(1e-6, laboratory.step_s)) if period is None else period
    usual = Occasions(key, factor, _stretch(steps), period)
    epochs = _epochs(period, laboratory.facts.extra.get("steps_per_epoch"))
    if epochs is None or steps <= 2 * epochs * _SHORT_EPOCH:
        return usual
    turn = int(laboratory.facts.extra.get("turn", 1))
    batches = turn * math.ceil(_SHORT_EPOCH / turn)
    return replace(usual, steps=epochs * batches, epoch_steps=batches)


def _is_often(period: int, queue: int) -> bool:
    """Whether it comes so often that there are too few steps beside it."""
    return period < min(_LEAST_PERIOD, 1 + _STEPS_AFTER + queue + _LEAST_BESIDE)


def _queue(laboratory: Laboratory) -> int:
    """Batches that a loader's workers have ready after it: they go on meanwhile."""
    used = laboratory.facts.configuration
    return int(used.get("num_workers") or 0) * int(used.get("prefetch_factor") or 2)


def _stretch(period: int) -> int:
    """Whole periods that are long enough."""
    return period * math.ceil(_LEAST_PERIOD / period)


def _epochs(period: int | None, epoch: int | None) -> int | None:
    """Epochs from one occasion to the next; None where it does not come at their ends."""
    if period is None or not epoch:
        return None
    epochs = round(period / epoch)
    close = abs(period / epoch - epochs) <= _WHOLE
    return epochs if close and 1 <= epochs <= _MOST_EPOCHS else None


def needs_s(laboratory: Laboratory, how: Occasions) -> float:
    """What the fewest pairs take, and the search for the first occasion."""
    return (LOOKS[0] + 1) * _pair_s(laboratory, how)


def too_rare(steps: int, needed_s: float, budget_s: float) -> str:
    """Why no trial fits into a budget, and which one it would fit into."""
    return (
        f"what it makes rarer shows in stretches of {grouped(steps)} steps, and the fewest take "
        f"{duration(needed_s)}: --budget {math.ceil(budget_s)}s"
    )


def _pair_s(laboratory: Laboratory, how: Occasions) -> float:
    return 2 * (how.steps + 1) * laboratory.step_s + laboratory.costs.get(how.key, 0.0)


def attempt(laboratory: Laboratory, candidate: Candidate, allotted_s: float) -> Trial | None:
    """Pairs of occasions until it is decided or the time is up; None: it comes too often."""
    laboratory.tell(named(candidate))
    how = occasions(laboratory, candidate.changes)
    assert how is not None
    end = time.perf_counter() + min(laboratory.left_s, max(allotted_s, needs_s(laboratory, how)))
    claim = Claim(predicted_low=candidate.predicted_low, common=ONE_PROCESS)
    pairs = _Pairs(laboratory, how, end, Decision(claim))
    another = candidate.experiment.safety == "semantics"
    same = Parity(SEMANTICS) if another else None
    try:
        missing = pairs.search() or pairs.compare(named(candidate))
    except KeyboardInterrupt:  # its process is busy, and is ended without a word
        laboratory.interrupted = cut_short(pairs.decision, same, laboratory)
        raise
    except PerfdoctorError:
        pairs.end()
        raise
    pairs.end()
    if pairs.often:
        return None
    if missing is not None:
        return Trial(outcome="not_testable", reason=missing)
    trial = concluded(pairs.decision, same, laboratory)
    return replace(trial, reason=trial.reason or pairs.told())


class _Pairs:
    """Occasions that are made and occasions that are left out, in turns, in one process."""

    def __init__(
        self, laboratory: Laboratory, how: Occasions, end: float, decision: Decision
    ) -> None:
        self._laboratory, self._arm, self.decision = laboratory, laboratory.arm, decision
        self._end, self._how = end, how
        self._begun = time.perf_counter()
        self._steps = 0
        self._longest_s = _pair_s(laboratory, how)
        self._saved_s: list[float] = []

    # -- finding the first one -----------------------------------------------------------------

    def search(self) -> str | None:
        """Lets it come for the first time. None; or why it cannot be measured.

        Where it does not come at the end of short epochs, it comes by steps.
        """
        self._switch(self._how)
        if self._how.epoch_steps is not None and not self._comes(1, _TRIES):
            period = self._how.period or self._how.steps
            self.end()
            self._how = replace(self._how, steps=period, epoch_steps=None)
            self._longest_s = _pair_s(self._laboratory, self._how)
            if time.perf_counter() + needs_s(self._laboratory, self._how) > self._end:
                return self._too_rare()
            self._switch(self._how)
        if self._how.epoch_steps is not None or self._comes(*self._wanted()):
            return self._learn()
        return f"it came less than {_times(self._wanted()[0])} in {grouped(self._steps)} steps"

    def _wanted(self) -> tuple[int, float]:
        """Two of them tell how often it comes."""
        return (1, _TRIES) if self._how.period is not None else (2, math.inf)

    def _comes(self, times: int, tries: float) -> bool:
        seen, made = 0, 0
        while seen < times and made < tries and self._may_look(made):
            seen += len(self._chunk(made=True).occasions.get(self._how.key, ()))
            made += 1
        return seen >= times

    def _may_look(self, made: int) -> bool:
        spent, left = time.perf_counter() - self._begun, self._end - self._begun
        return made == 0 or spent < _SEARCHED * left

    def _learn(self) -> str | None:
        if self._how.period is not None:
            return None
        period = self._laboratory.arm.facts().extra.get("periods", {}).get(self._how.key)
        if period is None:
            return "how often it comes is not known"
        self._how = replace(self._how, period=period, steps=_stretch(period))
        self._longest_s = _pair_s(self._laboratory, self._how)
        return None

    @property
    def often(self) -> bool:
        """Whether it was seen to come too often for that."""
        period = self._how.period
        return period is not None and _is_often(period, _queue(self._laboratory))

    def _too_rare(self) -> str:
        needed_s = needs_s(self._laboratory, self._how)
        return too_rare(self._how.steps, needed_s, self._laboratory.budget_s + needed_s)

    # -- comparing -----------------------------------------------------------------------------

    def compare(self, label: str) -> str | None:
        """Pairs until it is decided or the time is up. None; or why there is none."""
        try:
            return self._compared(label)
        except PerfdoctorError as error:
            if error.slug != NO_TIME or not self.decision.differences:
                raise
            self._laboratory.gone = True  # what was measured until then is kept
            return None

    def _compared(self, label: str) -> str | None:
        while not (self.often or self.decision.over) and self._has_time():
            begun = time.perf_counter()
            first = not len(self.decision.differences) % 2
            sides = {made: self._stretch(made=made) for made in (first, not first)}
            made, left = sides[True], sides[False]
            if made is None or left is None:
                lacking = "made" if made is None else "left out"
                return f"none of it was {lacking} in {_TRIES} times as many steps as it comes in"
            self._add(made, left)
            self._longest_s = max(self._longest_s, time.perf_counter() - begun)
            self._laboratory.tell(label)
        return None

    def _has_time(self) -> bool:
        return time.perf_counter() + self._longest_s <= self._end

    def _stretch(self, *, made: bool) -> Cost | None:
        for _ in range(_TRIES):
            found = cost(self._chunk(made=made), self._how.key, self._after(), made=made)
            if found is not None:
                return found
        return None

    def _after(self) -> int:
        return min(_STEPS_AFTER + _queue(self._laboratory), self._how.steps // 3)

    def _add(self, made: Cost, left: Cost) -> None:
        assert self._how.period is not None
        plain_s = self._how.period * 0.5 * (made.step_s + left.step_s)
        saved_s = max(made.more_s - left.more_s, -plain_s / 2)  # below is nothing but noise
        self._saved_s.append(saved_s)
        rarer_s = plain_s + saved_s / self._how.factor
        self.decision.add(math.log((plain_s + saved_s) / rarer_s))

    def told(self) -> str | None:
        """What the gain was computed from."""
        if not self._saved_s:
            return None
        once_s = max(0.0, float(np.median(self._saved_s)))
        period = grouped(self._how.period or 0)
        return f"each time takes {duration(once_s)}, once in {period} steps"

    # -- the process ---------------------------------------------------------------------------

    def _switch(self, how: Occasions) -> None:
        self._arm.add_mode(_MADE, how.changes(1))
        self._arm.add_mode(_LEFT, how.changes(0))

    def _chunk(self, *, made: bool) -> Chunk:
        self._steps += self._how.steps
        steps = InMode(self._arm, _MADE if made else _LEFT)
        return self._laboratory.watched(steps).chunk(self._how.steps)

    def end(self) -> None:
        """Its modes are not needed any more."""
        if not self._arm.alive:
            return
        for mode in (_MADE, _LEFT):
            try:
                self._arm.forget(mode)
            except PerfdoctorError:
                return


@dataclass(frozen=True)
class Cost:
    """What an occasion takes more than as many steps beside it, each of which takes `step_s`."""

    more_s: float
    step_s: float


def cost(chunk: Chunk, key: str, after: int, *, made: bool) -> Cost | None:
    """The mean over the occasions of a chunk that were made, or left out; None: there is none.

    Args:
        after: steps after one that belong to it.
    """
    size = chunk.step_s.size
    every = sorted(i for i, _ in chunk.occasions.get(key, ()) if 0 <= i < size)
    wanted = {i for i, was in chunk.occasions.get(key, ()) if was == made}
    beside = _beside(chunk, key, after)
    if not wanted & set(every) or not beside.any():
        return None
    step_s, more = float(chunk.step_s[beside].mean()), []  # workers hand over batches in bursts
    for i, following in zip(every, [*every[1:], size], strict=True):
        if i in wanted:
            spent = chunk.step_s[i : min(i + 1 + after, following)]
            more.append(float(spent.sum()) - spent.size * step_s)
    return Cost(float(np.mean(more)), step_s)


def _beside(chunk: Chunk, key: str, after: int) -> Bools:
    """The steps in which neither it nor anything else that is rare happens, and no epoch begins.

    What else comes so often that it takes most of the steps stays: there is as much of it on both
    sides.
    """
    found, most = ~chunk.starts, chunk.step_s.size / (2 * (1 + after))
    for name, seen in chunk.occasions.items():
        for i, _ in seen if name == key or len(seen) <= most else ():
            found[max(0, i) : max(0, i + 1 + after)] = False
    return found


def _times(number: int) -> str:
    return "once" if number == 1 else "twice"
