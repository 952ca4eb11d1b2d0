"""PD209 to PD211: switches of torch that an observed script left on, or off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.gains import from_probe, probe, probe_evidence
from perfdoctor.rules.observed import RUNS, faster, is_run, stage_share, without
from perfdoctor.rules.wording import on_cuda, percent
from perfdoctor.stages import BACKWARD, FORWARD, LOSS

#: Forward and backward with ÷ without anomaly mode. Measured with torch 2.13 on two loaded cores,
#: twenty linear layers of 64: 2.1 at 4096 samples a batch, 21 at 256, more at 16; operations that
#: take longer than these lose less.
_ANOMALY = (1.1, 3.0, 20.0)
#: Backward alone, with ÷ without: each gradient is searched for NaN, in three more kernels. Seven
#: models from one of small layers to convolutions, two quiet cores, torch 2.13: 1.2 to 3.1.
_ANOMALY_BACKWARD = (1.15, 2.0, 3.1)


class AnomalyDetectionOn:
    """Autograd's anomaly detection is on.

    ## What it does
    Looks whether `torch.autograd.set_detect_anomaly` is on while an observed script trains.

    ## Why it is slow
    Each operation of the forward pass writes down the whole stack of Python calls, and each
    gradient is searched for NaN. For small operations that takes many times as long as they do.

    ## Evidence and threshold
    The switch itself, and the part of the training that is forward and backward.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    Remove `set_detect_anomaly(True)`; switch it on to find a NaN and then off again.

    ## How the gain is predicted
    Of the forward pass the part goes away that looks found writing stacks; the backward pass
    becomes 1.15, 2 or 3.1 times as fast, as measured on models of seven kinds. Without looks,
    Amdahl's law over both: 1.1, 3 or 20 times as fast; the smaller the operations, the more.

    ## When not to
    While a NaN is being looked for.
    """

    code: ClassVar[str] = "PD209"
    name: ClassVar[str] = "anomaly-detection-on"
    needs: ClassVar[tuple[str, ...]] = ("configuration.anomaly_detection", "stages")
    verify_with: ClassVar[str | None] = "anomaly-off"
    cause: ClassVar[str] = "anomaly-detection"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if it is on and the model computes."""
        shares = {stage: stage_share(facts, stage) for stage in (FORWARD, BACKWARD)}
        share = min(1.0, sum(shares.values()) + stage_share(facts, LOSS))
        if not facts.flag(self.needs[0]) or share < facts.threshold("share"):
            return None
        return Finding(
            stage=max(shares, key=lambda stage: shares[stage]),
            title="Anomaly detection is on: each operation writes down its stack, in "
            f"{percent(share)} of the training",
            advice="Remove torch.autograd.set_detect_anomaly(True), or switch it on only to find "
            "a NaN.",
            change={"anomaly_detection": False},
            snippet="torch.autograd.set_detect_anomaly(False)",
            evidence=(
                Evidence(metric="anomaly detection", value=1, unit="on"),
                Evidence(
                    metric="forward and backward",
                    value=share,
                    unit="share of training",
                    threshold=facts.threshold("share"),
                ),
            ),
            cause=self.cause,
            predicted=_without_anomaly(facts, shares[BACKWARD], share),
            confidence=0.95,
        )


def _without_anomaly(facts: Facts, backward: float, share: float) -> Prediction:
    written = facts.known("configuration.stacks_of_forward")
    if written is None:
        return faster(share, *_ANOMALY)
    gone = [(share - backward) * written + backward * (1 - 1 / n) for n in _ANOMALY_BACKWARD]
    return without(1.0, *gone)


