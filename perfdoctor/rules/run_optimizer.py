"""PD404, and what PD401 says of an observed script: the update without a probe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.decompositions import decomposing
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.observed import (
    RUNS,
    at,
    faster,
    hot_lines,
    line_evidence,
    share_in,
    stage_share,
)
from perfdoctor.rules.wording import grouped, on_cuda, percent
from perfdoctor.stages import OPTIMIZER

_HOME = "configuration.optimizer_home"
_TENSORS = "configuration.tensors"
#: Optimizers of these packages are fused already, or their own kind of thing.
_ELSEWHERE = r"^(?:torch|apex|bitsandbytes|deepspeed|fairscale|colossalai|megatron|torchao)\b"
#: torch's optimizers by what people name their own after.
_LIKE = ("AdamW", "Adamax", "NAdam", "RAdam", "Adam", "RMSprop", "Adagrad", "SGD")
#: Numbers in a tensor up to which the time for it is one of starting operations.
_SMALL_TENSOR = 3_000
#: Update without ÷ with fused=True on a CPU, of small and of larger tensors: least, median, most of
#: `python benchmarks/optimizer_kernels.py`, 10 to 400 tensors of 64 to a million numbers, torch
#: 2.13, processor time of one thread.
_FUSED = {
    "Adam": ((3.5, 4.2, 5.2), (2.6, 3.0, 6.8)),
    "AdamW": ((3.5, 4.2, 5.2), (2.6, 3.0, 6.8)),
    "Adagrad": ((2.5, 2.8, 3.2), (2.4, 2.7, 5.5)),
    "SGD": ((2.5, 3.3, 3.6), (1.3, 2.0, 2.3)),
}
#: Of larger ones than this, with two threads, SGD's fused update once took 57 times as long.
_LARGE_FOR_SGD = 100_000
#: On a GPU torch takes foreach by itself; what fused adds there was not measured.
_FUSED_ON_GPU = (1.0, 1.3, 2.0)
#: What is counted as the optimizer's stage and is no update.
_AROUND = r"clip_grad|grad_norm|zero_grad|unscale_"
#: A hand-written update ÷ torch's fused one, 20 to 400 tensors of 64 to a million numbers (torch
#: 2.13, processor time of one thread): AdamW 4.2 to 9.0, SGD with momentum 1.8 to 9.6; the median
#: of all sixteen was 6.8.
_BY_HAND = (1.8, 6.8, 9.6)


class OptimizerInPython:
    """The optimizer is the script's own and updates parameters one by one in Python.

    ## What it does
    Looks for an optimizer that is not torch's and whose update takes a visible share.

    ## Why it is slow
    Each parameter tensor costs a dozen small operations started from Python. torch's optimizers
    update all of them with a few (`foreach`) or one (`fused`).

    ## Evidence and threshold
    Whose class the optimizer is, how many tensors it updates, and the share of the update, without
    what decomposes matrices in it, which takes as long for all tensors at once.
    - `share` = 0.1 (source: our own choice, half of the 20 % from which xprof and TraceML call a
      stage high)
    - `tensors` = 20 (source: our own choice; fewer are soon updated)

    ## What to change
    torch's optimizer of that kind with `fused=True`; where there is none, `torch._foreach_*`
    operations over lists of all parameters.

    ## How the gain is predicted
    Amdahl's law over the update: 1.8, 6.8 or 9.6 times as fast, as updates written by hand were
    when measured beside torch's fused ones.

    ## When not to
    Where the update is the object of the research and torch has none like it.
    """

    code: ClassVar[str] = "PD404"
    name: ClassVar[str] = "optimizer-in-python"
    needs: ClassVar[tuple[str, ...]] = (_HOME, "stages")
    verify_with: ClassVar[str | None] = "optimizer-fused"
    cause: ClassVar[str] = "optimizer-kernels"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.10, "tensors": 20.0}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the update is large, of many tensors and not torch's."""
        share, home = _update_share(facts), facts.text(_HOME)
        if re.match(_ELSEWHERE, home) or share < facts.threshold("share"):
            return None
        tensors = facts.number(_TENSORS)
        if tensors < facts.threshold("tensors"):
            return None
        own = facts.text("configuration.optimizer")
        torchs = next((name for name in _LIKE if name.lower() in own.lower()), None)
        flag = "fused=True" if torchs in _FUSED else "foreach=True"
        costly = decomposing(facts)
        lines = [line for line in hot_lines(facts, OPTIMIZER) if line not in costly]
        return Finding(
            stage=OPTIMIZER,
            title=f"{own} updates {grouped(tensors)} tensors one by one in Python: "
            f"{percent(share)} of the training{at(lines[0] if lines else None)}",
            advice=_advice(torchs, flag),
            change=_change(torchs, flag),
            snippet=_snippet(torchs, flag),
            evidence=(
                Evidence(
                    metric="weight update",
                    value=share,
                    unit="share of training",
                    threshold=facts.threshold("share"),
                ),
                Evidence(
                    metric="tensors",
                    value=tensors,
                    unit="",
                    threshold=facts.threshold("tensors"),
                ),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=faster(share, *_BY_HAND),
            confidence=0.85,
            effort="lines",
            safety="numerics",
        )


def likely_faster(facts: Facts) -> tuple[str, float, Prediction] | None:
    """PD401 without a probe: the flag, the update's share and what the training would gain.

    None where the flag is on, or where nobody can tell without trying.
    """
    name, home = facts.text("configuration.optimizer"), facts.text(_HOME)
    flags = [facts.get(p) for f in ("fused", "foreach") if facts.has(p := _flag(f))]
    share = _updating(facts)
    if home != "torch" or any(flags) or name not in _FUSED or share <= 0:
        return None
    if on_cuda(facts):
        return "fused", share, faster(share, *_FUSED_ON_GPU)
    size = facts.number("configuration.parameters") / max(1.0, facts.number(_TENSORS))
    if name == "SGD" and size >= _LARGE_FOR_SGD:
        return None
    return "fused", share, faster(share, *_FUSED[name][size > _SMALL_TENSOR])


def _updating(facts: Facts) -> float:
    """The part of the training that is the update itself, clipping and clearing apart."""
    around = [line for line in hot_lines(facts, OPTIMIZER) if line.calls(_AROUND)]
    return stage_share(facts, OPTIMIZER) * (1 - share_in(facts, around, OPTIMIZER))


def _flag(name: str) -> str:
    return f"configuration.optimizer_{name}"


def _update_share(facts: Facts) -> float:
    """Of the optimizer, what is no decomposition of matrices."""
    other = sum(line.share for line in decomposing(facts))
    return max(0.0, stage_share(facts, OPTIMIZER) - other)


def _advice(torchs: str | None, flag: str) -> str:
    lists = "torch._foreach_* operations over lists of all parameters"
    if torchs is None:
        return f"Write the update with {lists}: torch has no optimizer of that kind."
    return f"Use torch.optim.{torchs}({flag}), which updates all of them together, or {lists}."


def _change(torchs: str | None, flag: str) -> dict[str, object]:
    found: dict[str, object] = {f"optimizer_{flag.removesuffix('=True')}": True}
    return found if torchs is None else {"optimizer_home": "torch", **found}


def _snippet(torchs: str | None, flag: str) -> str:
    if torchs is None:
        return (
            "torch._foreach_mul_(moments, beta)\n"
            "torch._foreach_add_(moments, gradients, alpha=1 - beta)  # of all parameters at once"
        )
    return (
        f"optimizer = torch.optim.{torchs}(model.parameters(), lr=lr, {flag})  "
        "# and your other arguments"
    )
