"""From a diagnosed report to a verified one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from perfdoctor.collect.arm import ArmSpec
from perfdoctor.collect.options import Progress
from perfdoctor.errors import PerfdoctorError
from perfdoctor.experiments import Experiment, Situation, events, starts
from perfdoctor.experiments.announce import announcement, correction, opening
from perfdoctor.experiments.findings import FAILED, Findings, merged, reported
from perfdoctor.experiments.no_time import SPENT, not_begun, not_started
from perfdoctor.experiments.plan import (
    Candidate,
    Plan,
    costs_of,
    expected_situation,
    is_script,
    periods_of,
    plan,
    situation_of,
)
from perfdoctor.experiments.trials import LEAST_S, Laboratory, memory_full
from perfdoctor.interrupts import kept
from perfdoctor.report import Report, Trial
from perfdoctor.sequential import USEFUL

Tell = Callable[[str], None]
Adjust = Callable[[Trial], Trial]
#: A mode of torch.compile that tries more kernels compiles for as many times as long. [own]
_LONGER = 3.0
#: Part of a change can be left out of a script; what that brings is the least of all.
_ONLY_A_PART = "only a part of it can be left out from outside, and that brings too little to tell"


class _Together(Experiment):
    """Everything that was verified, at once."""

    name = "together"
    keys = ()
    safety = "numerics"

    def changes(self, situation: Situation) -> dict[str, Any]:
        """Set by hand."""
        return {}


class _TogetherReordered(_Together):
    """The same, where a part of it draws other random numbers."""

    safety = "random"


def verify(
    report: Report,
    spec: ArmSpec,
    budget_s: float,
    progress: Progress,
    tell: Tell,
    adjust: Adjust = lambda trial: trial,
    *,
    guarded: bool = True,
) -> Report:
    """The report with every recommendation tried, as far as the budget allows.

    Ctrl-C ends the trials and keeps what is known. Nothing of the user's is changed: trials run
    in processes of their own, which end with this.

    Args:
        tell: shows a line before anything is tried.
        adjust: from what was measured to the whole training.
        guarded: whether the processes can change no file of the user's.
    """
    expected = in_order(plan(report, expected_situation(report)), lambda one, number: False)
    found, work = Findings(), Plan()
    tell(announcement(expected, budget_s))
    found.trials |= expected.not_testable
    found.trials |= not_started(report, expected, budget_s, LEAST_S)
    if _all_told(report, expected, found):
        return reported(report, work, found, budget_s)
    tell(opening(budget_s, guarded=guarded))
    laboratory = Laboratory(
        spec,
        budget_s,
        progress,
        periods=periods_of(report),
        costs=costs_of(report),
        start_s=starts.start_s_of(report),
    )
    try:
        with laboratory, _fitness_noted(laboratory, found):
            work = plan(report, situation_of(report, laboratory.facts.extra))
            work = in_order(work, laboratory.is_long)
            found.trials = dict(work.not_testable)
            other = correction(work, expected)
            if other is not None:
                tell(other)
            if (work.candidates or work.choices) and laboratory.left_s > laboratory.least_s:
                found.control = laboratory.measure_control()
            for attempts in (_try_all, _try_choices, _try_others, _try_together):
                attempts(laboratory, work, found, adjust)
    except KeyboardInterrupt:
        with kept():
            found.interrupted = True
            _keep_begun(laboratory, work, found, adjust)
    except PerfdoctorError as error:
        found.problem = f"the trials ended early: {error}"
    with kept():
        found.spent_s = laboratory.spent_s
        found.waited = laboratory.waited.share
        return reported(report, work, found, budget_s)


def _all_told(report: Report, expected: Plan, found: Findings) -> bool:
    """Whether no process needs to be begun. What a workload allows only that tells."""
    known = is_script(report) or not found.trials
    tried = (*expected.candidates, *expected.choices)
    return known and all(one.label in found.trials for one in tried)


@contextmanager
def _fitness_noted(laboratory: Laboratory, found: Findings) -> Iterator[None]:
    try:
        yield
    finally:
        found.foreign = laboratory.foreign_share()


def in_order(work: Plan, is_long: Callable[[Candidate, int], bool]) -> Plan:
    """The most promising first, but for those that need another process, and after these what
    needs more than an even share of the time."""
    known = work.candidates

    def late(one: Candidate) -> tuple[bool, bool]:
        return is_long(one, len(known)), one.experiment.restart

    return replace(work, candidates=tuple(sorted(known, key=late)))


def _try_all(laboratory: Laboratory, work: Plan, found: Findings, adjust: Adjust) -> None:
    waiting = work.candidates
    for position, candidate in enumerate(waiting):
        shares = len(waiting) - position + (1 if len(waiting) > 1 else 0)  # one for all together
        allotted = laboratory.left_s / shares
        trial = _tried(laboratory, candidate, allotted, adjust, len(waiting))
        found.trials[candidate.label] = trial


def _tried(
    laboratory: Laboratory, candidate: Candidate, allotted_s: float, adjust: Adjust, count: int
) -> Trial:
    """One trial, where there is time for it; `count`: how many there are in all."""
    if laboratory.left_s < laboratory.needs_s(candidate):
        trial = not_begun(candidate, laboratory, count)
    else:
        trial = adjust(laboratory.attempt(candidate, allotted_s))
    return _judged(candidate, trial, laboratory)


def _try_choices(laboratory: Laboratory, work: Plan, found: Findings, adjust: Adjust) -> None:
    """Of each recommendation that failed the next choice, until one of them helps."""
    for position, candidate in enumerate(work.choices):
        before = [candidate.instead_of, *_choices_before(work, candidate)]
        known = [found.trials[label] for label in before if label in found.trials]
        if any(trial.outcome not in FAILED for trial in known):
            continue
        if laboratory.left_s < laboratory.needs_s(candidate):
            continue  # what was advised first has its trial
        allotted = laboratory.left_s / (len(work.choices) - position + 1)
        trial = _tried(laboratory, candidate, allotted, adjust, len(work.choices))
        found.trials[candidate.label] = trial


def _choices_before(work: Plan, candidate: Candidate) -> list[str]:
    same = [one.label for one in work.choices if one.instead_of == candidate.instead_of]
    return same[: same.index(candidate.label)]


def _try_others(laboratory: Laboratory, work: Plan, found: Findings, adjust: Adjust) -> None:
    """Other values of a change that could be tried; the best of all is its trial."""
    for candidate in (*work.candidates, *work.choices):
        first = found.trials.get(candidate.label)
        if first is None or first.speedup is None:
            continue
        trials = [first]
        for changes in candidate.others:
            another = replace(candidate, changes=changes)
            if laboratory.left_s < _longer(first, laboratory.needs_s(another)):
                break
            allotted = laboratory.left_s / 2
            trials.append(_tried(laboratory, another, allotted, adjust, 1))
            found.trials[candidate.label] = _best(trials)


def _longer(first: Trial, needed_s: float) -> float:
    """What another mode takes that compiles for longer, by how long the first one compiled."""
    return needed_s + _LONGER * (first.compile_s or 0.0)


def _best(trials: Sequence[Trial]) -> Trial:
    """The first, or the fastest of the others where that is clearly better; it holds the others.

    The best of several is partly the luckiest: one takes the place of the first only where the
    first was not verified, or where their intervals do not meet.
    """
    first, *others = trials
    good = [one for one in others if one.outcome == "verified" and one.speedup is not None]
    best = max(good, key=lambda one: one.speedup or 0.0, default=first)
    if first.outcome == "verified" and not _apart(first, best):
        best = first
    return replace(best, others=tuple(one for one in trials if one is not best))


def _apart(first: Trial, other: Trial) -> bool:
    return other.low is not None and first.high is not None and other.low > first.high


def _judged(candidate: Candidate, trial: Trial, laboratory: Laboratory) -> Trial:
    """A ceiling verifies nothing by itself; a change that fills the memory is not advised."""
    if trial.outcome == "verified" and memory_full(trial, laboratory.facts.total_bytes):
        reason = "faster, but next to no memory is left"
        return replace(trial, outcome="refuted", reason=reason)
    if candidate.experiment.floor and _of_use(trial).outcome == "refuted":
        return Trial(
            outcome="not_testable",
            reason=_ONLY_A_PART,
            experiment=trial.experiment,
            change=trial.change,
            seconds=trial.seconds,
        )
    if not candidate.experiment.ceiling or trial.speedup is None:
        return _of_use(trial)
    if trial.outcome == "refuted":
        return replace(trial, reason="not even the ceiling of this change brings anything")
    if trial.outcome == "verified" and candidate.predicted is not None:
        reason = "only its ceiling can be tried"
        return replace(trial, outcome="not_testable", reason=reason)
    return trial


def _of_use(trial: Trial) -> Trial:
    """What is clear in the steps may be next to nothing of the whole training."""
    gain = trial.speedup
    if trial.outcome != "verified" or gain is None or math.log(gain) > USEFUL / 2:
        return trial
    least = f"{100 * math.expm1(USEFUL):.0f} %"
    reason = f"the steps get faster, the whole training by less than {least}"
    return replace(trial, outcome="refuted", reason=reason)


def _try_together(laboratory: Laboratory, work: Plan, found: Findings, adjust: Adjust) -> None:
    tried = [one for one in (*work.candidates, *work.choices) if one.label in found.trials]
    chosen = [
        replace(one, changes=found.trials[one.label].change)
        for one in tried
        if found.trials[one.label].outcome == "verified"
        and one.joins
        and events.occasions(laboratory, one.changes) is None
    ]
    changes = merged(one.changes for one in chosen)
    if len(chosen) < 2:
        return
    label = " + ".join(one.label for one in chosen)
    reordered = any(one.experiment.safety == "random" for one in chosen)
    experiment = _TogetherReordered() if reordered else _Together()
    everything = Candidate(label=label, experiment=experiment, changes=changes)
    if laboratory.left_s < laboratory.needs_s(everything):
        found.together = Trial(outcome="inconclusive", reason=SPENT, change=changes)
        return
    found.product = math.prod(found.trials[one.label].speedup or 1.0 for one in chosen)
    found.together = adjust(laboratory.attempt(everything, laboratory.left_s))


def _keep_begun(laboratory: Laboratory, work: Plan, found: Findings, adjust: Adjust) -> None:
    begun = laboratory.interrupted
    missing = [one for one in work.candidates if one.label not in found.trials]
    if missing and begun is not None:
        found.trials[missing[0].label] = _judged(missing[0], adjust(begun), laboratory)
    elif begun is not None and begun.experiment == _Together.name:
        found.together = adjust(begun)
    elif begun is not None:
        unknown = [one for one in work.choices if one.label not in found.trials]
        same = [one for one in unknown if _is_of(begun, one)]
        for one in same[:1]:
            found.trials[one.label] = _judged(one, adjust(begun), laboratory)
    for one in missing:
        found.trials.setdefault(one.label, Trial(outcome="inconclusive", reason="interrupted"))


def _is_of(begun: Trial, candidate: Candidate) -> bool:
    return (begun.experiment, begun.change) == (candidate.experiment.name, candidate.changes)
