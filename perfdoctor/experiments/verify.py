"""From a diagnosed report to a verified one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from perfdoctor.collect.arm import ArmSpec
from perfdoctor.collect.options import Progress
from perfdoctor.errors import PerfdoctorError
from perfdoctor.experiments import Experiment, Situation, applying
from perfdoctor.experiments.plan import Candidate, Plan, plan, situation_of
from perfdoctor.experiments.trials import Laboratory, memory_full, named
from perfdoctor.report import Recommendation, Report, Trial, Verification
from perfdoctor.rules.ranking import numbered

Tell = Callable[[str], None]


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


@dataclass
class _Findings:
    """What is known so far; all of it is kept when the user interrupts."""

    trials: dict[str, Trial] = field(default_factory=dict)
    together: Trial | None = None
    product: float | None = None
    control: Trial | None = None
    foreign: float | None = None
    spent_s: float = 0.0
    interrupted: bool = False
    problem: str | None = None


def verify(
    report: Report,
    spec: ArmSpec,
    budget_s: float,
    progress: Progress,
    tell: Tell,
    adjust: Callable[[Trial], Trial] = lambda trial: trial,
) -> Report:
    """The report with every recommendation tried, as far as the budget allows.

    Ctrl-C ends the trials and keeps what is known. Nothing of the user's is changed: trials run
    in processes of their own, which end with this.

    Args:
        tell: shows a line before anything is tried.
        adjust: from what was measured to the whole training.
    """
    found = _Findings()
    work = Plan()
    laboratory = Laboratory(spec, budget_s, progress)
    try:
        with laboratory:
            work = plan(report, situation_of(report, laboratory.facts.extra))
            found.trials |= work.not_testable
            for line in announcement(work, budget_s):
                tell(line)
            if work.candidates and laboratory.left_s > laboratory.least_s:
                found.control = laboratory.measure_control()
            if work.candidates:
                _try_all(laboratory, work, found)
                _try_together(laboratory, work, found)
            found.foreign = laboratory.foreign_share()
    except KeyboardInterrupt:
        found.interrupted = True
        _keep_begun(laboratory, work, found)
    except PerfdoctorError as error:
        found.problem = f"the trials ended early: {error}"
    found.spent_s = laboratory.spent_s
    found.trials = {label: adjust(trial) for label, trial in found.trials.items()}
    found.together = found.together and adjust(found.together)
    return _reported(report, work, found, budget_s)


def announcement(work: Plan, budget_s: float) -> list[str]:
    """What will be done, before it is."""
    if not work.candidates:
        return ["verify: none of the advice can be tried here"]
    names = [named(one) for one in work.candidates]
    return [
        f"verify: trying {len(names)} changes for up to {budget_s:.0f} s, in this order: "
        + "; ".join(names),
        "verify: the training runs in processes of its own, with and without each change in "
        "turns; no file of yours is changed; Ctrl-C keeps what is known",
    ]


def _try_all(laboratory: Laboratory, work: Plan, found: _Findings) -> None:
    waiting = sorted(work.candidates, key=lambda one: one.experiment.restart)
    for position, candidate in enumerate(waiting):
        shares = len(waiting) - position + (1 if len(waiting) > 1 else 0)  # one for all together
        allotted = laboratory.left_s / shares
        if laboratory.left_s < laboratory.needs_s(candidate):
            trial = _no_time(candidate, laboratory, len(waiting))
        else:
            trial = laboratory.attempt(candidate, allotted)
        found.trials[candidate.label] = _judged(candidate, trial, laboratory)


def _no_time(candidate: Candidate, laboratory: Laboratory, count: int) -> Trial:
    reason = "the budget was spent before its turn"
    least_s = laboratory.needs_s(candidate)
    if laboratory.gone:
        reason = "the process had ended, and no time was left for another one"
    elif laboratory.budget_s - laboratory.setup_s < (count + 1) * least_s:
        needed = math.ceil(2 * (count + 1) * least_s)
        slow = f"steps of {laboratory.step_s:.2g} s are too slow"
        if least_s > 2 * laboratory.least_s:
            slow = f"a new process, which takes {laboratory.setup_s:.0f} s, is too slow"
        reason = f"{slow} for what is left of the budget: --budget {needed}s"
    return Trial(outcome="inconclusive", reason=reason, experiment=candidate.experiment.name)


def _judged(candidate: Candidate, trial: Trial, laboratory: Laboratory) -> Trial:
    """A ceiling verifies nothing by itself; a change that fills the memory is not advised."""
    if trial.outcome == "verified" and memory_full(trial, laboratory.facts.total_bytes):
        reason = "faster, but next to no memory is left"
        return replace(trial, outcome="refuted", reason=reason)
    if not candidate.experiment.ceiling or trial.speedup is None:
        return trial
    if trial.outcome == "refuted":
        return replace(trial, reason="not even the ceiling of this change brings anything")
    if trial.outcome == "verified" and candidate.predicted is not None:
        reason = f"only its ceiling can be tried: at most {trial.speedup:.2f}x"
        return replace(trial, outcome="not_testable", reason=reason)
    return trial


def _try_together(laboratory: Laboratory, work: Plan, found: _Findings) -> None:
    chosen = [
        one
        for one in work.candidates
        if found.trials[one.label].outcome == "verified"
        and not one.experiment.restart
        and not one.experiment.ceiling
        and one.experiment.safety != "semantics"
    ]
    changes = merged(chosen)
    if len(chosen) < 2:
        return
    label = " + ".join(one.label for one in chosen)
    reordered = any(one.experiment.safety == "random" for one in chosen)
    experiment = _TogetherReordered() if reordered else _Together()
    everything = Candidate(label=label, experiment=experiment, changes=changes)
    if laboratory.left_s < laboratory.needs_s(everything):
        return
    found.product = math.prod(found.trials[one.label].speedup or 1.0 for one in chosen)
    found.together = laboratory.attempt(everything, laboratory.left_s)


def merged(chosen: Sequence[Candidate]) -> dict[str, Any]:
    """All their changes; of two values for one setting the more promising one's."""
    changes: dict[str, Any] = {}
    for one in chosen:
        for key, value in one.changes.items():
            changes.setdefault(key, value)
    return changes


