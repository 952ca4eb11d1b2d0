"""PD601, PD606: ranks that wait for one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.observed import RUNS, without
from perfdoctor.rules.wording import grouped, percent, seconds, stage_words
from perfdoctor.stages import BACKWARD, DATA_LOADING, FORWARD, LOSS, OPTIMIZER, OTHER

SKEW = "rank_skew"
#: Of a predicted gain, as an exponent: what was seen side by side may differ from the whole
#: training by as much as shares may (our own choice, as for other shares of a run).
_ERROR = 0.15
_COMPUTING = (FORWARD, LOSS, BACKWARD, OPTIMIZER)

_SAME_SHARE = """\
sampler = DistributedSampler(dataset)  # every rank gets as many samples
loader = DataLoader(dataset, sampler=sampler)  # and your other arguments
for epoch in range(epochs):
    sampler.set_epoch(epoch)"""
_RARELY = """\
if dist.get_rank() == 0 and step % 100 == 0:
    report()  # what one rank alone does, all the others wait for"""
_ALL_VALIDATE = """\
validation = DataLoader(held_out, sampler=DistributedSampler(held_out, shuffle=False))
total = evaluate(model, validation)  # on every rank, its own part
dist.all_reduce(total)"""


class StragglerRank:
    """One rank is slower than the others, which wait for it in every step.

    ## What it does
    Lays the same steps of all ranks side by side and compares what each needs by itself, without
    waiting for others.

    ## Why it is slow
    Gradients are shared in every step, so a step takes all ranks as long as the slowest needs.

    ## Evidence and threshold
    How much longer the slowest rank needs than the median one, and how often it is the slowest.
    - `skew` = 0.1 (source: our own choice, the step time of equal ranks on a loaded machine
      differed by up to 6 %)
    - `slowest_in` = 0.6 (source: our own choice; two equal ranks take turns and have 0.5 each)

    ## What to change
    Give all ranks the same work and the same means: as many samples of the same kind, disks and
    cores alike; what only one rank does belongs between the steps, and seldom.

    ## How the gain is predicted
    The steps as they were seen, with all ranks that are slower than the median one as fast as
    that; the interval is over parts of the run.

    ## When not to
    Where ranks have different devices on purpose, give the slow ones smaller batches instead.
    """

    code: ClassVar[str] = "PD601"
    name: ClassVar[str] = "straggler-rank"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "straggler-rank"
    thresholds: ClassVar[Mapping[str, float]] = {"skew": 0.10, "slowest_in": 0.60}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the same rank is the slowest most of the time, and by enough."""
        if not several_ranks(facts):
            return None
        skew, often = facts.number(f"{SKEW}.skew"), facts.number(f"{SKEW}.slowest_in")
        least, mostly = facts.threshold("skew"), facts.threshold("slowest_in")
        if skew < least or often < mostly:
            return None
        rank = int(facts.number(f"{SKEW}.slowest"))
        stage = facts.text(f"{SKEW}.stage") if facts.has(f"{SKEW}.stage") else OTHER
        excess_s = facts.known(f"{SKEW}.stage_excess_s")
        more = "" if excess_s is None else f", {seconds(excess_s)} more than the median rank"
        return Finding(
            stage=stage,
            title=f"Rank {rank} needs {percent(skew)} longer for a step than the median rank, and "
            f"all others wait for it: in {stage_words(stage)}{more}",
            advice=_how_to_catch_up(rank, stage),
            change={"equal_ranks": True},
            snippet=_RARELY if stage == OTHER else _SAME_SHARE if stage == DATA_LOADING else "",
            evidence=(
                Evidence(
                    metric=f"rank {rank} slower by", value=skew, unit="of its step", threshold=least
                ),
                Evidence(metric="slowest in", value=often, unit="share of steps", threshold=mostly),
                *_excess(stage, excess_s),
            ),
            cause=self.cause,
            predicted=_if_even(facts),
            confidence=0.85,
            effort="lines",
        )


class RankWorksAlone:
    """Between the steps one rank validates, saves or reports, and all others wait.

    ## What it does
    Compares what the ranks do between their steps.

    ## Why it is slow
    All others stand in the next collective until that rank has come back.

    ## Evidence and threshold
    What the rank does more than the median one, as a share of the training.
    - `share` = 0.05 (source: our own choice, as for validation that comes too often)

    ## What to change
    Let every rank validate a part of the data and add up the results; save in the background or
    more seldom.

    ## How the gain is predicted
    The work shared by all ranks: all of that time but one rank's part of it goes away, or half of
    it at least.

    ## When not to
    Where a metric cannot be put together from parts, gather the predictions instead.
    """

    code: ClassVar[str] = "PD606"
    name: ClassVar[str] = "rank-works-alone"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "rank-works-alone"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if one rank's work between the steps takes a visible share."""
        if not several_ranks(facts):
            return None
        share = facts.number(f"{SKEW}.between_s") / facts.number(f"{SKEW}.step_s")
        if share < facts.threshold("share"):
            return None
        rank, stage = facts.number(f"{SKEW}.between_rank"), facts.text(f"{SKEW}.between_stage")
        ranks = facts.number("ranks")
        return Finding(
            stage=stage,
            title=f"Rank {grouped(rank)} alone works between the steps, mostly "
            f"{stage_words(stage)}, and all others wait: {percent(share)} of the training",
            advice="Let every rank do its part of it and add up the results; what only one can do, "
            "such as saving, more seldom or in the background.",
            change={"alone_between_steps": False},
            snippet=_ALL_VALIDATE if stage == "validation" else _RARELY,
            evidence=(
                Evidence(
                    metric=f"rank {grouped(rank)} alone",
                    value=share,
                    unit="share of training",
                    threshold=facts.threshold("share"),
                ),
            ),
            cause=self.cause,
            predicted=without(share, 0.5, 1 - 1 / ranks, 1.0),
            confidence=0.75,
            effort="lines",
        )


def several_ranks(facts: Facts) -> bool:
    """Whether several ranks trained together.

    Raises `Missing` where they did but cannot be laid side by side.
    """
    if (facts.known("ranks") or 1) < 2:
        return False
    if not facts.has(SKEW):
        if (facts.known("configuration.world_size") or 1) < 2:
            return False
        raise Missing(SKEW, "too few steps of two ranks at the same time")
    return True


def _how_to_catch_up(rank: int, stage: str) -> str:
    if stage == DATA_LOADING:
        return (
            f"See why rank {rank} gets its data later: more or longer samples, a slower disk, "
            "cores that something else uses. Give every rank as many samples of the same kind."
        )
    if stage in _COMPUTING:
        return (
            f"See why rank {rank} computes longer: larger or longer batches, a slower or a shared "
            "device, cores that something else uses. Spread long samples over all ranks."
        )
    return (
        f"See what rank {rank} does besides in each step, such as logging or metrics: do that "
        "seldom, or after the step's gradients are shared."
    )


def _excess(stage: str, excess_s: float | None) -> tuple[Evidence, ...]:
    if excess_s is None:
        return ()
    return (Evidence(metric=f"more in {stage_words(stage)}", value=excess_s, unit="s"),)


def _if_even(facts: Facts) -> Prediction:
    speedup = max(1.0, facts.number(f"{SKEW}.speedup"))
    low, high = (facts.number(f"{SKEW}.speedup_ci.{end}") for end in (0, 1))
    return Prediction(
        speedup=speedup,
        low=min(low, speedup ** (1 - _ERROR)),
        high=max(high, speedup ** (1 + _ERROR)),
        model="ranks-even",
    )
