"""What all recommendations bring together, which is not the product of what each brings alone.

Where the training waits for data, a faster model only waits longer; where it does not wait any
more, a faster loader brings nothing. So the changes are put into one pipeline model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from perfdoctor.pipeline_model import Gain, LoaderModel, Setting, gains
from perfdoctor.report import Recommendation, Together
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.gains import PIPELINE, setting_now
from perfdoctor.rules.loader_facts import loader_model
from perfdoctor.rules.observed import OUTSIDE, beside_steps, is_between
from perfdoctor.stages import DATA_LOADING

#: What may be applied with the rest: it changes no results, or only their rounding.
_HARMLESS = ("exact", "numerics")
#: At least so much of a step remains, whatever is promised.
_LEAST = 0.01
#: Parts of the cost of a batch among which one is found that gives a predicted gain.
_LOADS = np.linspace(0.0, 1.0, 26)
#: The model where nothing is known of a loader: parts of the time go away.
_SUM = "amdahl-sum"
_ENDS = ("speedup", "low", "high")


@dataclass(frozen=True)
class _Left:
    """What remains of the training's parts: factors on the steps' computing and on the rest."""

    compute: float
    beside: float


def together(facts: Facts, recommendations: Sequence[Recommendation]) -> Together | None:
    """Of all that are predicted, no options, and leave the results as they are.

    Of what is about the training: what makes a start-up shorter is not in it.

    None where these are fewer than two, since one alone says it already.
    """
    chosen = [r for r in recommendations if _counts(r)]
    if len(chosen) < 2:
        return None
    try:
        found = _modelled(facts, chosen)
    except (Missing, TypeError):
        found = None
    likely, low, high = found or _summed(facts, chosen)
    singles = [r.predicted.speedup for r in chosen if r.predicted is not None]
    return Together(
        speedup=likely,
        low=min(low, likely),
        high=max(high, likely),
        model=PIPELINE if found else _SUM,
        rules=tuple(r.rule for r in chosen),
        product=float(np.prod(singles)),
    )


def _counts(one: Recommendation) -> bool:
    guess = one.predicted
    if one.stage in OUTSIDE:
        return False
    return not one.optional and one.safety in _HARMLESS and guess is not None and not guess.is_bound


def _modelled(facts: Facts, chosen: Sequence[Recommendation]) -> tuple[float, float, float]:
    """Speed-up, low and high of the training. Raises `Missing` where no loader was measured."""
    model, beside = loader_model(facts), beside_steps(facts)
    loading = [r for r in chosen if r.stage == DATA_LOADING]
    setting = _with_settings(facts, model, loading)
    loads = _loads(facts, model, [r for r in loading if not _is_setting(r)], beside)
    rest = [r for r in chosen if r.stage != DATA_LOADING]
    left = [_left(facts, rest, end) for end in _ENDS]
    asked = [
        replace(setting, load=load, compute=part.compute)
        for load, part in zip(loads, left, strict=True)
    ]
    now = setting_now(facts, model)
    found = gains(model, now, asked, facts.number("steps.time.mean_s"))
    likely, low, high = (
        _whole(gain, beside, part.beside) for gain, part in zip(found, left, strict=True)
    )
    return likely.speedup, min(low.speedup, likely.low), max(high.speedup, likely.high)


def _whole(gain: Gain, beside: float, left: float) -> Gain:
    """Of the steps → of the training, `beside` of which is no step and shrinks to `left` of it."""

    def of(speedup: float) -> float:
        return 1 / max(_LEAST, (1 - beside) / speedup + beside * left)

    return Gain(of(gain.speedup), of(gain.low), of(gain.high))


def _is_setting(one: Recommendation) -> bool:
    return bool({"num_workers", "prefetch_factor", "persistent_workers"} & set(one.change))


def _with_settings(facts: Facts, model: LoaderModel, loading: Iterable[Recommendation]) -> Setting:
    """The settings of the loader once all that is advised of them is done."""
    change: dict[str, object] = {}
    for one in loading:
        change |= one.change
    now = setting_now(facts, model)
    workers, ahead = change.get("num_workers"), change.get("prefetch_factor")
    return Setting(
        workers=workers if isinstance(workers, int) else now.workers,
        prefetch_factor=ahead if isinstance(ahead, int) else now.prefetch_factor,
        persistent=now.persistent or change.get("persistent_workers") is True,
    )


def _loads(
    facts: Facts, model: LoaderModel, cheaper: Sequence[Recommendation], beside: float
) -> tuple[float, ...]:
    """Factors on the cost of a batch that stand for advice that is no setting, for each end."""
    if not cheaper:
        return (1.0, 1.0, 1.0)
    now = setting_now(facts, model)
    tried = [replace(now, load=float(load)) for load in _LOADS]
    found = gains(model, now, tried, facts.number("steps.time.mean_s"))
    speedups = [_whole(gain, beside, 1.0).speedup for gain in found]
    factors = np.ones(len(_ENDS))
    for one in cheaper:
        wanted = [getattr(one.predicted, end) for end in _ENDS]
        factors *= np.interp(wanted, speedups[::-1], _LOADS[::-1])
    return tuple(float(f) for f in factors)


def _left(facts: Facts, rest: Sequence[Recommendation], end: str) -> _Left:
    """What remains of computing and of what lies between the steps, at this end."""
    beside, spread = beside_steps(facts), 1.0
    wait = (facts.known(f"stages.{DATA_LOADING}.share") or 0.0) if facts.has("stages") else 0.0
    computing = max(_LEAST, 1 - beside - wait)
    gone = {True: 0.0, False: 0.0}
    for stage, parts in _by_stage(rest, end).items():
        between = is_between(facts, stage)
        pool = facts.known(f"stages.{stage}.share") or 0.0
        if max(parts) > pool and not between:  # in all stages: also in what others take away
            spread *= float(np.prod([1 - min(1.0, part / computing) for part in parts]))
            continue
        pool = max(pool, *parts)
        gone[between] += pool * (1 - float(np.prod([1 - part / pool for part in parts])))
    return _Left(
        compute=max(_LEAST, (1 - gone[False] / computing) * spread),
        beside=max(0.0, 1 - gone[True] / beside) if beside > 0 else 1.0,
    )


def _by_stage(rest: Iterable[Recommendation], end: str) -> Mapping[str, list[float]]:
    """Stage → the parts of the training that each of its recommendations takes away."""
    found: dict[str, list[float]] = {}
    for one in rest:
        assert one.predicted is not None
        part = 1 - 1 / max(1.0, getattr(one.predicted, end))
        found.setdefault(one.stage, []).append(part)
    return {stage: parts for stage, parts in found.items() if max(parts) > 0}


def _summed(facts: Facts, chosen: Sequence[Recommendation]) -> tuple[float, float, float]:
    """Without a model of the loader: the parts that go away, those of one stage one by one.

    What is about more than its own stage is in the parts of the others as well.
    """

    def speedup(end: str) -> float:
        gone, spread = 0.0, 1.0
        for stage, parts in _by_stage(chosen, end).items():
            pool = facts.known(f"stages.{stage}.share") or 0.0
            left = float(
                np.prod([1 - part / (pool if max(parts) <= pool else 1) for part in parts])
            )
            if max(parts) <= pool:
                gone += pool * (1 - left)
            else:
                spread *= left
        return 1 / max(_LEAST, (1 - gone) * spread)

    likely, low, high = (speedup(end) for end in _ENDS)
    return likely, low, high
