"""Time that takes a visible part of the steps and in which nothing is known to be gained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perfdoctor.report import Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.groups import COMPUTE, Split, group_of
from perfdoctor.rules.judging import WORTHWHILE, best_gain
from perfdoctor.rules.observed import hot_lines, is_run
from perfdoctor.rules.whole_run import share_of_training
from perfdoctor.rules.wording import percent
from perfdoctor.stages import OPTIMIZER, OTHER
from perfdoctor.stats import amdahl

#: Of what the computation takes. More than that is a bottleneck, whether or not a remedy is known
#: (our own choice).
_BESIDE = 0.5
#: Lines that are known of at least so much of the time between the stages tell what it is (our own
#: choice).
_SEEN = 0.5
_HOME = "configuration.optimizer_home"
_FASTEST = ("configuration.optimizer_fused", "configuration.optimizer_foreach")


def settled(facts: Facts, split: Split, findings: Sequence[Finding]) -> tuple[str, ...]:
    """The stages of which a healthy training may have this much: small beside the computation, no
    fault found in them, and looked at closely enough to have found one."""
    most = _BESIDE * split.groups.get(COMPUTE, 0.0)
    least = amdahl(share_of_training(facts), WORTHWHILE)  # gains are of the whole run
    return tuple(
        stage
        for stage in _looked_at(facts)
        if split.stages.get(stage, 0.0) < most and best_gain(findings, group_of(stage)) < least
    )


def _looked_at(facts: Facts) -> Iterator[str]:
    """Updates that are as fast as torch makes them, and code of which most lines were seen."""
    home = facts.get(_HOME) if facts.has(_HOME) else None
    if home == "torch" and any(facts.has(p) and facts.flag(p) for p in _FASTEST):
        yield OPTIMIZER
    seen = sum(line.share for line in hot_lines(facts, OTHER))
    if is_run(facts) and seen > 0 and seen >= _SEEN * (facts.known(f"stages.{OTHER}.share") or 0.0):
        yield OTHER


def beside(split: Split, stages: Sequence[str], floor: float) -> str:
    """What is said of such stages where they are not small; nothing where they are."""
    said = {
        OPTIMIZER: "goes into updating the weights, as fast as torch does it",
        OTHER: "lies between the stages, in no line worth changing",
    }
    large = [stage for stage in stages if split.stages.get(stage, 0.0) >= floor]
    return " and ".join(f"{percent(split.stages[stage])} {said[stage]}" for stage in large)
