"""PD222, PD223: how the model's numbers lie in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.gains import from_probe, probe, probe_evidence
from perfdoctor.rules.measured import MEASURED, beside, computing_share
from perfdoctor.rules.observed import RUNS, is_run
from perfdoctor.rules.run_gpu_options import channels_last_untried
from perfdoctor.rules.wording import on_cuda, percent

_HALF = ("bf16", "fp16")


class ChannelsLastOff:
    """Convolutions run faster here with channels last, and the model has them first.

    ## What it does
    Runs forward and backward of a captured batch through a copy of the model in both layouts. In
    an observed script: looks for convolutions in 16 bits on a GPU, with channels first.

    ## Why it is slow
    The fast kernels for convolutions, of cuDNN with 16 bits and of oneDNN, want the channels of a
    pixel beside each other. In the other layout tensors are reordered before and after.

    ## Evidence and threshold
    A probe, in pairs.
    - `probe_low` = 1.05 (source: above what the 2.1 % by which the median of identical blocks
      varied on a loaded two-core machine can feign; the probe's lower end must pass it)

    In an observed script, as an option: the layout, the share of computing, and what a step
    multiplies, counted once.
    - `share` = 0.3 (source: our own choice; below, computing is not what the training spends its
      time on)
    - `mostly` = 0.5 (source: our own choice; convolutions are most of what is multiplied)
    - `flops_per_s` = 3e+12 (source: a twentieth of the 65 TFLOP/s that NVIDIA states for a T4 in
      16 bits: with less, convolutions take next to none of the time)

    ## What to change
    `model.to(memory_format=torch.channels_last)`, and the inputs likewise.

    ## How the gain is predicted
    Amdahl's law over the exposed shares of forward, loss and backward, with the interval of the
    probe, and no faster than the workers make batches. Without a probe it is not: the time of the
    convolutions themselves was not measured.

    ## When not to
    Where code of its own calls `.view()` on images: those need `.reshape()`.
    """

    code: ClassVar[str] = "PD222"
    name: ClassVar[str] = "channels-last-off"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = "channels-last"
    cause: ClassVar[str] = "memory-layout"
    thresholds: ClassVar[Mapping[str, float]] = {
        "probe_low": 1.05,
        "share": 0.3,
        "mostly": 0.5,
        "flops_per_s": 3e12,
    }
    sources: ClassVar[tuple[str, ...]] = (*RUNS, "bench")

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the other layout was measured to be faster; as an option in an observed script
        in 16 bits."""
        if is_run(facts):
            return channels_last_untried(facts, self.cause) if on_cuda(facts) else None
        if facts.get("configuration.channels_last") is True or _without_images(facts):
            return None
        measured = probe(facts, "channels_last")
        if measured.low <= facts.threshold("probe_low"):
            return None
        return Finding(
            stage=measured.stage,
            title=f"Channels last is {measured.speedup:.2f}× as fast here, and is not used",
            advice="Put the model and its images into channels-last layout.",
            change={"channels_last": True},
            snippet="model = model.to(memory_format=torch.channels_last)\n"
            "images = images.to(device, memory_format=torch.channels_last)",
            evidence=(
                probe_evidence(facts, measured, "channels last, forward and backward"),
                Evidence(
                    metric="forward, loss and backward", value=measured.share, unit="share of step"
                ),
            ),
            cause=self.cause,
            predicted=from_probe(facts, measured),
            confidence=0.85,
            effort="lines",
            safety="numerics",
        )


def _without_images(facts: Facts) -> bool:
    path = "configuration.convolutions"
    return facts.has(path) and facts.get(path) is False


class MisalignedDimensions:
    """Matrix products in 16 bits have sides that 8 does not divide.

    ## What it does
    Looks at the linear layers of a model that trains in 16 bits on CUDA.

    ## Why it is slow
    Tensor cores take tiles of 8 numbers of 16 bits; other sizes are padded or fall back to slower
    kernels. A vocabulary of 50 257 is the best known case.

    ## Evidence and threshold
    The part of the weights in linear layers that have such a side.
    - `weights_share` = 0.2 (source: our own choice; with fewer weights the products are few)
    - `share` = 0.3 (source: our own choice; below, computing is not what the training spends its
      time on)

    ## What to change
    Round the size of the vocabulary or layer up to a multiple of 8, better of 64.

    ## How the gain is predicted
    It is not: recent libraries lose little, and only a trial tells (DLProf gave up advising it
    without one).

    ## When not to
    Where a checkpoint fixes the sizes.
    """

    code: ClassVar[str] = "PD223"
    name: ClassVar[str] = "misaligned-dimensions"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "misaligned-dimensions"
    thresholds: ClassVar[Mapping[str, float]] = {"weights_share": 0.2, "share": 0.3}
    sources: ClassVar[tuple[str, ...]] = MEASURED

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires as an option on CUDA in 16 bits."""
        if not on_cuda(facts) or facts.text("configuration.precision") not in _HALF:
            return None
        odd = facts.number("configuration.misaligned_share")
        if odd < facts.threshold("weights_share"):
            return None
        share = computing_share(facts)
        if share < facts.threshold("share"):
            return None
        return Finding(
            stage="forward",
            title=f"{percent(odd)} of the linear layers' weights have a side that 8 does not "
            "divide",
            advice="Round those sizes up to a multiple of 64 (pad the vocabulary), and measure "
            "whether it helps here.",
            change={"dimensions": "multiple-of-64"},
            snippet="vocabulary = (vocabulary + 63) // 64 * 64",
            evidence=(beside(facts, "such weights", odd, "share", "weights_share"),),
            cause=self.cause,
            confidence=0.3,
            effort="redesign",
            safety="semantics",
            optional=True,
        )
