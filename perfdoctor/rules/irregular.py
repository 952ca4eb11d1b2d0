"""PD703, PD704: steps that take much longer than the others, regularly or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.epoch_start import workers_restart
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.frequency import CHECKPOINT_CAUSE, VALIDATION_CAUSE, stalls_are_of
from perfdoctor.rules.logs import RUN, WHOLE_RUNS, wall_parts
from perfdoctor.rules.observed import hot_lines, is_between, is_run
from perfdoctor.rules.run_gains import up_to_of_steps
from perfdoctor.rules.run_growth import machine_was_busy
from perfdoctor.rules.run_reporting import LOGGING
from perfdoctor.rules.trends import shape
from perfdoctor.rules.waits import data_in_stalls, in_stalls
from perfdoctor.rules.wording import grouped, seconds, stage_words
from perfdoctor.stages import DATA_LOADING, OTHER

_P99, _P50 = "steps.time.p99_s", "steps.time.p50_s"
#: Micro-batches of one optimizer step: the last of each is longer, and has to be.
_ACCUMULATION = "configuration.gradient_accumulation"
#: A p99 means nothing in fewer samples.
_FEWEST_STEPS = 100
#: A stage has so many times its usual share of what slow steps take longer (our own choice).
_OUT_OF_PROPORTION = 1.5
#: More than this part of the added time makes a stall one of waiting for data.
_MOSTLY = 0.5


class PeriodicStalls:
    """Training stalls at regular distances.

    ## What it does
    Looks for steps that take much longer than the rest and come every so many steps.

    ## Why it is slow
    Something is done every N steps while training waits: saving a checkpoint, evaluating, logging
    with a synchronisation, opening the next file of the data.

    ## Evidence and threshold
    The share of the time of all steps that goes into these stalls.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    Do it less often or in the background. The distance tells what it is: compare it with the
    script's intervals for saving, evaluating and logging.

    ## How the gain is predicted
    A bound: no more than if no step stalled, possibly nothing.

    ## When not to
    Where the work of those steps is wanted, as an optimizer step after several accumulated
    batches.
    """

    code: ClassVar[str] = "PD703"
    name: ClassVar[str] = "periodic-stalls"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "periodic-stalls"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = WHOLE_RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if regular stalls take too large a share."""
        if is_run(facts) and _named_elsewhere(facts):
            return None
        share, limit = facts.known("stalls.share"), facts.threshold("share")
        if share is None:
            facts.number(_P50)  # steps were timed and none stalled, or nothing is known
            return None
        often = _how_often(facts)
        if share < limit or often is None:
            return None
        each_s = facts.known("stalls.excess_s") or 0.0
        what, cause = _likely(facts)
        return Finding(
            stage=DATA_LOADING if data_in_stalls(facts) > _MOSTLY and cause is None else OTHER,
            title=f"{often} takes {seconds(each_s) if each_s > 0 else 'much'} longer: {what}",
            advice="Look what the script does then, and do it less often or in the background."
            + ("" if is_run(facts) else f" `{RUN}` names it."),
            change={},
            snippet="",
            evidence=_evidence(facts, share, limit, each_s),
            cause=cause or self.cause,
            predicted=up_to_of_steps(facts, min(1.0, share)),
            confidence=0.6,
            effort="lines",
        )


