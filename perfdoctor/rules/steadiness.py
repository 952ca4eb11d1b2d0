"""How well the step time is known."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from perfdoctor import stats
from perfdoctor.record import Floats
from perfdoctor.rules.facts import Facts


def median_half_width(facts: Facts) -> float:
    """Half the 95 % interval of the median step, as a share of it; infinite where unknown.

    From the series, with turns of workers taken together (`stats.median_half_width`), or from the
    report's own interval where that is narrower or the series is not there.
    """
    widths = [math.inf]
    if facts.has("series.step_s"):
        widths.append(stats.median_half_width(facts.series("step_s"), _cycles(facts)))
    if facts.has("steps.time.p50_ci"):
        low, high = facts.get("steps.time.p50_ci")
        widths.append(stats.relative_half_width((low, high), facts.number("steps.time.p50_s")))
    return min(widths)


def relative_spread(facts: Facts) -> float:
    """Interquartile range of the steps ÷ their median; turns of workers taken together."""
    spreads = [
        float(np.subtract(*np.percentile(t, (75, 25))) / np.median(t)) for t in _turns(facts)
    ]
    return min(spreads, default=0.0)


def _turns(facts: Facts) -> Iterator[Floats]:
    """The steps, then means over each cycle in which they may repeat."""
    if not facts.has("series.step_s"):
        return
    step_s = facts.series("step_s")
    for length in sorted({1, *_cycles(facts)}):
        turns = stats.by_turns(step_s, length)
        if turns.size:
            yield turns


def _cycles(facts: Facts) -> Iterator[int]:
    for path in ("configuration.num_workers", "configuration.arch_every"):
        if facts.has(path):
            yield max(1, int(facts.number(path)))
