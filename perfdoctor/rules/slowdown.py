"""PD701, PD702: the training gets slower as it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.logs import RUN, WHOLE_RUNS
from perfdoctor.rules.observed import is_run
from perfdoctor.rules.passing_moods import may_pass, passing_mood
from perfdoctor.rules.run_gains import up_to_of_steps
from perfdoctor.rules.run_growth import by_machine, shared_machine, slower_in_run
from perfdoctor.rules.slowed_alike import machine_slowed, slowed_alike
from perfdoctor.rules.trends import (
    DEGRADED,
    Fall,
    epochs_slowed,
    lasting_fall,
    loading_grew,
    lost_share,
    passing_fall,
)
from perfdoctor.rules.wording import percent
from perfdoctor.stages import DATA_LOADING, OTHER

_CAUSE = "slow-down"
_ITEM = "running_loss += loss.item()  # `+= loss` keeps every step's graph"


class ThroughputDrops:
    """The throughput falls during the run.

    ## What it does
    Looks for a fall of the throughput between the start and the end of a run, at once or
    gradually, and for one that was made good again.

    ## Why it is slow
    Something accumulates or changes: losses that are kept with their graphs, lists that grow,
    memory that fills until files are no longer cached or the host swaps, another job on the
    machine, a GPU that gets hot, samples that get longer.

    ## Evidence and threshold
    The median throughput at the start and at the end, the significance of the change, and whether
    the wait for data grew with it. Of a script that trains one model after another, or more of one
    later, that of the longest part; and not where samples became larger, or steps have more
    backward passes (by a tenth at least), and the speed fell by no more than the square of that.
    - `fall` = 0.15 (source: 16 % was the coefficient of variation of the mean step over identical
      blocks on a loaded two-core machine)

    ## What to change
    Look at what changed at the place that is named. If the wait for data grew: memory for caching
    files, the disk, what the dataset accumulates. If not: `loss.item()` in place of `loss` in
    running sums, growing lists, the GPU's clock and temperature, other programs.

    ## How the gain is predicted
    A bound: no more than if the whole run had gone as fast as its first tenth, possibly nothing.
    Of an observed script, whose growing stage is known: half of that, nine tenths, or all of it.

    ## When not to
    Where the work itself grows on purpose: longer sequences or larger images as training goes on,
    or layers that are unfrozen.
    Of an observed script it is an option without a gain where others used the machine and all
    stages got slower, where the processor was full (80 %) and the steps had no more of it, where
    all that computes got slower alike, the update as well, and memory did not grow, or where it got
    slower at once, by less than 30 % and for less than 15 s until the end: then it is more likely
    the machine than the script.
    """

    code: ClassVar[str] = "PD701"
    name: ClassVar[str] = "throughput-drops"
    needs: ClassVar[tuple[str, ...]] = ("throughput.trend.shape",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = _CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"fall": DEGRADED}
    sources: ClassVar[tuple[str, ...]] = WHOLE_RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if a fall lasts to the end; as an option if it passed."""
        least = facts.threshold("fall")
        fall = lasting_fall(facts, least)
        if fall is not None:
            found = _fallen(facts, fall, least)
            if not is_run(facts):
                return found
            if by_machine(facts):
                return shared_machine(facts, found, fall.evidence(least))
            if slowed_alike(facts, fall, least):
                return machine_slowed(facts, found, fall, least)
            if may_pass(facts, fall):
                return passing_mood(facts, found, fall, least)
            return slower_in_run(facts, found, lost_share(facts, fall))
        passed = passing_fall(facts, least)
        if passed is None:
            return None
        return Finding(
            stage=OTHER,
            title=passed.sentence(),
            advice="It passed by itself: look what else ran on the machine at that time, or what "
            "the script did.",
            change={},
            snippet="",
            evidence=passed.evidence(least),
            cause=self.cause,
            confidence=0.4,
            effort="lines",
            optional=True,
        )


class EpochTimeGrows:
    """Epochs take longer and longer.

    ## What it does
    Looks for a trend in the times of the epochs, the first of which is not counted.

    ## Why it is slow
    As for PD701; and what is done between the steps may grow: validation, metrics over all that
    was seen so far, figures, logs that are read again.

    ## Evidence and threshold
    The median of the first three epochs beside that of the last three, and a Mann-Kendall test of
    all of them (p < 0.01, at least eight).
    - `fall` = 0.15 (source: 16 % was the coefficient of variation of the mean step over identical
      blocks on a loaded two-core machine)

    ## What to change
    As for PD701; find out first whether it is the steps or what is done between them.

    ## How the gain is predicted
    It is not: the epochs do not tell what grew.

    ## When not to
    Where the work itself grows on purpose.
    """

    code: ClassVar[str] = "PD702"
    name: ClassVar[str] = "epoch-time-grows"
    needs: ClassVar[tuple[str, ...]] = ("series.epoch_s",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = _CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"fall": DEGRADED}
    sources: ClassVar[tuple[str, ...]] = WHOLE_RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the last epochs take longer than the first by more than chance."""
        facts.series("epoch_s")
        fall = epochs_slowed(facts, facts.threshold("fall"))
        if fall is None:
            return None
        steady = facts.known("steps.time.p50_s") is not None and lasting_fall(facts, 0.05) is None
        where = (
            "The steps themselves do not get slower, so it is what is done between them: "
            "validation, metrics, figures, logging."
            if steady
            else f"`{RUN}` tells which part of an epoch grows."
        )
        return Finding(
            stage=OTHER,
            title=fall.sentence(),
            advice=where,
            change={},
            snippet="",
            evidence=fall.evidence(facts.threshold("fall")),
            cause=self.cause,
            confidence=0.6,
            effort="lines",
            behind=True,
            optional=by_machine(facts) or slowed_alike(facts, fall, facts.threshold("fall")),
        )


def _fallen(facts: Facts, fall: Fall, least: float) -> Finding:
    loading, lost = loading_grew(facts), lost_share(facts, fall)
    evidence = fall.evidence(least)
    if lost is not None and lost > 0:
        lost_time = Evidence(metric="time lost against the first tenth", value=lost, unit="share")
        evidence = (*evidence, lost_time)
    return Finding(
        stage=DATA_LOADING if loading else OTHER,
        title=f"{fall.sentence()}: −{percent(fall.share)}",
        advice=_where_to_look(loading),
        change={},
        snippet=""
        if loading
        else "running_loss += loss.item()  # not `+= loss`, which keeps graphs",
        evidence=evidence,
        cause=_CAUSE,
        predicted=None if lost is None or lost <= 0 else up_to_of_steps(facts, lost),
        confidence=0.7,
        effort="lines",
        behind=True,  # a rule that names what grows says more
    )


def _where_to_look(loading: bool | None) -> str:
    if loading:
        return (
            "The wait for data grew: look whether memory for caching files runs out, whether the "
            "disk is shared, and what the dataset accumulates."
        )
    computing = (
        "look for tensors that are kept with their graphs, lists that grow, a hot GPU that lowers "
        "its clock, and other programs on the machine"
    )
    if loading is False:
        return f"The wait for data did not grow, so the loader is not the cause: {computing}."
    return f"`{RUN}` tells which part of the step grows. Then {computing}."
