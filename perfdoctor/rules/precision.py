"""PD202, PD203: arithmetic that is wider than it needs to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.gains import ProbeFacts, from_probe, probe, probe_evidence
from perfdoctor.rules.logs import TRY_IT
from perfdoctor.rules.observed import is_run
from perfdoctor.rules.run_gpu_options import only_a_trial, tf32_untried
from perfdoctor.rules.wording import on_cuda, percent
from perfdoctor.stages import FORWARD

_PRECISION = "configuration.precision"
_CAPABILITY = "environment.gpu.0.capability"
_CAUSE = "float32-arithmetic"
_BF16 = """with torch.autocast("{kind}", dtype=torch.bfloat16):
    loss = loss_fn(model(inputs), target)
loss.backward()
optimizer.step()"""
_FP16 = """scaler = torch.amp.GradScaler("{kind}")  # once, before the loop
...
with torch.autocast("{kind}", dtype=torch.float16):
    loss = loss_fn(model(inputs), target)
scaler.scale(loss).backward()
scaler.step(optimizer)
scaler.update()"""


class MixedPrecisionOff:
    """The model computes in float32 where this device is faster in 16 bits.

    ## What it does
    Looks for a training in float32 whose forward and backward ran faster under autocast, on its
    own batches, on this device.

    ## Why it is slow
    Sixteen-bit numbers halve the memory traffic, and devices with matrix units for them multiply
    several times as fast.

    ## Evidence and threshold
    A probe: forward and backward of a captured batch with and without autocast, in pairs. In a
    log: that it says float32; an option then, since what it would gain was not measured.
    - `probe_low` = 1.05 (source: above what the 2.1 % by which the median of identical blocks
      varied on a loaded two-core machine can feign; the probe's lower end must pass it)

    ## What to change
    `torch.autocast` with bfloat16; with float16 and a gradient scaler where only that is faster.

    ## How the gain is predicted
    Amdahl's law over the exposed shares of forward, loss and backward, with the interval of the
    probe, and no faster than the workers make batches.

    ## When not to
    Where the probe shows no gain, as on processors without such units: then this rule is silent.
    bfloat16 keeps 8 bits of precision: compare the loss curve, and keep losses, norms and long
    sums in float32 (autocast does so for its own list of operations).
    """

    code: ClassVar[str] = "PD202"
    name: ClassVar[str] = "mixed-precision-off"
    needs: ClassVar[tuple[str, ...]] = (_PRECISION,)
    verify_with: ClassVar[str | None] = "precision"
    cause: ClassVar[str] = _CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"probe_low": 1.05}

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if a 16-bit probe gained; as an option if a log of a GPU run says float32."""
        if facts.text(_PRECISION) not in ("fp32", "tf32"):
            return None
        if (facts.from_log or is_run(facts)) and not facts.has("probes.bf16") and on_cuda(facts):
            return _untried(facts)
        found = _faster(facts)
        if found is None:
            return None
        precision, measured = found
        kind = facts.text("environment.device").split(":")[0]
        name, snippet = ("bfloat16", _BF16) if precision == "bf16" else ("float16", _FP16)
        return Finding(
            stage=measured.stage,
            title=f"The model computes in {facts.text(_PRECISION)}, and {name} is "
            f"{measured.speedup:.2f}× as fast here",
            advice=f"Run forward and loss under torch.autocast with {name}, and compare the loss "
            "curves before and after.",
            change={"precision": precision},
            snippet=snippet.format(kind=kind),
            evidence=_evidence(facts, measured, f"{name} speed-up of forward and backward"),
            cause=self.cause,
            predicted=from_probe(facts, measured),
            confidence=0.85,
            effort="lines",
            safety="numerics",
        )


class Tf32Off:
    """Matrix products run in full float32 on a GPU that has TF32.

    ## What it does
    Looks for float32 training on a GPU whose matrix units were measured to be faster in TF32. In
    an observed script: for full float32 on a GPU that has TF32, where products take time.

    ## Why it is slow
    PyTorch leaves TF32 off for matrix products, so the matrix units of the GPU stay idle.

    ## Evidence and threshold
    A probe: forward and backward of a captured batch with and without TF32, in pairs.
    - `probe_low` = 1.05 (source: above what the 2.1 % by which the median of identical blocks
      varied on a loaded two-core machine can feign; the probe's lower end must pass it)

    In an observed script, as an option: the setting, the share of computing, and what a step
    multiplies, counted once. Convolutions do not count: cuDNN has TF32 on by itself.
    - `share` = 0.3 (source: our own choice; below, computing is not what the training spends its
      time on)
    - `mostly` = 0.5 (source: our own choice; products are most of what is multiplied)
    - `flops_per_s` = 1e+12 (source: a twentieth of the 19.5 TFLOP/s that NVIDIA states for an A100
      in float32: with less, products take next to none of the time)

    ## What to change
    One line at the start of the script: `torch.set_float32_matmul_precision("high")`.

    ## How the gain is predicted
    Amdahl's law over the exposed shares of forward, loss and backward, with the interval of the
    probe, and no faster than the workers make batches. Without a probe it is not: the time of the
    products themselves was not measured.

    ## When not to
    TF32 keeps 10 bits of the mantissa in products: not for solvers and other code that needs
    float32's accuracy. Mixed precision gains more where it is possible.
    """

    code: ClassVar[str] = "PD203"
    name: ClassVar[str] = "tf32-off"
    needs: ClassVar[tuple[str, ...]] = (_PRECISION, "environment.device")
    verify_with: ClassVar[str | None] = "tf32"
    cause: ClassVar[str] = _CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {
        "probe_low": 1.05,
        "share": 0.3,
        "mostly": 0.5,
        "flops_per_s": 1e12,
    }

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires on a GPU in float32 if the probe gained; as an option in an observed script."""
        if not on_cuda(facts) or facts.text(_PRECISION) != "fp32":
            return None
        if is_run(facts) and not facts.has("probes.tf32"):
            return tf32_untried(facts, self.cause)
        measured = probe(facts, "tf32")
        if measured.low <= facts.threshold("probe_low"):
            return None
        return Finding(
            stage=measured.stage,
            title=f"TF32 is off, and {measured.speedup:.2f}× as fast here",
            advice="Allow TF32 in matrix products with one line at the start of the script.",
            change={"precision": "tf32"},
            snippet='torch.set_float32_matmul_precision("high")',
            evidence=_evidence(facts, measured, "TF32 speed-up of forward and backward"),
            cause=self.cause,
            predicted=from_probe(facts, measured),
            confidence=0.85,
            safety="numerics",
        )


def _untried(facts: Facts) -> Finding:
    """A printed setting and nothing else: bfloat16 needs compute capability 8.0."""
    capability = facts.get(_CAPABILITY) if facts.has(_CAPABILITY) else "8.0"
    old = str(capability).split(".")[0] in ("5", "6", "7")
    precision, snippet = ("fp16", _FP16) if old else ("bf16", _BF16)
    return Finding(
        stage=FORWARD,
        title=f"{'The log says' if facts.from_log else 'The model computes in'} "
        f"{facts.text(_PRECISION)}: 16-bit arithmetic was not used",
        advice="Try torch.autocast, and compare the loss curves. "
        + (TRY_IT if facts.from_log else only_a_trial(facts)),
        change={"precision": precision},
        snippet=snippet.format(kind="cuda"),
        evidence=(),
        cause=_CAUSE,
        confidence=0.3,
        effort="lines",
        safety="numerics",
        optional=True,
    )


def _faster(facts: Facts) -> tuple[str, ProbeFacts] | None:
    """bfloat16 where it gains, since it needs no gradient scaler; else float16 on a GPU."""
    limit = facts.threshold("probe_low")
    known = [p for p in ("bf16", "fp16") if facts.has(f"probes.{p}")]
    for precision in known or ["bf16"]:
        measured = probe(facts, precision)
        if measured.low > limit and (precision == "bf16" or on_cuda(facts)):
            return precision, measured
    return None


def _evidence(facts: Facts, measured: ProbeFacts, metric: str) -> tuple[Evidence, ...]:
    return (
        probe_evidence(facts, measured, metric),
        Evidence(
            metric="forward, loss and backward",
            value=measured.share,
            unit="share of step",
            where=f"{percent(measured.share)} of the step",
        ),
    )
