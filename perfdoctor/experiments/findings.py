"""The report of what was tried: each recommendation with its trial, ranked by what is proven."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from perfdoctor.experiments import EXPERIMENTS, applying
from perfdoctor.experiments.plan import Plan, load
from perfdoctor.report import Choice, Recommendation, Report, Together, Trial, Verification
from perfdoctor.rules.ranking import numbered

#: Outcomes after which another choice is tried.
FAILED = ("refuted", "not_testable")


@dataclass
class Findings:
    """What is known so far; all of it is kept when the user interrupts."""

    trials: dict[str, Trial] = field(default_factory=dict)
    together: Trial | None = None
    product: float | None = None
    control: Trial | None = None
    foreign: float | None = None
    waited: float | None = None
    spent_s: float = 0.0
    interrupted: bool = False
    problem: str | None = None


def reported(report: Report, work: Plan, found: Findings, budget_s: float) -> Report:
    """The report with what was found."""
    tried = tuple(_with_trials(one, found.trials) for one in report.recommendations)
    ranked = numbered(_as_verified(one) for one in tried)
    good = [one for one in ranked if one.verified and one.verified.outcome == "verified"]
    changes = merged(one.verified.change for one in good if one.verified)
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
        core_wait_share=found.waited,
        together=found.together,
        alone_product=found.product,
        ceilings=ceilings,
        patch=applying.patch(good),
        environment=applying.environment(changes),
        profile=applying.profile(changes, _changing(good)),
        interrupted=found.interrupted,
        **scores([*tried, *(choice for one in tried for choice in one.choices)]),
    )
    warnings = report.warnings + ((found.problem,) if found.problem else ())
    return replace(
        report,
        recommendations=ranked,
        together=_still(report.together, tried),
        verification=verification,
        warnings=warnings,
    )


def merged(changes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """All of them; of two values for one setting the first, but of several mappings all keys."""
    found: dict[str, Any] = {}
    for change in changes:
        for key, value in change.items():
            known = found.setdefault(key, value)
            if isinstance(known, Mapping) and isinstance(value, Mapping):
                found[key] = {**value, **known}
    return found


def _changing(verified: Sequence[Recommendation]) -> set[str]:
    """The settings among theirs that change what the training does."""
    semantics = [one.verified for one in verified if one.verified and one.safety == "semantics"]
    return {key for trial in semantics for key in trial.change}


def _with_trials(one: Recommendation, trials: Mapping[str, Trial]) -> Recommendation:
    choices = tuple(replace(c, verified=trials.get(c.rule)) for c in one.choices)
    return replace(one, verified=trials.get(one.rule), choices=choices)


def _as_verified(one: Recommendation) -> Recommendation:
    """With the choice that helps in front, and the change in the way that was best."""
    trial = one.verified
    good = [c for c in one.choices if c.verified and c.verified.outcome == "verified"]
    if good and (trial is None or trial.outcome in FAILED):
        fields = [field.name for field in dataclasses.fields(Choice)]
        first = Choice(**{name: getattr(one, name) for name in fields})
        others = tuple(choice for choice in one.choices if choice is not good[0])
        now = {name: getattr(good[0], name) for name in fields}
        return _as_verified(replace(one, **now, choices=(first, *others)))
    if trial is None or trial.experiment not in EXPERIMENTS or trial.outcome != "verified":
        return one
    snippet = load(trial.experiment).snippet(trial.change) if trial.others else None
    return one if snippet is None else replace(one, change=trial.change, snippet=snippet)


def _still(together: Together | None, ranked: Sequence[Recommendation]) -> Together | None:
    """What is predicted of several at once means nothing any more where one of them fails."""
    failed = {one.rule for one in ranked if one.verified and one.verified.outcome == "refuted"}
    return None if together is None or failed & set(together.rules) else together


def _of_advice(one: Recommendation | Choice) -> Trial | None:
    """The trial of what the prediction is of, where another value took its place."""
    if one.verified is None:
        return None
    asked = [other for other in one.verified.others if other.change == one.change]
    return asked[0] if asked and one.verified.change != one.change else one.verified


def scores(tried: Sequence[Recommendation | Choice]) -> Mapping[str, Any]:
    """How far the predictions were off, over the trials that tell a gain."""
    errors, within = [], 0
    for one in tried:
        guess, trial = one.predicted, _of_advice(one)
        if guess is None or guess.is_bound or trial is None or trial.speedup is None:
            continue
        if trial.outcome not in ("verified", "refuted"):
            continue
        errors.append(abs(math.log(trial.speedup / guess.speedup)))
        within += guess.low <= trial.speedup <= guess.high
    error = float(np.median(errors)) if errors else None
    return {"scored": len(errors), "within_interval": within, "error": error}
