"""PD410: the architecture's backward pass also computes gradients of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RUNS, at, hot_lines, line_evidence, stage_share, without
from perfdoctor.rules.unused_gradients import BESIDE_GOES
from perfdoctor.rules.wording import percent
from perfdoctor.stages import ARCH_STEP

_GIVES = "configuration.search_gives_weights_gradients"
_BACKWARD_S = "configuration.search_backward_s"
#: Of a forward and a backward pass the backward pass, where it was not timed: two products for each
#: one of the forward pass.
_BACKWARD_OF_BOTH = 2 / 3


class WeightGradientsInSearch:
    """Each step of the architecture also computes gradients of all weights, which are cleared.

    ## What it does
    Looks, in the first steps of an observed script, whether the weights have new gradients after a
    step of the architecture's optimizer, and whether they are cleared before the weights' own
    backward pass.

    ## Why it is slow
    `loss.backward()` computes the gradients of everything that the loss rests on. A step of the
    architecture only needs those of the architecture; of each layer's two products with its
    gradient, the one for its weight is for nothing.

    ## Evidence and threshold
    The share of the training that these gradients likely take.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    `torch.autograd.grad(loss, architecture)`, which computes only what leads there, and its result
    into `.grad` before the optimizer's step.

    ## How the gain is predicted
    Of the backward passes of the architecture's steps, as timed, 30 %, 50 % and 70 % go away, since
    one of a layer's two gradients stays. Where they were not timed they are two thirds of the step.

    ## When not to
    Where the gradients of the weights on validation data are used, as for a second-order step.
    """

    code: ClassVar[str] = "PD410"
    name: ClassVar[str] = "weight-gradients-in-search"
    needs: ClassVar[tuple[str, ...]] = (_GIVES, "stages.arch_step")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "architecture-step"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if they are computed for nothing and take a visible share."""
        whole, backward = stage_share(facts, ARCH_STEP), _backward(facts)
        share = whole * backward * BESIDE_GOES[1]
        if not facts.flag(_GIVES) or share < facts.threshold("share"):
            return None
        lines = [line for line in hot_lines(facts, ARCH_STEP) if line.calls("backward")]
        return Finding(
            stage=ARCH_STEP,
            title="Steps of the architecture compute gradients of the weights too, which are "
            f"cleared: {percent(share)} of the training{at(lines[0] if lines else None)}",
            advice="Ask for the architecture's gradients alone, with torch.autograd.grad. What the "
            "search finds stays the same.",
            change={"search_gradients": "architecture"},
            snippet="grads = torch.autograd.grad(loss, architecture_parameters)\n"
            "for parameter, grad in zip(architecture_parameters, grads):\n"
            "    parameter.grad = grad\n"
            "architecture_optimizer.step()",
            evidence=(
                beside(facts, "gradients of the weights", share, "share of training", "share"),
                Evidence(metric="backward pass", value=backward, unit="share of the step"),
                Evidence(metric="architecture step", value=whole, unit="share of training"),
                *line_evidence(lines, 1),
            ),
            cause=self.cause,
            predicted=without(whole, *(backward * part for part in BESIDE_GOES)),
            confidence=0.85,
            effort="lines",
        )


def _backward(facts: Facts) -> float:
    """The part of such a step that is its backward passes."""
    took_s, step_s = facts.known(_BACKWARD_S), facts.known(f"stages.{ARCH_STEP}.mean_s")
    if took_s is None or not step_s:
        return _BACKWARD_OF_BOTH
    return min(1.0, took_s / step_s)
