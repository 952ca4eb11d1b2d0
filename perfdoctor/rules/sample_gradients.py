"""PD411: gradients of single samples are taken in a loop through the graph of the whole batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import (
    RUNS,
    HotLine,
    beside_steps,
    hot_lines,
    line_evidence,
    stage_share,
    without,
)
from perfdoctor.rules.wording import grouped, percent
from perfdoctor.stages import ARCH_STEP, BACKWARD

_SECONDS, _CALLS = "configuration.sample_gradients_s", "configuration.sample_gradients_calls"
_AT, _IN = "configuration.sample_gradients_at", "configuration.sample_gradients_in"
#: Passes through the graph that one vectorised way takes: a double backward pass about three, a
#: Jacobian-vector product one, gradients that are kept for each sample more (our own choice).
_PASSES = (6.0, 3.0, 1.0)


class GradientsSampleBySample:
    """Gradients of single samples are taken in a loop through the graph of the whole batch.

    ## What it does
    Times, in the first steps of an observed script, the calls of `torch.autograd.grad` on single
    elements of one tensor, as the losses of a batch's samples, for the same inputs each time.

    ## Why it is slow
    Every call goes through the graph of the whole batch, with zeros for all samples but one: for a
    batch of 16 that is 16 backward passes where the work of one or two would do.

    ## Evidence and threshold
    The time of these calls, of which a step makes eight or more: fewer are losses of tasks, which
    need a pass each.
    - `share` = 0.1 (source: our own choice, half of the 20 % from which xprof and TraceML call a
      stage high)

    ## What to change
    Where the gradients themselves are needed: `torch.func.vmap(torch.func.grad(loss_of_one))`.
    Where only their products with a vector are, no gradient of a sample is: `torch.func.jvp` of the
    losses along it gives all of them in one pass, and so does a double backward pass.

    ## How the gain is predicted
    Amdahl's law: of so many passes three are left, as a double backward pass takes; six at most,
    where the gradients of all samples are kept, and one at least.

    ## When not to
    Where layers mix samples, as batch normalisation in training mode does: then a sample has no
    gradient of its own.
    """

    code: ClassVar[str] = "PD411"
    name: ClassVar[str] = "gradients-sample-by-sample"
    needs: ClassVar[tuple[str, ...]] = (_SECONDS, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "gradients-sample-by-sample"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.10}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if such calls take a visible share."""
        seconds = facts.number(_SECONDS)
        share = _share(facts, seconds)
        if share < facts.threshold("share"):
            return None
        calls, lines = facts.number(_CALLS), _its_lines(facts)
        at = f" – {facts.text(_AT)} `{facts.text(_IN)}`"
        return Finding(
            stage=_stage(lines),
            title=f"Gradients of single samples are taken in {grouped(calls)} passes a step "
            f"through the graph of the batch: {percent(share)} of the training{at}",
            advice="Take them all at once: torch.func.vmap over torch.func.grad gives the gradient "
            "of every sample; where only their products with a vector are used, torch.func.jvp of "
            "the losses, or a double backward pass, gives those without any of them.",
            change={"gradients_of_samples": "vectorised"},
            snippet="v = torch.ones_like(losses, requires_grad=True)\n"
            "g = torch.autograd.grad((v * losses).sum(), params, create_graph=True)\n"
            "products, = torch.autograd.grad(g, v, grad_outputs=vector)  # of each sample",
            evidence=(
                beside(facts, "gradients of single samples", share, "share of training", "share"),
                Evidence(metric="such calls a step", value=calls, unit=""),
                *line_evidence(lines[:1]),
            ),
            cause=self.cause,
            predicted=without(share, *(max(0.0, 1 - passes / calls) for passes in _PASSES)),
            confidence=0.85,
            effort="lines",
            safety="numerics",
        )


def are_of_the_architecture(facts: Facts) -> bool:
    """Whether it is the architecture step that takes them: before anyone does it more rarely."""
    seconds = facts.known(_SECONDS) or 0.0
    if not seconds or _stage(_its_lines(facts)) != ARCH_STEP:
        return False
    return _share(facts, seconds) >= GradientsSampleBySample.thresholds["share"]


def _share(facts: Facts, seconds: float) -> float:
    """The calls' part of the training: no more than the stages they may be in."""
    step_s = facts.known("steps.time.mean_s") or facts.known("steps.time.p50_s")
    if not step_s:
        return 0.0
    part = seconds / step_s * (1 - beside_steps(facts))
    return min(part, sum(stage_share(facts, stage) for stage in (ARCH_STEP, BACKWARD)))


def _its_lines(facts: Facts) -> list[HotLine]:
    return [line for line in hot_lines(facts) if line.place == facts.get(_AT)]


def _stage(lines: list[HotLine]) -> str:
    """Where the calls are made: as their line tells."""
    return lines[0].stage if lines else BACKWARD
