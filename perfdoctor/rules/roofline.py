"""PD224 and PD225: what the device computes beside what it could."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.logs import compiled, precision
from perfdoctor.rules.measured import beside, computing_share, is_trace
from perfdoctor.rules.observed import faster
from perfdoctor.rules.wording import listed, on_cuda, percent
from perfdoctor.stages import FORWARD

#: Fused operations ÷ one by one: each then reads and writes memory once instead of once for every
#: operation; chains of two to four are usual (our own choice).
_FUSED = (1.0, 1.5, 3.0)


class LowArithmeticUse:
    """The arithmetic of the model reaches a small part of what this machine can do.

    ## What it does
    Counts the floating-point operations of forward and backward and compares their rate with that
    of a large matrix product, measured on this machine in the same precision.

    ## Why it is slow
    Operations that are small, or that do little arithmetic for each number they read, leave the
    units for products idle. Which of it is the case this figure does not tell.

    ## Evidence and threshold
    Achieved ÷ measured peak (PaLM's model FLOPs utilisation, without recomputation), and the share
    of computing.
    - `utilisation` = 0.3 (source: gpuprof calls less than 30 % low)
    - `share` = 0.5 (source: our own choice; below, something else comes first)

    ## What to change
    What is left of: a larger batch, 16 bits, `torch.compile`, channels last, a fused optimizer.

    ## How the gain is predicted
    It is not: the other rules predict what each of these brings.

    ## When not to
    Small models, recurrent ones and those with much normalising never come near the peak.
    """

    code: ClassVar[str] = "PD224"
    name: ClassVar[str] = "low-arithmetic-use"
    needs: ClassVar[tuple[str, ...]] = ("limits.compute.achieved", "limits.compute.peak", "stages")
    verify_with: ClassVar[str | None] = "compile"
    cause: ClassVar[str] = "arithmetic-use"
    thresholds: ClassVar[Mapping[str, float]] = {"utilisation": 0.3, "share": 0.5}
    sources: ClassVar[tuple[str, ...]] = ("bench",)

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires as an option on a GPU where computing is most of the training."""
        used = facts.number("limits.compute.achieved") / facts.number("limits.compute.peak")
        if not on_cuda(facts) or used >= facts.threshold("utilisation"):
            return None
        if computing_share(facts) < facts.threshold("share"):
            return None
        return Finding(
            stage=FORWARD,
            title=f"The model reaches {percent(used)} of the arithmetic that this device can do",
            advice=f"What may help: {_untried(facts)}.",
            change={},
            snippet="",
            evidence=(beside(facts, "of the measured peak", used, "share", "utilisation"),),
            cause=self.cause,
            confidence=0.3,
            effort="lines",
            safety="numerics",
            optional=True,
        )


class MemoryBoundPointwise:
    """Much of the GPU's time goes into operations on single elements, which memory limits.

    ## What it does
    Adds up the kernels of a profiler's trace that work element by element.

    ## Why it is slow
    An addition or an activation reads and writes whole tensors for next to no arithmetic. Several
    in a row do that several times, where one fused kernel would do it once.

    ## Evidence and threshold
    Their time ÷ that of all kernels.
    - `share` = 0.3 (source: our own choice; xprof calls a program memory-bound from 70 % of the
      bandwidth, which a trace does not tell)

    ## What to change
    `torch.compile`, which fuses them; in-place activations; fused layers (RMSNorm, SwiGLU).

    ## How the gain is predicted
    A range over these kernels' part of the run: from nothing to three times as fast.

    ## When not to
    Where the GPU is idle most of the time: then launching them is what takes it.
    """

    code: ClassVar[str] = "PD225"
    name: ClassVar[str] = "memory-bound-pointwise"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = "compile"
    cause: ClassVar[str] = "unfused-operations"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.3}
    sources: ClassVar[tuple[str, ...]] = ("log", "trace")

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if elementwise kernels are a large part of the GPU's time."""
        if not is_trace(facts):
            return None
        kernel_s = facts.number("counters.kernel_s")
        share = facts.number("counters.pointwise_s") / kernel_s if kernel_s > 0 else 0.0
        if share < facts.threshold("share") or compiled(facts):
            return None
        busy = facts.number("counters.gpu_busy_share")
        return Finding(
            stage=FORWARD,
            title=f"{percent(share)} of the GPU's time goes into operations on single elements",
            advice="Compile the model (torch.compile), which fuses them.",
            change={"compile": "default"},
            snippet="model = torch.compile(model)",
            evidence=(
                beside(facts, "elementwise kernels", share, "share of kernels", "share"),
                Evidence(metric="GPU busy", value=100 * busy, unit="%"),
            ),
            cause=self.cause,
            predicted=faster(share * busy, *_FUSED),
            confidence=0.5,
            safety="numerics",
        )


def _untried(facts: Facts) -> str:
    """What is not on already."""
    left = ["a larger batch"]
    if precision(facts) in ("fp32", "tf32"):
        left.append("16-bit autocast")
    if not compiled(facts):
        left.append("torch.compile")
    return listed(left)
