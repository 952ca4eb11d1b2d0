"""What to try, in which order, and why the rest cannot be tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from perfdoctor.experiments import EXPERIMENTS, Experiment, Situation
from perfdoctor.render.setting_words import setting_name
from perfdoctor.report import Choice, Prediction, Recommendation, Report, Trial
from perfdoctor.rules import catalogue
from perfdoctor.stages import ARCH_STEP, DATA_LOADING

#: Ceilings of the loader are measured where the step waits for it at least so long: MLPerf Storage
#: passes a system whose accelerator is busy for 90 % of the time.
_CEILINGS_FROM = 0.10
CEILINGS = ("free-loading", "cached-dataset")
_OF_CODE = "a change of your code, which cannot be made from outside"
#: Changes that make a stage rarer → the stage.
RARER = {
    "checkpoint_every_times": "checkpoint",
    "validate_every_times": "validation",
    "log_every_times": "logging",
    "figures_every_times": "logging",
    "arch_every": ARCH_STEP,
}
#: Changes of a part of the stage, which may come far less often than the whole of it.
_PARTS = ("figures_every_times",)
#: Changes that say after how many steps it comes, and not how many times as rarely.
_IN_STEPS = ("arch_every",)
#: Traits that a model may have, and that experiments need.
_MODELS = ("conv", "search", "checkpointing", "scaler")
#: What every new process can be given.
_OF_PROCESS = frozenset({"environment"})


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One thing to try.

    Attributes:
        label: a rule's code, or the experiment's name for a ceiling.
        changes: what the experiment changes. weight: predicted gain × confidence.
        others: other values of the same change. instead_of: the rule whose recommendation this is
            another choice of; it is tried where what comes before it fails.
    """

    label: str
    experiment: Experiment
    changes: Mapping[str, Any]
    predicted: Prediction | None = None
    weight: float = 0.0
    title: str = ""
    others: tuple[Mapping[str, Any], ...] = ()
    instead_of: str | None = None

    @property
    def joins(self) -> bool:
        """Whether it is tried once more together with others, where it helps."""
        one = self.experiment
        return not one.restart and not one.ceiling and one.safety != "semantics"

    @property
    def predicted_low(self) -> float | None:
        """Logarithm of the least that was predicted; of an upper bound alone, nothing was."""
        if self.predicted is None or self.predicted.is_bound:
            return None
        return math.log(max(1e-3, self.predicted.low))


@dataclass(frozen=True)
class Plan:
    """What will be tried, most promising first, and the trials that cannot be, by label.

    `choices`: what is tried in the place of recommendations that fail, the best of each first.
    """

    candidates: tuple[Candidate, ...] = ()
    choices: tuple[Candidate, ...] = ()
    not_testable: Mapping[str, Trial] = field(default_factory=dict)


def load(name: str) -> Experiment:
    """The experiment of this name; `KeyError` where there is none."""
    module, _, kind = EXPERIMENTS[name][0].partition(":")
    made: Experiment = getattr(import_module(module), kind)()
    return made


def named(candidate: Candidate) -> str:
    """How it is called while it is tried."""
    name = candidate.experiment.name
    return name if candidate.label == name else f"{candidate.label} {name}"


def situation_of(report: Report, extra: Mapping[str, Any]) -> Situation:
    """The training as reported; `extra` as `ArmFacts` has it."""
    capability = extra.get("capability")
    share = report.stages[DATA_LOADING].share if DATA_LOADING in report.stages else None
    return Situation(
        configuration=report.configuration,
        device=str(report.configuration.get("device") or report.environment.device),
        cores=float(extra.get("cores") or 1.0),
        traits=frozenset(extra.get("traits", ())),
        capability=None if capability is None else (capability[0], capability[1]),
        loading_share=share,
        supported=frozenset(extra["changes"]) if "changes" in extra else None,
    )


def expected_situation(report: Report) -> Situation:
    """The same before any process of it was begun: what only that can tell, allows most."""
    from perfdoctor.collect.rerun.modes import SUPPORTED

    advised = [change for one in report.recommendations for change in one.change.items()]
    traits = {*_MODELS, *(name for name, value in advised if value is False)}  # these are on
    extra = {"traits": traits, "cores": report.environment.cores_usable}
    return situation_of(report, {**extra, "changes": SUPPORTED} if is_script(report) else extra)


def is_script(report: Report) -> bool:
    """Whether it is of an observed script, and not of a workload."""
    return report.source.kind == "run"


