"""From gains in the training to gains of the whole run that was observed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from perfdoctor.ending import BY_ITSELF, IN_PART, leaving_s
from perfdoctor.report import Finding, Prediction, Recommendation, Together
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.observed import OUTSIDE, RUN_KIND, training_part
from perfdoctor.stats import amdahl

#: Start-up reads files and imports packages, and was seen in one run, watched (our own choice, as
#: far as an unknown interval counts elsewhere).
_OUTSIDE_ERROR = 0.25


def is_whole(facts: Facts) -> bool:
    """Whether a script was observed from its start to its own end: only of such a one is it known
    how much it does in all."""
    if not _was_run(facts) or not facts.has("ending.how"):
        return False
    return facts.get("ending.how") in BY_ITSELF and not facts.has(f"configuration.{IN_PART}")


def is_part(facts: Facts) -> bool:
    """Whether a script was observed, but not to its own end: what is best in it may not stay so."""
    return _was_run(facts) and not is_whole(facts)


def _was_run(facts: Facts) -> bool:
    return facts.has("source.kind") and facts.get("source.kind") == RUN_KIND


def share_of_training(facts: Facts) -> float:
    """The part of an observed run between its start-up and its end; 1 where that is not known.

    The end of its process, which it cannot see, is part of the run.
    """
    if not is_whole(facts):
        return 1.0
    wall_s = facts.known("wall.total_s") or 0.0
    end_s = leaving_s(facts.get("ending.how"), facts.known("counters.import_torch_s"))
    return training_part(facts) * (wall_s / (wall_s + end_s) if wall_s else 1.0)


def epochs_in_all(facts: Facts) -> float:
    """How often a run goes through its data; without end where that is not known."""
    count = facts.known("epochs.count") if is_whole(facts) else None
    return count if count else math.inf


def of_whole_run(one: Recommendation, share: float) -> Recommendation:
    """The same gain where only this share of the run gets faster (Amdahl 1967).

    What is about the start-up is of the whole run already.
    """
    if share == 1.0 or one.stage in OUTSIDE:
        return one
    choices = tuple(replace(c, predicted=_whole(c.predicted, share)) for c in one.choices)
    return replace(one, predicted=_whole(one.predicted, share), choices=choices)


def finding_of_whole_run(one: Finding, share: float) -> Finding:
    """The same of a finding."""
    if share == 1.0 or one.stage in OUTSIDE:
        return one
    return replace(one, predicted=_whole(one.predicted, share))


def together_of_whole_run(
    guess: Together | None, recommendations: Sequence[Recommendation], share: float
) -> Together | None:
    """The same of all advice at once; `recommendations` are of the whole run already."""
    if guess is None or share == 1.0:
        return guess
    singles = {r.rule: r.predicted.speedup for r in recommendations if r.predicted is not None}
    product = math.prod(singles[rule] for rule in guess.rules)
    return replace(guess, product=product, **_ends(guess, share))


def _whole(guess: Prediction | None, share: float) -> Prediction | None:
    return None if guess is None else replace(guess, **_ends(guess, share))


def _ends(guess: Prediction | Together, share: float) -> dict[str, Any]:
    """At the ends, start-up and end take that much more or less time than in the run seen."""
    outside = 1 - share
    shares = [share / (share + outside * (1 + e)) for e in (_OUTSIDE_ERROR, 0, -_OUTSIDE_ERROR)]
    return {
        "speedup": amdahl(share, guess.speedup),
        "low": min(amdahl(part, guess.low) for part in shares),
        "high": max(amdahl(part, guess.high) for part in shares),
    }