class DeterministicAlgorithms:
    """Deterministic algorithms are asked for on a GPU.

    ## What it does
    Looks for `torch.use_deterministic_algorithms(True)` in an observed script on CUDA.

    ## Why it is slow
    Several operations have a fast kernel that adds in any order, and a slow one that does not.

    ## Evidence and threshold
    The switch itself; there is no threshold.

    ## What to change
    Switch it off once the training is known to be right. Seeds alone make runs alike enough.

    ## How the gain is predicted
    It is not: it depends on the operations. Try it.

    ## When not to
    Where results have to be the same to the last bit.
    """

    code: ClassVar[str] = "PD210"
    name: ClassVar[str] = "deterministic-algorithms"
    needs: ClassVar[tuple[str, ...]] = ("configuration.deterministic", "configuration.device")
    verify_with: ClassVar[str | None] = "deterministic-off"
    cause: ClassVar[str] = "deterministic-algorithms"
    thresholds: ClassVar[Mapping[str, float]] = {}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires on CUDA if it is on; on a CPU it costs next to nothing."""
        if not facts.flag(self.needs[0]) or not on_cuda(facts):
            return None
        return Finding(
            stage=BACKWARD,
            title="Deterministic algorithms are asked for, which are slower for some operations",
            advice="Switch them off if results need not be the same to the last bit.",
            change={"deterministic": False},
            snippet="torch.use_deterministic_algorithms(False)",
            evidence=(Evidence(metric="deterministic algorithms", value=1, unit="on"),),
            cause=self.cause,
            confidence=0.4,
            safety="numerics",
            optional=True,
        )


class CudnnBenchmarkOff:
    """cuDNN may not try which of its convolutions is fastest.

    ## What it does
    Looks for a model with convolutions that an observed script trains on CUDA with
    `torch.backends.cudnn.benchmark` off.

    ## Why it is slow
    cuDNN has several algorithms for a convolution and chooses by a rule of thumb; with the switch
    on it tries them at the first batch of each shape and keeps the fastest.

    ## Evidence and threshold
    The switch itself, in a model with two-dimensional convolutions; in a benchmark a probe, in
    pairs, whose lower end must pass the threshold.
    - `probe_low` = 1.05 (source: above what the 2.1 % by which the median of identical blocks
      varied on a loaded two-core machine can feign; the probe's lower end must pass it)

    ## What to change
    `torch.backends.cudnn.benchmark = True` before the first batch.

    ## How the gain is predicted
    With a probe Amdahl's law over the exposed shares of forward, loss and backward; else it is
    not: it depends on the shapes. Try it.

    ## When not to
    With images of many sizes: each new shape is tried anew. Results may differ in the last digits
    from run to run.
    """

    code: ClassVar[str] = "PD211"
    name: ClassVar[str] = "cudnn-benchmark-off"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = "cudnn-benchmark"
    cause: ClassVar[str] = "cudnn-benchmark"
    thresholds: ClassVar[Mapping[str, float]] = {"probe_low": 1.05}
    sources: ClassVar[tuple[str, ...]] = (*RUNS, "bench")

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires on CUDA with convolutions, unless determinism is wanted."""
        if not on_cuda(facts) or facts.flag("configuration.cudnn_benchmark"):
            return None
        wanted = "configuration.deterministic"
        if facts.has(wanted) and facts.flag(wanted):
            return None
        if not is_run(facts):
            return _cudnn_measured(facts, self.cause)
        if not facts.has("configuration.channels_last"):  # told of models with convolutions only
            return None
        return Finding(
            stage=FORWARD,
            title="cuDNN does not try which convolution is fastest",
            advice="If all batches have the same shape, let it try.",
            change={"cudnn_benchmark": True},
            snippet="torch.backends.cudnn.benchmark = True",
            evidence=(Evidence(metric="cudnn.benchmark", value=0, unit="on"),),
            cause=self.cause,
            confidence=0.5,
            safety="numerics",
            optional=True,
        )


def _cudnn_measured(facts: Facts, cause: str) -> Finding | None:
    """PD211 of a benchmark, which tried it."""
    measured = probe(facts, "cudnn_benchmark")
    if measured.low <= facts.threshold("probe_low"):
        return None
    return Finding(
        stage=FORWARD,
        title=f"cuDNN's fastest convolutions are {measured.speedup:.2f}× as fast here",
        advice="If all batches have the same shape, let it try which are the fastest.",
        change={"cudnn_benchmark": True},
        snippet="torch.backends.cudnn.benchmark = True",
        evidence=(probe_evidence(facts, measured, "convolutions chosen by trying"),),
        cause=cause,
        predicted=from_probe(facts, measured),
        confidence=0.8,
        safety="numerics",
    )
