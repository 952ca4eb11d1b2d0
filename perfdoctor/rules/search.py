"""PD402, PD403: the architecture step of a differentiable architecture search."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.enough import RECORDS, require
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.gains import from_less_work, from_probe, probe, probe_evidence
from perfdoctor.rules.logs import wall_parts, whole_number
from perfdoctor.rules.made_models import made_in_search
from perfdoctor.rules.observed import hot_lines, is_run, left_over
from perfdoctor.rules.one_by_one import of_the_architecture
from perfdoctor.rules.run_gains import factor_for, rarer
from perfdoctor.rules.run_search import sane_schedule, second_order_in_run
from perfdoctor.rules.sample_gradients import are_of_the_architecture
from perfdoctor.rules.whole_run import is_whole
from perfdoctor.rules.wording import duration, percent
from perfdoctor.stages import ARCH_STEP

_SHARE = "stages.arch_step.share"
_CALLS = "stages.arch_step.calls_per_step"
_EVERY = "configuration.arch_every"
_CAUSE = "architecture-step"
_FACTORS = (2, 5, 10, 20, 50)
#: Lines that any architecture step consists of, by what they call or the function they are in.
_PASSES = r"backward|\bgrad\b|unroll|hessian|(?:^|[._])(?:step|forward|loss)$"
#: So much of its lines' time is one line where that is what it is about.
_ABOUT_IT = 0.5


class ArchitectureStepTooFrequent:
    """The architecture is updated so often that it takes a large part of the training.

    ## What it does
    Looks at the share of time that updates of the architecture parameters take.

    ## Why it is slow
    Each of them is a forward and a backward pass on validation data beside the training step, or
    several in second order. The architecture changes far more slowly than the weights, and gains
    little from being updated after every one of their steps.

    ## Evidence and threshold
    The share of the training that is the architecture step; in a log that tells only the times of
    epochs, its share of the wall clock.
    - `share` = 0.1 (source: our own choice, half of the 20 % from which xprof and TraceML call a
      stage high)
    - `left` = 0.2 (source: from there on they call it high; each update that is left out changes
      the search, so no more are than that takes)

    ## What to change
    An architecture step every k training steps, with the smallest of 2, 5, 10, 20 and 50 times
    the present interval that leaves it no more than that share.

    ## How the gain is predicted
    Exactly: the same step, less often. Only the share itself is uncertain; from a log by a quarter.

    ## When not to
    It changes the search: with fewer architecture updates the result may differ. So it is only an
    option where they are already rarer than the training steps and in first order, and beside what
    makes the same step faster as it is (PD243, PD409, PD411). Raise the learning rate of the
    architecture, or search longer, if the architecture stops moving; keep enough updates for a
    short search.
    """

    code: ClassVar[str] = "PD402"
    name: ClassVar[str] = "architecture-step-too-frequent"
    needs: ClassVar[tuple[str, ...]] = ("stages",)
    verify_with: ClassVar[str | None] = "arch-every"
    cause: ClassVar[str] = _CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.10, "left": 0.20}

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if there is an architecture step and it takes too large a share."""
        wanted = facts.threshold("share")
        require(facts, (RECORDS,))
        if not facts.has("stages.arch_step"):
            return _of_the_run(facts, wanted)
        share = facts.number(_SHARE)
        if share <= wanted:
            return None
        every = _arch_every(facts)
        factor = factor_for(share, facts.threshold("left"), _FACTORS, _count(facts))
        new = every * factor
        return Finding(
            stage=ARCH_STEP,
            title=f"The architecture step takes {percent(share)} of the training",
            advice=f"Update the architecture every {new} training steps instead of "
            f"{'every step' if every == 1 else f'every {every}'}, and check that the search still "
            f"finds as good an architecture.{_mostly(facts)}",
            change={"arch_every": new},
            snippet=f"if step % {new} == 0:\n    architecture_step(...)",
            evidence=(
                Evidence(
                    metric="architecture step", value=share, unit="share of step", threshold=wanted
                ),
                Evidence(metric="training steps per architecture step", value=every, unit=""),
            ),
            cause=self.cause,
            predicted=from_less_work(facts, ARCH_STEP, left_over(factor, _count(facts))),
            # Searching less is a trade: what is merely wasted comes first where it brings as much.
            confidence=0.7,
            effort="lines",
            safety="semantics",
            optional=sane_schedule(facts) or _is_wasted(facts) or made_in_search(facts),
            behind=made_in_search(facts),
        )


def _is_wasted(facts: Facts) -> bool:
    """Whether much of it goes into gradients that could be had at once."""
    return of_the_architecture(facts) or are_of_the_architecture(facts)


def _mostly(facts: Facts) -> str:
    """Of the line that most of it is, where that is no pass through the network."""
    lines = hot_lines(facts, ARCH_STEP)
    if not lines or lines[0].share < _ABOUT_IT * sum(line.share for line in lines):
        return ""
    line = lines[0]
    if line.makes:
        return ""  # PD243 speaks of it
    if re.search(_PASSES, line.function) or re.search(_PASSES, line.library.partition(".")[0]):
        return ""
    return f" Most of it is {line.place} `{line.function}`: look whether that has to be done anew."