class SlowTail:
    """A few steps take much longer than the others, with no regularity.

    ## What it does
    Looks for a long tail of step times in a run whose speed is otherwise steady and whose slow
    steps come neither regularly nor at the start of epochs.

    ## Why it is slow
    Garbage collection, slow reads from a shared disk, other programs, samples of very different
    sizes, or an allocator that has to free its caches.

    ## Evidence and threshold
    The 99th percentile beside the median, of at least 100 steps; and the time that steps take
    beyond the median, where it is known. In an observed script most of that has to be in one stage
    and out of proportion to it: steps that are slower all over have larger batches or a busy
    machine.
    - `ratio` = 2 (source: gpuprof calls a tail long from twice the median)
    - `share` = 0.05 (source: our own choice, as PD703 has it)

    ## What to change
    Find out what the slow steps have in common: `perfdoctor run train.py` shows in which stage
    their time goes.

    ## How the gain is predicted
    A bound: no more than if every step took the median, possibly nothing.

    ## When not to
    Where samples differ in size: then the slow steps are the large batches. Sorting samples into
    batches of like length helps, and changes the order of the data.
    """

    code: ClassVar[str] = "PD704"
    name: ClassVar[str] = "slow-tail"
    needs: ClassVar[tuple[str, ...]] = (_P99, _P50)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "slow-tail"
    thresholds: ClassVar[Mapping[str, float]] = {"ratio": 2.0, "share": 0.05}
    sources: ClassVar[tuple[str, ...]] = WHOLE_RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the tail is long and nothing else explains it."""
        p50_s, p99_s = facts.number(_P50), facts.number(_P99)
        if p50_s <= 0 or (facts.known("steps.count") or 0) < _FEWEST_STEPS:
            return None
        ratio, limit = p99_s / p50_s, facts.threshold("ratio")
        if ratio <= limit or _explained(facts) or machine_was_busy(facts):
            return None
        tail = _tail_share(facts, p50_s)
        if tail is not None and tail < facts.threshold("share"):
            return None
        stage = _stage_of_tail(facts) if is_run(facts) else OTHER
        if stage is None:
            return None  # all of it got slower: batches of different sizes, or a shared machine
        evidence = [
            Evidence(metric="p99 ÷ p50 of the step", value=ratio, unit="×", threshold=limit),
            Evidence(metric="p99", value=p99_s, unit="s"),
        ]
        if tail is not None:
            evidence.append(Evidence(metric="time above the median", value=tail, unit="share"))
        return Finding(
            stage=stage,
            title=f"One step in a hundred takes {ratio:.1f} times the median or longer"
            + (f", most of that in {stage_words(stage)}" if is_run(facts) else ""),
            advice=_what_to_find_out(facts, stage),
            change={},
            snippet="",
            evidence=tuple(evidence),
            cause=self.cause,
            predicted=None if tail is None else up_to_of_steps(facts, tail),
            confidence=0.5,
            effort="lines",
        )


def _what_to_find_out(facts: Facts, stage: str) -> str:
    if is_run(facts):
        return (
            f"Find out what is different in the {stage_words(stage)} of these steps: larger "
            "samples, files that are opened, memory that is asked for."
        )
    return (
        f"`{RUN}` tells in which stage these steps spend their time. If batches differ in size, "
        "that alone explains it."
    )


def _stage_of_tail(facts: Facts) -> str | None:
    """The stage that most of what slow steps take longer goes into; None where they are slower
    all over, in about the proportions of the others."""
    within = [name for name in facts.get("stages") if not is_between(facts, name)]
    parts = {name: in_stalls(facts, name) for name in within}
    stage = max(parts, key=lambda name: parts[name], default=None)
    if stage is None or parts[stage] < _MOSTLY:
        return None
    usual = facts.known(f"stages.{stage}.share") or 0.0
    return stage if parts[stage] > _OUT_OF_PROPORTION * usual else None


def _how_often(facts: Facts) -> str | None:
    """In words, if stalls are regular. PD104 tells of epoch starts that workers may explain."""
    if _at_epoch_start(facts):
        return None if workers_restart(facts) else "The first step of every epoch"
    period = facts.known("stalls.period_steps")
    if period is None or period <= 0 or period == facts.known(_ACCUMULATION):
        return None
    return f"Every {grouped(period)} steps one"


def _at_epoch_start(facts: Facts) -> bool:
    path = "stalls.at_epoch_start"
    return facts.has(path) and facts.get(path) is True


def _named_elsewhere(facts: Facts) -> bool:
    """Whether others name the line: PD111 of data, PD503 and PD506 of what is logged or drawn,
    PD214 of Python between the stages."""
    if max(data_in_stalls(facts), in_stalls(facts, LOGGING)) > _MOSTLY:
        return True
    return in_stalls(facts, OTHER) > _MOSTLY and bool(hot_lines(facts, OTHER))


def _likely(facts: Facts) -> tuple[str, str | None]:
    """What comes as often, and the cause of the rule that speaks of it."""
    try:
        parts = wall_parts(facts)
    except Missing:
        parts = {}
    for name, cause in (("checkpoint", CHECKPOINT_CAUSE), ("validation", VALIDATION_CAUSE)):
        if name in parts and stalls_are_of(facts, parts[name]):
            counted = parts[name].count > 1
            return f"{name}s {'come as often' if counted else 'take as long in all'}", cause
    if data_in_stalls(facts) > _MOSTLY:
        return "it waits for data; another file, or something done while the loop waits?", None
    return "checkpoint, evaluation or logging?", None


def _evidence(facts: Facts, share: float, limit: float, each_s: float) -> tuple[Evidence, ...]:
    found = [
        Evidence(metric="time in stalls", value=share, unit="share of steps", threshold=limit),
        Evidence(metric="each, more than a usual step", value=each_s, unit="s"),
    ]
    for name, metric in (("count", "stalls"), ("period_steps", "steps between them")):
        number = facts.known(f"stalls.{name}")
        if number is not None:
            found.append(Evidence(metric=metric, value=number, unit=""))
    return tuple(found)


def _explained(facts: Facts) -> bool:
    regular = facts.known("stalls.period_steps") is not None or _at_epoch_start(facts)
    return regular or shape(facts) not in (None, "steady")


def _tail_share(facts: Facts, p50_s: float) -> float | None:
    """The part of the time that steps take beyond the median."""
    mean_s = facts.known("steps.time.mean_s")
    return None if mean_s is None or mean_s <= 0 else max(0.0, 1 - p50_s / mean_s)
