"""PD212: a loss of the script's own that goes over samples, pairs or classes in Python."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.mended import VECTORISED, Gone, rewritten
from perfdoctor.rules.observed import (
    RUNS,
    HotLine,
    at,
    hot_lines,
    line_evidence,
    share_in,
    stage_share,
    without,
)
from perfdoctor.rules.wording import grouped, percent
from perfdoctor.stages import BACKWARD, FORWARD, LOSS

_NODES = "configuration.loss_nodes"
#: torch's own losses, which are vectorised.
_TORCH_LOSS = r"Loss\.forward|functional|cross_entropy|_loss\b|kl_div|ctc"
#: So much of a loss must be seen in the script's own lines.
_MOSTLY = 0.5
#: The backward pass through a loop over small operations ÷ the loop itself: least, median, most of
#: loops over pairs, samples, triplets and classes (own measurement, torch 2.13, processor time of
#: one thread).
LOOP_BACKWARD = Gone(0.9, 1.7, 2.2)
#: The same of models: two convolutional ones, linear layers, a transformer, LSTM, GRU, embeddings
#: (measured alike).
_MODEL_BACKWARD = Gone(0.7, 1.7, 2.1)
#: A backward pass ÷ its forward pass, of a model made of matrix products: two products for one.
_BACKWARD_TIMES = 2.0


class SlowLoss:
    """The script's own loss takes a large part of the training.

    ## What it does
    Looks at the share of the loss, at the lines that its time goes into, and at how many operations
    it adds to the backward pass.

    ## Why it is slow
    A loss that goes over samples, pairs or classes in a Python loop starts many small operations,
    and the backward pass goes through every one of them again.

    ## Evidence and threshold
    The share of the training that is the loss, half of it in lines of the script itself. Of a loss
    that adds `operations` to the graph of one step, with what the backward pass takes for these.
    - `share` = 0.2 (source: xprof and TraceML call a stage high from 20 %)
    - `operations` = 300 (source: our own choice, as PD216 has it; a loss of torch's has about ten)

    ## What to change
    Compute all samples or pairs at once: matrix products, `torch.cdist`, broadcasting, masks.

    ## How the gain is predicted
    Without what goes of such Python when it is written with tensors, 40 % at least, 95 % likely
    (`python benchmarks/mended_lines.py`); and as much of that part of the backward pass which is
    longer than two forward passes, since a backward pass is two products for one. Where the loss
    is many operations, its part of the backward pass is 0.9 times the loss at least, likely the
    mean of two estimates, 1.7 times the loss and what is more than 1.7 forward passes, and at most
    what is more than 0.7 of these (own measurements of loops and of models). Lines that only call
    torch's operations may be as fast as they can be.

    ## When not to
    Where all pairs at once do not fit into memory: then in blocks.
    """

    code: ClassVar[str] = "PD212"
    name: ClassVar[str] = "slow-loss"
    needs: ClassVar[tuple[str, ...]] = ("stages", "hotspots")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "slow-loss"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.20, "operations": 300.0}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the loss is large and its time is in the script's own lines."""
        share, nodes = stage_share(facts, LOSS), facts.known(_NODES) or 0.0
        lines = [n for n in hot_lines(facts, LOSS) if not re.search(_TORCH_LOSS, n.library)]
        looped = nodes >= facts.threshold("operations")
        whole = min(1.0, share * (1 + LOOP_BACKWARD.likely)) if looped else share
        if whole < facts.threshold("share") or share_in(facts, lines, LOSS) < _MOSTLY:
            return None
        line = lines[0]
        return Finding(
            stage=LOSS,
            title=_title(share, nodes if looped else None, line),
            advice=f"If `{line.function or line.place}` goes over samples, pairs or classes in "
            "Python, compute them all at once with tensors (broadcasting, masks, torch.cdist).",
            change={"loss": "vectorised"},
            snippet="distances = torch.cdist(z, z)  # all pairs at once\n"
            "same = labels[:, None] == labels[None, :]\n"
            "loss = torch.where(same, distances, (margin - distances).clamp(min=0)).mean()",
            evidence=(*_evidence(facts, share, nodes, looped), *line_evidence(lines)),
            cause=self.cause,
            predicted=_looped(facts, share) if looped else _unknown(facts, lines, share),
            confidence=0.75,
            effort="lines",
            safety="numerics",
        )


def _title(share: float, nodes: float | None, line: HotLine) -> str:
    more = ""
    if nodes is not None:
        more = f", and the backward pass goes through its {grouped(nodes)} operations again"
    return f"The loss takes {percent(share)} of the training{more}{at(line)}"


def _evidence(facts: Facts, share: float, nodes: float, looped: bool) -> tuple[Evidence, ...]:
    if not looped:
        least = facts.threshold("share")
        return (Evidence(metric="loss", value=share, unit="share of training", threshold=least),)
    return (
        Evidence(metric="loss", value=share, unit="share of training"),
        Evidence(
            metric="backward, all of it",
            value=stage_share(facts, BACKWARD),
            unit="share of training",
        ),
        Evidence(
            metric="operations of the loss",
            value=nodes,
            unit="",
            threshold=facts.threshold("operations"),
        ),
    )


def _looped(facts: Facts, share: float) -> Prediction:
    """What goes of a loss of many operations, and of the backward pass through them."""
    backward, forward = stage_share(facts, BACKWARD), stage_share(facts, FORWARD)
    rest = [max(0.0, backward - times * forward) for times in _MODEL_BACKWARD.ends]
    through = [share * times for times in LOOP_BACKWARD.ends]
    parts = (through[0], (through[1] + rest[1]) / 2, max(through[2], rest[0]))
    ends = [
        (share + min(backward, part)) * gone for part, gone in zip(parts, VECTORISED, strict=True)
    ]
    return without(1.0, *ends)


def _unknown(facts: Facts, lines: list[HotLine], share: float) -> Prediction:
    """Where its operations are few, or were not counted by themselves: at least of the loss."""
    through = max(0.0, stage_share(facts, BACKWARD) - _BACKWARD_TIMES * stage_share(facts, FORWARD))
    many = (facts.known("configuration.autograd_nodes") or 0.0) >= facts.threshold("operations")
    gone = rewritten(lines, looped=many and not facts.has(_NODES))
    low = gone.low * share / (share + through)
    return without(share + through, low, gone.likely, gone.high)
