"""From gains in the training to gains of the whole run that was observed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from perfdoctor.report import Prediction, Recommendation, Together
from perfdoctor.rules.facts import Facts
from perfdoctor.stats import amdahl

#: Parts of a run that no change of the training makes shorter.
_OUTSIDE = ("start_up", "shut_down")
#: Only of a script that came to its own end is it known how much of it that is.
_WHOLE = ("finished", "exit")


def share_of_training(facts: Facts) -> float:
    """The part of an observed run between its start-up and its end; 1 where that is not known."""
    if not (facts.has("source.kind") and facts.has("ending.how") and facts.has("wall.parts")):
        return 1.0
    if facts.get("source.kind") != "run" or facts.get("ending.how") not in _WHOLE:
        return 1.0
    outside = sum(p["share"] or 0.0 for p in facts.get("wall.parts") if p["name"] in _OUTSIDE)
    return float(min(1.0, max(0.0, 1.0 - outside)))


def of_whole_run(one: Recommendation, share: float) -> Recommendation:
    """The same gain where only this share of the run gets faster (Amdahl 1967)."""
    if one.predicted is None or share == 1.0:
        return one
    return replace(one, predicted=replace(one.predicted, **_ends(one.predicted, share)))


def together_of_whole_run(
    guess: Together | None, recommendations: Sequence[Recommendation], share: float
) -> Together | None:
    """The same of all advice at once; `recommendations` are of the whole run already."""
    if guess is None or share == 1.0:
        return guess
    singles = {r.rule: r.predicted.speedup for r in recommendations if r.predicted is not None}
    product = math.prod(singles[rule] for rule in guess.rules)
    return replace(guess, product=product, **_ends(guess, share))


def _ends(guess: Prediction | Together, share: float) -> dict[str, Any]:
    return {name: amdahl(share, getattr(guess, name)) for name in ("speedup", "low", "high")}
