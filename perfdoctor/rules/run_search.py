"""PD403 of an observed script: a second-order architecture step by its lines and its time."""

from __future__ import annotations

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.made_models import made_in_search
from perfdoctor.rules.observed import hot_lines, line_evidence, stage_share, without
from perfdoctor.rules.wording import percent
from perfdoctor.stages import ARCH_STEP, BACKWARD, FORWARD, LOSS

#: An architecture step in first order is one forward and one backward pass, so from twice as long
#: as those of the training step on there is more in it (the reference counts 4 + 5 against 1 + 1).
TWICE = 2.0
#: Training steps for each architecture step from which it is rarer than in DARTS.
_RARELY = 2
_EVERY = "configuration.arch_every"
_BACKWARDS = "configuration.arch_backwards"
_UNROLLS = r"deepcopy|unroll|hessian|hvp|vector_product|second_order|virtual|load_state_dict"


def sane_schedule(facts: Facts) -> bool:
    """Whether the architecture is updated less often than the weights, and in first order.

    DARTS updates it in each step (arXiv:1806.09055, algorithm 1). Whoever does so more rarely has
    chosen how much the search may take, and one plain pass for it is what the search computes.
    """
    often, every = facts.known(f"stages.{ARCH_STEP}.calls_per_step"), facts.known(_EVERY)
    rarely = 1 / often if often else every
    passes_s, step_s = _passes_s(facts), facts.known(f"stages.{ARCH_STEP}.mean_s")
    if rarely is None or step_s is None or passes_s <= 0:
        return False
    return round(rarely) >= _RARELY and step_s < TWICE * passes_s


def _passes_s(facts: Facts) -> float:
    """Seconds of the training step's forward and backward pass."""
    return sum(facts.known(f"stages.{n}.mean_s") or 0.0 for n in (FORWARD, LOSS, BACKWARD))


def second_order_in_run(facts: Facts, cause: str) -> Finding | None:
    """A finding if the step is much longer than one pass and unrolls, as its lines tell. With a
    single computation of gradients it is of first order, whatever is copied for it."""
    if facts.known(_BACKWARDS) == 1:
        return None
    share, limit = stage_share(facts, ARCH_STEP), facts.threshold("share")
    passes_s = _passes_s(facts)
    step_s = facts.number(f"stages.{ARCH_STEP}.mean_s")
    lines = [line for line in hot_lines(facts, ARCH_STEP) if line.calls(_UNROLLS)]
    if share <= limit or not lines or passes_s <= 0 or step_s < TWICE * passes_s:
        return None
    gone = 1 - passes_s / step_s
    times = step_s / passes_s
    return Finding(
        stage=ARCH_STEP,
        title=f"The architecture step takes {percent(share)} of the training, {times:.1f} times "
        f"one forward and backward pass – {lines[0].words}",
        advice="Use the first-order step (the gradient at the present weights, without a copy of "
        "the model one step further), and check that the search still finds as good an "
        "architecture.",
        change={"arch_order": 1},
        snippet="loss = criterion(model(val_inputs), val_targets)\n"
        "grads = torch.autograd.grad(loss, model.arch_parameters())",
        evidence=(
            Evidence(
                metric="architecture step", value=share, unit="share of training", threshold=limit
            ),
            Evidence(
                metric="architecture step ÷ forward and backward",
                value=times,
                unit="×",
                threshold=TWICE,
            ),
            *line_evidence(lines),
        ),
        cause=cause,
        predicted=without(share, 0.7 * gone, gone, gone),
        confidence=0.8,
        effort="lines",
        safety="semantics",
        optional=made_in_search(facts),
        behind=made_in_search(facts),
    )
