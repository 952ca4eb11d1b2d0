"""Gains over a whole run: Amdahl's law over shares of its steps or of its wall clock.

A speed-up is always that of the whole training, so a share of the steps counts as much as steps
are a part of the run.
"""

from __future__ import annotations

import math

from perfdoctor.report import Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.logs import training_share

#: The name of the model where nothing but an upper bound is known.
UPPER_BOUND = "amdahl-upper-bound"

#: A log's shares rest on rounded times and on averages, so a gain from them may be off by a
#: quarter of the share, as far as an unknown interval counts elsewhere.
_SHARE_ERROR = 0.25
#: No bound above a hundredfold is worth saying.
_MOST = 0.99


def up_to(share: float) -> Prediction:
    """The most that can be gained where `share` of the run went away: between nothing and that.

    Nobody knows where between, and a bound is no estimate: `speedup`, by which advice is ranked,
    is the geometric middle of no gain and all of it.
    """
    most = 1 / (1 - min(_MOST, max(0.0, share)))
    return Prediction(speedup=math.sqrt(most), low=1.0, high=most, model=UPPER_BOUND)


def up_to_of_steps(facts: Facts, share: float) -> Prediction:
    """The same where `share` of the time of the steps went away."""
    return up_to(share * training_share(facts))


def rarer(share: float, factor: float) -> Prediction:
    """A part that takes `share` of the run and is done `factor` times as rarely."""
    saved = [share * s * (1 - 1 / factor) for s in (1.0, 1 - _SHARE_ERROR, 1 + _SHARE_ERROR)]
    likely, low, high = (1 / (1 - min(_MOST, max(0.0, s))) for s in saved)
    return Prediction(speedup=likely, low=low, high=high, model="amdahl-wall")


def share_left(share: float, factor: float) -> float:
    """The share that such a part then has of the shorter run."""
    left = share / factor
    rest = 1 - share + left
    return left / rest if rest > 0 else 0.0


def factor_for(
    share: float, wanted: float, factors: tuple[int, ...], count: int | None = None
) -> int:
    """The smallest factor that brings `share` down to `wanted`, the last if none does.

    Of what a whole run does `count` times, none that asks for more than once in the run.
    """
    fitting = tuple(f for f in factors if count is None or f <= count) or factors[:1]
    return next((f for f in fitting if share_left(share, f) <= wanted), fitting[-1])
