"""How well the step time is known."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from perfdoctor.record import Floats
from perfdoctor.rules.facts import Facts
from perfdoctor.stats import describe, relative_half_width


def median_half_width(facts: Facts) -> float:
    """Half the 95 % interval of the median step, as a share of it; infinite where unknown.

    W workers deliver in turns, so a loop that waits for them alternates between long and short
    steps, and the median of these lies in the gap. That is a pattern and not noise: the mean over
    one turn is steady. So the narrower of the two intervals counts.
    """
    widths = [_half_width(turn) for turn in _turns(facts)]
    if facts.has("steps.time.p50_ci"):
        low, high = facts.get("steps.time.p50_ci")
        widths.append(relative_half_width((low, high), facts.number("steps.time.p50_s")))
    return min(widths, default=math.inf)


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
        whole = step_s.size // length
        if whole:
            yield step_s[: whole * length].reshape(whole, length).mean(axis=1)


def _cycles(facts: Facts) -> Iterator[int]:
    for path in ("configuration.num_workers", "configuration.arch_every"):
        if facts.has(path):
            yield max(1, int(facts.number(path)))


def _half_width(values: Floats) -> float:
    stat = describe(values)
    return math.inf if stat is None else relative_half_width(stat.p50_ci, stat.p50_s)
