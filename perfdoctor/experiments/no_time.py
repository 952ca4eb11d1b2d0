"""Trials for which there is no time, and the budget in which there would be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from perfdoctor.experiments import events, starts
from perfdoctor.experiments.plan import Candidate, Plan
from perfdoctor.report import Report, Trial
from perfdoctor.rules.wording import duration

if TYPE_CHECKING:
    from perfdoctor.experiments.trials import Laboratory

SPENT = "the budget was spent before its turn"
#: What a script does before its first step, as the report calls it.
_START_UP = "start_up"
#: Of a budget that is named, what is left for trials after the start. [own]
_FOR_TRIALS = 0.5


def not_begun(candidate: Candidate, laboratory: Laboratory, count: int) -> Trial:
    """The trial of a change for which too little is left; `count`: how many there are in all."""
    name, rarely = candidate.experiment.name, _too_rare(candidate, laboratory, count)
    if rarely is not None:
        return Trial(outcome="not_testable", reason=rarely, experiment=name)
    reason = _why(candidate, laboratory, count)
    return Trial(outcome="inconclusive", reason=reason, experiment=name)


def _why(candidate: Candidate, laboratory: Laboratory, count: int) -> str:
    if laboratory.gone:
        return "the process had ended, and no time was left for another one"
    least_s = laboratory.needs_s(candidate)
    if laboratory.budget_s - laboratory.setup_s >= (count + 1) * least_s:
        return f"{SPENT}: --budget {math.ceil(laboratory.spent_s + 2 * least_s)}s"
    needed = math.ceil(2 * (count + 1) * least_s)
    return (
        f"{_shortest(candidate, laboratory, least_s)} takes {duration(least_s)}, more than what "
        f"is left of the budget: --budget {needed}s"
    )


def _shortest(candidate: Candidate, laboratory: Laboratory, least_s: float) -> str:
    if events.occasions(laboratory, candidate.changes) is not None:
        return "a trial with the fewest of what it makes rarer"
    if starts.plan_for(laboratory, candidate.changes) is not None:
        return "the shortest trial, of epochs with their starts,"
    if least_s > 2 * laboratory.least_s and laboratory.setup_s > laboratory.least_s:
        return f"the shortest trial, a new process of {duration(laboratory.setup_s)} included,"
    if laboratory.step_s >= 1:
        return f"the shortest trial, of steps of {duration(laboratory.step_s)},"
    return "the shortest trial"


def _too_rare(candidate: Candidate, laboratory: Laboratory, count: int) -> str | None:
    """Why no trial of something that is made rarer fits into such a budget; None: it may."""
    stretch, budget_s = laboratory.stretch(candidate), laboratory.budget_for(candidate, count)
    if stretch == 1 or laboratory.gone or budget_s <= laboratory.budget_s:
        return None
    return events.too_rare(stretch, laboratory.needs_s(candidate), budget_s)


def not_started(
    report: Report, expected: Plan, budget_s: float, least_s: float
) -> dict[str, Trial]:
    """The trials of all changes where not even the start fits; none where it does, or is not known.

    Args:
        expected: what is to be tried. least_s: what the shortest trial takes.
    """
    start_s = start_up_s(report)
    tried = (*expected.candidates, *expected.choices)
    if start_s is None or start_s + least_s <= budget_s:
        return {}
    reason = (
        f"the script takes {duration(start_s)} to start, more than the budget has for it: "
        f"--budget {math.ceil((start_s + len(tried) * least_s) / _FOR_TRIALS)}s"
    )
    return {
        one.label: Trial(outcome="inconclusive", reason=reason, experiment=one.experiment.name)
        for one in tried
    }


def start_up_s(report: Report) -> float | None:
    """What the observed script took until its first step; None where none was observed."""
    parts = () if report.wall is None else report.wall.parts
    return next((part.seconds for part in parts if part.name == _START_UP), None)
