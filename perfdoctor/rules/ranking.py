"""From findings to recommendations: merged by cause, freed of contradictions, ranked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from perfdoctor.report import Choice, Finding, Recommendation
from perfdoctor.rules import Rule

#: The median of identical blocks varied by 2.1 % on a loaded two-core machine, so a smaller gain
#: cannot be told from noise.
MIN_SPEEDUP = 1.03
#: How near a danger is.
_NEAR = {"none": 0, "ahead": 1, "here": 2}
#: Advice that may bring nothing goes behind advice that surely helps.
_UNSURE = 0.5


@dataclass(frozen=True)
class Found:
    """A finding and the rule that it comes from."""

    rule: Rule
    finding: Finding


def worthwhile(found: Iterable[Found], min_speedup: float = MIN_SPEEDUP) -> list[Found]:
    """Without findings whose gain would be lost in noise; those that may gain nothing count less.

    `min_speedup` is new ÷ old throughput of the whole training.
    """
    return [_weighed(f) for f in found if not below(f.finding, min_speedup)]


def recommend(found: Iterable[Found]) -> tuple[Recommendation, ...]:
    """One recommendation for each cause, best first, never two that contradict each other."""
    by_cause: dict[str, list[Found]] = {}
    for one in sorted(found, key=lambda f: (f.finding.behind, _order(f.finding)[2:], f.rule.code)):
        by_cause.setdefault(one.finding.cause, []).append(one)
    return numbered(consistent([_merged(group) for group in by_cause.values()]))


def numbered(recommendations: Iterable[Recommendation]) -> tuple[Recommendation, ...]:
    """Sorted by gain × confidence, best first; a verified gain goes before a predicted one, and a
    danger that is here before any."""
    ordered = sorted(recommendations, key=lambda r: (_order(r), r.rule))
    return tuple(replace(r, rank=rank) for rank, r in enumerate(ordered, start=1))


def consistent(recommendations: Sequence[Recommendation]) -> list[Recommendation]:
    """Without those that set to another value what a better one sets already."""
    kept: list[Recommendation] = []
    wanted: dict[str, object] = {}
    for one in sorted(recommendations, key=lambda r: (_order(r), r.rule)):
        if all(wanted.get(key, value) == value for key, value in one.change.items()):
            kept.append(one)
            wanted |= one.change
    return kept


def below(finding: Finding, min_speedup: float) -> bool:
    """Whether it gains less. Of an upper bound all of it counts: what cannot reach the threshold is
    not worth a try."""
    guess = finding.predicted
    return guess is not None and (guess.high if guess.is_bound else guess.speedup) < min_speedup


def _weighed(found: Found) -> Found:
    finding = found.finding
    if finding.predicted is None or finding.predicted.low > 1.0:
        return found
    return replace(found, finding=replace(finding, confidence=finding.confidence * _UNSURE))


def _order(advice: Finding | Recommendation) -> tuple[bool, bool, bool, bool, float, float]:
    """Smallest first: what was refuted last, faults before options, what ends the training before
    what slows it down, predicted before unpredicted, then by gain."""
    gain = _log_gain(advice)
    return (
        _refuted(advice),
        advice.optional,
        advice.danger != "here",
        gain is None,
        -(gain or 0.0) * advice.confidence,
        -advice.confidence,
    )


def _refuted(advice: Finding | Recommendation) -> bool:
    verified = advice.verified if isinstance(advice, Recommendation) else None
    return verified is not None and verified.outcome == "refuted"


def _log_gain(advice: Finding | Recommendation) -> float | None:
    verified = advice.verified if isinstance(advice, Recommendation) else None
    if _refuted(advice):
        return 0.0
    if verified is not None and verified.outcome == "verified" and verified.speedup:
        return math.log(verified.speedup)
    return None if advice.predicted is None else math.log(advice.predicted.speedup)


def _merged(group: Sequence[Found]) -> Recommendation:
    best, *others = group
    finding = best.finding
    # the same change found by another rule is no other choice
    others = [o for o in others if not o.finding.change or o.finding.change != finding.change]
    return Recommendation(
        rank=0,
        rule=best.rule.code,
        name=best.rule.name,
        title=finding.title,
        stage=finding.stage,
        advice=finding.advice,
        change=finding.change,
        snippet=finding.snippet,
        evidence=finding.evidence,
        effort=finding.effort,
        safety=finding.safety,
        confidence=finding.confidence,
        optional=all(one.finding.optional for one in group),
        danger=max((one.finding.danger for one in group), key=lambda d: _NEAR.get(d, 0)),
        predicted=finding.predicted,
        choices=tuple(_choice(other) for other in others),
    )


def _choice(found: Found) -> Choice:
    finding = found.finding
    return Choice(
        rule=found.rule.code,
        name=found.rule.name,
        advice=finding.advice,
        snippet=finding.snippet,
        predicted=finding.predicted,
        change=finding.change,
        effort=finding.effort,
        safety=finding.safety,
        confidence=finding.confidence,
    )
