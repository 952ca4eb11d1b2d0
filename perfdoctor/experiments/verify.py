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
from perfdoctor.experiments.plan import Candidate, Plan, periods_of, plan, situation_of
from perfdoctor.experiments.trials import Laboratory, memory_full, named
from perfdoctor.report import Recommendation, Report, Together, Trial, Verification
from perfdoctor.rules.ranking import numbered
from perfdoctor.rules.wording import count, duration, grouped
from perfdoctor.sequential import USEFUL

Tell = Callable[[str], None]
Adjust = Callable[[Trial], Trial]
_SPENT = "the budget was spent before its turn"


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
    adjust: Adjust = lambda trial: trial,
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
    laboratory = Laboratory(spec, budget_s, progress, periods=periods_of(report))
    try:
        with laboratory:
            work = plan(report, situation_of(report, laboratory.facts.extra))
            work = in_order(work, laboratory.is_long)
            found.trials |= work.not_testable
            for line in announcement(work, budget_s, guarded=laboratory.guarded):
                tell(line)
            if work.candidates and laboratory.left_s > laboratory.least_s:
                found.control = laboratory.measure_control()
            if work.candidates:
                _try_all(laboratory, work, found, adjust)
                _try_together(laboratory, work, found, adjust)
            found.foreign = laboratory.foreign_share()
    except KeyboardInterrupt:
        found.interrupted = True
        _keep_begun(laboratory, work, found, adjust)
    except PerfdoctorError as error:
        found.problem = f"the trials ended early: {error}"
    found.spent_s = laboratory.spent_s
    return _reported(report, work, found, budget_s)


def in_order(work: Plan, is_long: Callable[[Candidate, int], bool]) -> Plan:
    """The most promising first, but for those that need another process, and after these what
    needs more than an even share of the time."""
    known = work.candidates

    def late(one: Candidate) -> tuple[bool, bool]:
        return is_long(one, len(known)), one.experiment.restart

    return replace(work, candidates=tuple(sorted(known, key=late)))


def announcement(work: Plan, budget_s: float, *, guarded: bool) -> list[str]:
    """What will be done, before it is. `guarded`: files of the user's cannot be changed."""
    if not work.candidates:
        return ["verify: none of the advice can be tried here"]
    names = [named(one) for one in work.candidates]
    files = "no file of yours is changed"
    if not guarded:
        files = "there is no sandbox here, so what your code writes is written"
    return [
        f"verify: trying {count(len(names), 'change')} for up to {budget_s:.0f} s, in this order: "
        + "; ".join(names),
        "verify: the training runs in processes of its own, with and without each change in "
        f"turns; {files}; Ctrl-C keeps what is known",
    ]


def _try_all(laboratory: Laboratory, work: Plan, found: _Findings, adjust: Adjust) -> None:
    waiting = work.candidates
    for position, candidate in enumerate(waiting):
        shares = len(waiting) - position + (1 if len(waiting) > 1 else 0)  # one for all together
        allotted = laboratory.left_s / shares
        if laboratory.left_s < laboratory.needs_s(candidate):
            trial = _no_time(candidate, laboratory, len(waiting))
        else:
            trial = adjust(laboratory.attempt(candidate, allotted))
        found.trials[candidate.label] = _judged(candidate, trial, laboratory)


def _no_time(candidate: Candidate, laboratory: Laboratory, count: int) -> Trial:
    rarely = _too_rare(candidate, laboratory, count)
    if rarely is not None:
        return Trial(outcome="not_testable", reason=rarely, experiment=candidate.experiment.name)
    reason = _SPENT
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


def _too_rare(candidate: Candidate, laboratory: Laboratory, count: int) -> str | None:
    """Why no trial of something that is made rarer fits into such a budget; None: it may."""
    stretch, budget_s = laboratory.stretch(candidate), laboratory.budget_for(candidate, count)
    if stretch == 1 or laboratory.gone or budget_s <= laboratory.budget_s:
        return None
    least_s = duration(laboratory.needs_s(candidate))
    return (
        f"what it makes rarer shows in stretches of {grouped(stretch)} steps, and the fewest take "
        f"{least_s}: --budget {math.ceil(budget_s)}s"
    )


def _judged(candidate: Candidate, trial: Trial, laboratory: Laboratory) -> Trial:
    """A ceiling verifies nothing by itself; a change that fills the memory is not advised."""
    if trial.outcome == "verified" and memory_full(trial, laboratory.facts.total_bytes):
        reason = "faster, but next to no memory is left"
        return replace(trial, outcome="refuted", reason=reason)
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


def _try_together(laboratory: Laboratory, work: Plan, found: _Findings, adjust: Adjust) -> None:
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
        found.together = Trial(outcome="inconclusive", reason=_SPENT, change=changes)
        return
    found.product = math.prod(found.trials[one.label].speedup or 1.0 for one in chosen)
    found.together = adjust(laboratory.attempt(everything, laboratory.left_s))


def merged(chosen: Sequence[Candidate]) -> dict[str, Any]:
    """All their changes; of two values for one setting the more promising one's."""
    changes: dict[str, Any] = {}
    for one in chosen:
        for key, value in one.changes.items():
            changes.setdefault(key, value)
    return changes


def _keep_begun(laboratory: Laboratory, work: Plan, found: _Findings, adjust: Adjust) -> None:
    missing = [one.label for one in work.candidates if one.label not in found.trials]
    if missing and laboratory.interrupted is not None:
        found.trials[missing[0]] = adjust(laboratory.interrupted)
    elif laboratory.interrupted is not None:
        found.together = adjust(laboratory.interrupted)
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
    return replace(
        report,
        recommendations=ranked,
        together=_still(report.together, ranked),
        verification=verification,
        warnings=warnings,
    )


def _still(together: Together | None, ranked: Sequence[Recommendation]) -> Together | None:
    """What is predicted of several at once means nothing any more where one of them fails."""
    failed = {one.rule for one in ranked if one.verified and one.verified.outcome == "refuted"}
    return None if together is None or failed & set(together.rules) else together


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