def periods_of(report: Report) -> dict[str, int]:
    """Change → steps between two of what it makes rarer, where the report tells."""
    often = {
        change: 1.0 if change in _IN_STEPS else report.stages[stage].calls_per_step
        for change, stage in RARER.items()
        if stage in report.stages and change not in _PARTS
    }
    return {change: max(1, round(1 / each)) for change, each in often.items() if each > 0}


def costs_of(report: Report) -> dict[str, float]:
    """Change → usual seconds of what it makes rarer, where the report tells."""
    return {
        change: report.stages[stage].p50_s
        for change, stage in RARER.items()
        if stage in report.stages and change not in _PARTS
    }


def plan(report: Report, situation: Situation) -> Plan:
    """Every recommendation is either a candidate or has the reason why it is none."""
    candidates, not_testable = [], {}
    for recommendation in report.recommendations:
        found = _testable(recommendation, situation)
        if isinstance(found, Trial):
            not_testable[recommendation.rule] = found
        elif found is not None:
            candidates.append(found)
    ordered = sorted(candidates, key=lambda one: -one.weight)
    choices = _choices(report, situation, ordered)
    return Plan((*ordered, *_ceilings(situation, [*ordered, *choices])), choices, not_testable)


def _choices(
    report: Report, situation: Situation, others: Sequence[Candidate]
) -> tuple[Candidate, ...]:
    """Other choices of the recommendations, but for what is tried anyway."""
    tried = [(one.experiment.name, one.changes) for one in others]
    found = []
    for recommendation in report.recommendations:
        for choice in recommendation.choices:
            candidate = _testable(choice, situation) if choice.change else None
            if not isinstance(candidate, Candidate):
                continue
            if (candidate.experiment.name, candidate.changes) not in tried:
                tried.append((candidate.experiment.name, candidate.changes))
                found.append(replace(candidate, instead_of=recommendation.rule))
    return tuple(found)


def _testable(advice: Recommendation | Choice, situation: Situation) -> Candidate | Trial | None:
    """What tries it, or the trial that says why nothing does; None: there is nothing to try."""
    experiment = experiment_for(advice)
    if experiment is None:
        return _untested(_OF_CODE) if advice.change else None
    here = replace(situation, wanted=advice.change)
    reason = experiment.why_not(here) or _unsupported(experiment, here)
    if reason is not None:
        return _untested(reason, experiment.name)
    return _candidate(advice, experiment, here)


def experiment_for(recommendation: Recommendation | Choice) -> Experiment | None:
    """The experiment that makes its change; else the one that its rule names.

    That one has to make the change too, or be a ceiling: what was not advised refutes no advice.
    """
    named = _named_by_rule(recommendation.rule)
    wanted = set(recommendation.change)
    by_change = [e for e in map(load, EXPERIMENTS) if e.keys[0] in wanted]
    for experiment in by_change:
        if experiment.name == named:
            return experiment
    if by_change:
        return by_change[0]
    other = load(named) if named in EXPERIMENTS else None
    if other is None or other.ceiling or not wanted or wanted & set(other.keys):
        return other
    return None


def _named_by_rule(code: str) -> str | None:
    found = [rule.verify_with for rule in catalogue.load().rules if rule.code == code]
    return found[0] if found else None


def _candidate(
    recommendation: Recommendation | Choice, experiment: Experiment, situation: Situation
) -> Candidate:
    guess = recommendation.predicted
    gain = 0.0 if guess is None else math.log(max(1.0, guess.speedup))
    return Candidate(
        label=recommendation.rule,
        experiment=experiment,
        changes=experiment.changes(situation),
        predicted=guess,
        weight=gain * recommendation.confidence,
        title=recommendation.name,
        others=experiment.others(situation),
    )


def _ceilings(situation: Situation, others: list[Candidate]) -> list[Candidate]:
    if (situation.loading_share or 0.0) < _CEILINGS_FROM:
        return []
    known = {one.experiment.name for one in others}
    experiments = [load(name) for name in CEILINGS if name not in known]
    return [
        Candidate(label=e.name, experiment=e, changes=e.changes(situation), title=e.name)
        for e in experiments
        if e.why_not(situation) is None and _unsupported(e, situation) is None
    ]


def _unsupported(experiment: Experiment, situation: Situation) -> str | None:
    """Why a script cannot be changed that way; None: it can, or it is no script."""
    if situation.supported is None:
        return None
    others = set(experiment.changes(situation)) - situation.supported - _OF_PROCESS
    if not others:
        return None
    return f"a script's {setting_name(min(others))} cannot be changed from outside"


def _untested(reason: str, experiment: str | None = None) -> Trial:
    return Trial(outcome="not_testable", reason=reason, experiment=experiment)
