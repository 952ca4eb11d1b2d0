"""PD405, PD406: what stands around the weight update, and when the search begins."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.enough import RECORDS
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.logs import whole_number
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RUNS, HotLine, at, hot_lines, line_evidence, without
from perfdoctor.rules.run_gains import up_to
from perfdoctor.rules.whole_run import epochs_in_all
from perfdoctor.rules.wording import grouped, on_cuda, percent
from perfdoctor.stages import ARCH_STEP, OPTIMIZER

_SLOW = r"clip_grad|grad_norm|zero_grad|unscale_|\bnorm\b"
_WAITS = r"\.item\b"
#: torch's own, which treat all tensors at once and clear with set_to_none unless told otherwise
#: (torch 2.4 to 2.13, on CPUs as on GPUs); how they were called is not known.
_ALREADY_AT_ONCE = r"^clip_grad|^_?clip_grads|^(?:Optimizer|Module)\.zero_grad$"
#: Of the time for clipping and clearing, the part that goes away when it is done for all tensors
#: at once (our own choice).
_AT_ONCE = (0.0, 0.5, 0.9)
_EPOCHS, _NUMBERS = "configuration.epochs", "series.epoch"
#: Epochs that a search begins without touching the architecture: "3 to 15" in projects' own guides
#: to slow searches, a tenth of the usual 50 of DARTS (arXiv:1806.09055).
_WARM_UP = 0.1


class SlowGradientHandling:
    """Clearing, clipping or measuring gradients takes a visible part of the training.

    ## What it does
    Looks for lines of an observed script that clip gradients, compute their norm or set them to
    zero, tensor by tensor. What torch's own functions take is not counted.

    ## Why it is slow
    A loop over parameters starts small operations for each of them; `.item()` on each norm makes
    the CPU wait for the device each time; zeros are written where nothing needs to be.

    ## Evidence and threshold
    The share of the training in these lines.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    `torch.nn.utils.clip_grad_norm_(model.parameters(), limit, foreach=True)` once,
    `optimizer.zero_grad(set_to_none=True)`, and no `.item()` on norms in every step.

    ## How the gain is predicted
    A range: none, half or nine tenths of these lines' time goes away.

    ## When not to
    Where each layer is clipped by itself on purpose: `torch._foreach_norm` does that at once, too.
    """

    code: ClassVar[str] = "PD405"
    name: ClassVar[str] = "slow-gradient-handling"
    needs: ClassVar[tuple[str, ...]] = ("hotspots",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "gradient-handling"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if such lines take a visible share."""
        lines = [line for line in hot_lines(facts, OPTIMIZER, "other") if _by_hand(line)]
        share = min(1.0, sum(line.share for line in lines))
        if share < facts.threshold("share"):
            return None
        waits = any(line.calls(_WAITS) for line in lines) and on_cuda(facts)
        return Finding(
            stage=OPTIMIZER,
            title=f"Clipping or clearing gradients takes {percent(share)} of the training"
            f"{at(lines[0])}",
            advice="Clip all parameters in one call with foreach=True and clear with "
            "zero_grad(set_to_none=True)"
            + ("; fetch norms now and then, not each step." if waits else "."),
            change={"gradient_handling": "foreach"},
            snippet="torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)\n"
            "optimizer.step()\n"
            "optimizer.zero_grad(set_to_none=True)",
            evidence=(
                beside(facts, "these lines", share, "share of training", "share"),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=without(share, *_AT_ONCE),
            confidence=0.5,
            effort="lines",
            safety="numerics",
        )


def _by_hand(line: HotLine) -> bool:
    return line.calls(_SLOW) and not re.search(_ALREADY_AT_ONCE, line.library)


class SearchWithoutWarmUp:
    """The architecture is searched from the first epoch on.

    ## What it does
    Looks for a differentiable search that updates the architecture in its first epoch, too, by
    the times of its steps, and for what those updates take.

    ## Why it is slow
    In the first epochs the weights say nothing yet about which operation is better, and each
    update of the architecture costs more than a training step.

    ## Evidence and threshold
    The share of the training that is the architecture step, and a number of epochs: as configured,
    or of a run that was observed to its own end.
    - `share` = 0.1 (source: our own choice, half of the 20 % from which xprof and TraceML call a
      stage high)
    - `epochs` = 10 (source: our own choice; a tenth of fewer is no epoch)

    ## What to change
    Train only the weights in the first tenth of the epochs.

    ## How the gain is predicted
    No more than a tenth of the architecture step's share, which is a bound.

    ## When not to
    It changes the search; compare what it finds.
    """

    code: ClassVar[str] = "PD406"
    name: ClassVar[str] = "search-without-warm-up"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = "arch-every"
    cause: ClassVar[str] = "architecture-step"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.10, "epochs": 10.0}
    rests_on: ClassVar[tuple[str, ...]] = (RECORDS,)

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires as an option if there is an architecture step and it takes a large share."""
        share = facts.known(f"stages.{ARCH_STEP}.share")
        if share is None or share < facts.threshold("share"):
            return None
        epochs = _epochs_in_all(facts)
        if epochs is None or epochs < facts.threshold("epochs") or _warms_up(facts, epochs):
            return None
        first = max(1, round(_WARM_UP * epochs))
        return Finding(
            stage=ARCH_STEP,
            title=f"The architecture step takes {percent(share)} of the training from the first "
            "epoch on",
            advice=f"Train only the weights in the first {grouped(first)} of {grouped(epochs)} "
            f"epochs: that saves up to {percent(share * first / epochs)}.",
            change={"arch_warmup_epochs": first},
            snippet=f"if epoch >= {first}:\n    architecture_step(...)",
            evidence=(
                beside(facts, "architecture step", share, "share of step", "share"),
                Evidence(metric="epochs", value=epochs, unit=""),
            ),
            cause=self.cause,
            predicted=up_to(share * first / epochs),
            confidence=0.5,
            effort="lines",
            safety="semantics",
            optional=True,
        )


def _epochs_in_all(facts: Facts) -> int | None:
    """As configured, or as many as a whole run had; None where the setting is no number.

    Raises `Missing` where neither is known.
    """
    seen = epochs_in_all(facts)
    if facts.has(_EPOCHS) or math.isinf(seen):
        facts.get(_EPOCHS)
        return whole_number(facts, _EPOCHS)
    return int(seen)


def _warms_up(facts: Facts, epochs: int) -> bool:
    """Whether no step of the first epoch updates the architecture, for longer than ever after.

    Raises `Missing` where the steps do not tell, or those of the first epoch are not among them.
    """
    numbers = [n for n in facts.get(_NUMBERS) if n is not None] if facts.has(_NUMBERS) else []
    if numbers and min(numbers) > 1:
        late = f"the first epoch that is known of is number {min(numbers):.0f}"
        raise Missing(_NUMBERS, f"{late}, so how the search began is not")
    search = np.nan_to_num(facts.series(f"{ARCH_STEP}_s"))
    places = np.flatnonzero(search > 0)
    if not places.size:
        return False
    first_epoch = search.size / (facts.known("epochs.count") or epochs)
    longest = np.diff(places).max(initial=0)
    return bool(places[0] >= max(first_epoch, longest))