class SecondOrderArchitectureStep:
    """The architecture step differentiates through an unrolled weight update.

    ## What it does
    Looks for a second-order architecture step (DARTS, equation 7) that takes a visible share.

    ## Why it is slow
    Second order takes a copy of the weights one step further, and two more passes for the
    finite-difference product with the Hessian: about five passes where first order needs one.

    ## Evidence and threshold
    The share of the architecture step, and a probe of the same step in first order.
    - `share` = 0.1 (source: our own choice, half of the 20 % from which xprof and TraceML call a
      stage high)
    - `probe_low` = 1.05 (source: above what the 2.1 % by which the median of identical blocks
      varied on a loaded two-core machine can feign; the probe's lower end must pass it)

    ## What to change
    First order (`unrolled=False` in DARTS): the gradient of the validation loss at the present
    weights.

    ## How the gain is predicted
    Amdahl's law over the share of the architecture step, with the interval of the probe. Without
    one, of an observed script whose lines copy or unroll the model: the step becomes as long as
    one forward and backward pass of the training step.

    ## When not to
    It changes the search. DARTS reports slightly worse architectures in first order (CIFAR-10
    error 3.00 % against 2.76 %, arXiv:1806.09055, table 1).
    """

    code: ClassVar[str] = "PD403"
    name: ClassVar[str] = "second-order-architecture-step"
    needs: ClassVar[tuple[str, ...]] = ("stages",)
    verify_with: ClassVar[str | None] = "arch-order"
    cause: ClassVar[str] = _CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.10, "probe_low": 1.05}

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the step is of second order and first order was measured to be faster."""
        share = _arch_share(facts)
        if share is None:
            return None
        if is_run(facts) and not facts.has("probes.arch_first_order"):
            return second_order_in_run(facts, self.cause)
        if share <= facts.threshold("share") or facts.number("configuration.arch_order") != 2:
            return None
        measured = probe(facts, "arch_first_order")
        if measured.low <= facts.threshold("probe_low"):
            return None
        return Finding(
            stage=ARCH_STEP,
            title=f"The architecture step is of second order and takes {percent(share)} of the "
            "training",
            advice="Use the first-order step (unrolled=False), and check that the search still "
            "finds as good an architecture.",
            change={"arch_order": 1},
            snippet="architect.step(inputs, target, val_inputs, val_target, lr, optimizer, "
            "unrolled=False)",
            evidence=(
                Evidence(
                    metric="architecture step",
                    value=share,
                    unit="share of step",
                    threshold=facts.threshold("share"),
                ),
                probe_evidence(facts, measured, "second ÷ first order step time"),
            ),
            cause=self.cause,
            predicted=from_probe(facts, measured),
            confidence=0.8,
            effort="flag",
            safety="semantics",
        )


def _arch_share(facts: Facts) -> float | None:
    """Of the steps, or of the wall clock where a log tells only that; None without a search."""
    if facts.has("stages.arch_step"):
        return facts.number(_SHARE)
    if not facts.has("wall"):
        return None
    part = wall_parts(facts).get(ARCH_STEP)
    return None if part is None else part.share


def _of_the_run(facts: Facts, wanted: float) -> Finding | None:
    """PD402 where the time of the architecture steps is known only for the run or its epochs."""
    share = _arch_share(facts)
    if share is None or share <= wanted:
        return None
    spent_s = wall_parts(facts)[ARCH_STEP].seconds
    factor = factor_for(share, facts.threshold("left"), _FACTORS)
    every = whole_number(facts, _EVERY)
    new = None if every is None else every * factor
    often = f"{factor} times as rarely" if new is None else f"every {new} training steps"
    return Finding(
        stage=ARCH_STEP,
        title=f"The architecture step takes {percent(share)} of the run ({duration(spent_s)})",
        advice=f"Update the architecture {often}, and check that the search "
        "still finds as good an architecture.",
        change={} if new is None else {"arch_every": new},
        snippet=f"if step % {new or f'({factor} * arch_every)'} == 0:\n    architecture_step(...)",
        evidence=(
            Evidence(
                metric="architecture step, of the run", value=share, unit="share", threshold=wanted
            ),
        ),
        cause=_CAUSE,
        predicted=rarer(share, factor),
        confidence=0.7,
        effort="lines",
        safety="semantics",
    )


def _count(facts: Facts) -> int | None:
    """Architecture steps of a whole run that was observed."""
    often, steps = facts.known(_CALLS), facts.known("steps.count")
    return max(1, round(often * steps)) if often and steps and is_whole(facts) else None


def _arch_every(facts: Facts) -> int:
    """As configured; a run that does not say it shows how often the stage ran."""
    if facts.has(_EVERY):
        return max(1, int(facts.number(_EVERY)))
    if not facts.has(_CALLS) or facts.number(_CALLS) <= 0:
        raise Missing(_EVERY)
    return max(1, round(1 / facts.number(_CALLS)))
