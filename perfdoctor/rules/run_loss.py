"""PD212: a loss of the script's own that goes over samples, pairs or classes in Python."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside
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
#: The loss's part of the backward passes, where it was seen.
_OF_BACKWARD = "configuration.loss_of_backward"
#: How well it is known: it differs so much from step to step.
_KNOWN = (0.9, 1.0, 1.1)
#: torch's own losses, which are vectorised.
_TORCH_LOSS = r"Loss\.forward|functional|cross_entropy|_loss\b|kl_div|ctc"
#: So much of a loss must be seen in the script's own lines.
_MOSTLY = 0.5
#: The backward pass through a loop over small operations ÷ the loop itself: least, median, most of
#: loops over pairs, samples, triplets and classes (own measurement, torch 2.13, processor time of
#: one thread).
_LOOP_BACKWARD = Gone(0.9, 1.7, 2.2)
#: The same of models: two convolutional ones, linear layers, a transformer, LSTM, GRU, embeddings
#: (measured alike).
_MODEL_BACKWARD = Gone(0.7, 1.7, 2.1)
#: A backward pass ÷ its forward pass, of a model made of matrix products: two products for one.
_BACKWARD_TIMES = 2.0
_PAIRS = """\
distances = torch.cdist(z, z)  # all pairs at once
same = labels[:, None] == labels[None, :]
loss = torch.where(same, distances, (margin - distances).clamp(min=0)).mean()"""
_PRODUCTS = """\
z = torch.nn.functional.normalize(z, dim=1)
similarities = z @ z.T  # one matrix product for all pairs"""


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
    that adds `operations` to the graph of one step, with what the backward pass takes for these;
    where that is measured, no lines are needed.
    - `share` = 0.2 (source: xprof and TraceML call a stage high from 20 %)
    - `operations` = 300 (source: our own choice, as PD216 has it; a loss of torch's has about ten)

    ## What to change
    Compute all samples or pairs at once: matrix products, `torch.cdist`, broadcasting, masks.

    ## How the gain is predicted
    Without what goes of such Python when it is written with tensors, 40 % at least, 95 % likely
    (`python benchmarks/mended_lines.py`), of the loss and of its part of the backward pass. On a
    CPU that part is measured in some steps: the time until the first operation of the model is
    asked for its gradients. Elsewhere it is what is longer than two forward passes, since a
    backward pass is two products for one; where the loss is many operations, 0.9 times the loss at
    least, likely the mean of two estimates, 1.7 times the loss and what is more than 1.7 forward
    passes, and at most what is more than 0.7 of these (own measurements of loops and of models).
    Lines that only call torch's operations may be as fast as they can be.

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
        told, untold = _told(hot_lines(facts, LOSS))
        share = stage_share(facts, LOSS) * (1.0 - share_in(facts, told, LOSS))
        nodes = facts.known(_NODES) or 0.0
        lines = [n for n in untold if not re.search(_TORCH_LOSS, n.library)]
        looped = nodes >= facts.threshold("operations")
        through = _through(facts, share, looped)
        seen = looped or facts.has(_OF_BACKWARD)
        whole = min(1.0, share + through.likely) if seen else share
        if whole < facts.threshold("share"):
            return None
        known = looped and facts.has(_OF_BACKWARD)  # what it does and takes, without its lines
        if not known and share_in(facts, lines, LOSS) < _MOSTLY:
            return None
        line = lines[0] if lines else None
        gone = VECTORISED if looped else _rewritten(facts, lines).ends
        ends = [(share + part) * goes for part, goes in zip(through.ends, gone, strict=True)]
        return Finding(
            stage=LOSS,
            title=_title(share, whole, nodes if looped else None, line, whole_loss=not told),
            advice=_advice(line, looped),
            change={"loss": "vectorised"},
            snippet=_PAIRS if looped else _PRODUCTS,
            evidence=(*_evidence(facts, share, nodes, looped), *line_evidence(lines)),
            cause=self.cause,
            predicted=without(1.0, *ends),
            confidence=0.75,
            effort="lines",
            safety="numerics",
        )


def _told(lines: list[HotLine]) -> tuple[list[HotLine], list[HotLine]]:
    """Those of which PD238 or PD243 speaks, and the others."""
    told = [line for line in lines if line.makes or line.same_in]
    return told, [line for line in lines if line not in told]


def _advice(line: HotLine | None, looped: bool) -> str:
    name = "the loss" if line is None else f"`{line.function or line.place}`"
    if looped:
        return (
            f"If {name} goes over samples, pairs or classes in Python, compute them all at once "
            "with tensors (broadcasting, masks, torch.cdist)."
        )
    return (
        f"Look whether {name} does more than it must: what stays the same from step to step "
        "(weights, masks, neighbours of the targets) can be made once for each sample; matrix "
        "products instead of broadcasting all pairs; one operation instead of a Python loop."
    )


def _title(
    share: float, whole: float, nodes: float | None, line: HotLine | None, *, whole_loss: bool
) -> str:
    what, more = "loss" if whole_loss else "rest of the loss", ""
    if nodes is not None:
        more = f", and the backward pass goes through its {grouped(nodes)} operations again"
    elif whole > share:
        more = f", with its part of the backward pass {percent(whole)}"
    return f"The {what} takes {percent(share)} of the training{more}{at(line)}"


def _evidence(facts: Facts, share: float, nodes: float, looped: bool) -> list[Evidence]:
    of_backward = facts.known(_OF_BACKWARD)
    least = facts.threshold("share") if of_backward is None and not looped else None
    found = [Evidence(metric="loss", value=share, unit="share of training", threshold=least)]
    if of_backward is not None or looped:
        backward = stage_share(facts, BACKWARD)
        found.append(
            Evidence(metric="backward, all of it", value=backward, unit="share of training")
        )
    if of_backward is not None:
        found.append(Evidence(metric="the loss's part of it", value=of_backward, unit="share"))
    if looped:
        found.append(beside(facts, "operations of the loss", nodes, "", "operations"))
    return found


def _through(facts: Facts, share: float, looped: bool) -> Gone:
    """What the backward pass through the loss takes of the training."""
    backward, forward = stage_share(facts, BACKWARD), stage_share(facts, FORWARD)
    seen = facts.known(_OF_BACKWARD)
    if seen is not None:
        return Gone(*(min(backward, backward * seen * part) for part in _KNOWN))
    if not looped:
        rest = max(0.0, backward - _BACKWARD_TIMES * forward)
        return Gone(0.0, rest, rest)
    beyond = [max(0.0, backward - times * forward) for times in _MODEL_BACKWARD.ends]
    loop = [share * times for times in _LOOP_BACKWARD.ends]
    parts = (loop[0], (loop[1] + beyond[1]) / 2, max(loop[2], beyond[0]))
    return Gone(*(min(backward, part) for part in parts))


def _rewritten(facts: Facts, lines: list[HotLine]) -> Gone:
    """Of a loss whose operations are few, or were not counted by themselves."""
    many = (facts.known("configuration.autograd_nodes") or 0.0) >= facts.threshold("operations")
    return rewritten(lines, looped=many and not facts.has(_NODES))