def _keep_begun(laboratory: Laboratory, work: Plan, found: _Findings) -> None:
    missing = [one.label for one in work.candidates if one.label not in found.trials]
    if missing and laboratory.interrupted is not None:
        found.trials[missing[0]] = laboratory.interrupted
    elif laboratory.interrupted is not None:
        found.together = laboratory.interrupted
    for label in missing:
        found.trials.setdefault(label, Trial(outcome="inconclusive", reason="interrupted"))


def _reported(report: Report, work: Plan, found: _Findings, budget_s: float) -> Report:
    tried = tuple(
        replace(one, verified=found.trials.get(one.rule)) for one in report.recommendations
    )
    ranked = numbered(tried)
    good = [one for one in ranked if one.verified and one.verified.outcome == "verified"]
    changes: dict[str, Any] = {}
    for one in good:
        for key, value in (one.verified.change if one.verified else {}).items():
            changes.setdefault(key, value)
    ceilings = {
        one.label: found.trials[one.label]
        for one in work.candidates
        if one.label == one.experiment.name and one.label in found.trials
    }
    verification = Verification(
        budget_s=budget_s,
        spent_s=found.spent_s,
        control=found.control,
        foreign_cpu_share=found.foreign,
        together=found.together,
        alone_product=found.product,
        ceilings=ceilings,
        patch=applying.patch(good),
        environment=applying.environment(changes),
        profile=applying.profile(changes),
        interrupted=found.interrupted,
        **scores(tried),
    )
    warnings = report.warnings + ((found.problem,) if found.problem else ())
    return replace(report, recommendations=ranked, verification=verification, warnings=warnings)


def scores(tried: Sequence[Recommendation]) -> Mapping[str, Any]:
    """How far the predictions were off, over the trials that tell a gain."""
    errors, within = [], 0
    for one in tried:
        guess, trial = one.predicted, one.verified
        if guess is None or guess.is_bound or trial is None or trial.speedup is None:
            continue
        if trial.outcome not in ("verified", "refuted"):
            continue
        errors.append(abs(math.log(trial.speedup / guess.speedup)))
        within += guess.low <= trial.speedup <= guess.high
    error = float(np.median(errors)) if errors else None
    return {"scored": len(errors), "within_interval": within, "error": error}
