"""Experiments on how the model computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfdoctor.experiments import Experiment, Situation, Switch

NO_GPU = "there is no GPU here"
_NO_CONVOLUTIONS = "the model has no 2-d convolutions"
_TF32_CAPABILITY = (8, 0)  # Ampere (CUDA C++ Programming Guide, compute capabilities)
#: A script's loop cannot be given one; without it small gradients become zero.
_NO_SCALER = "fp16 needs a GradScaler; the script has none, and would be another training"
#: Parameters, batches and what the script makes of them; casting some leaves errors of types.
_WIDE_IN_CODE = "a change of your code: where its numbers are made in 64 bits"
_COMPILED_BY_CODE = "a change of your code: the script itself compiles the model"
_NOT_COMPILED = (None, False, "off")
#: Modes of torch.compile; a CPU has no graphs of launches, which two of them are about.
_MODES_OF_GPUS = ("default", "reduce-overhead", "max-autotune")
_MODES_OF_CPUS = ("default", "max-autotune-no-cudagraphs")


class Precision(Experiment):
    """Autocast to bfloat16, or what was recommended."""

    name = "precision"
    keys = ("precision",)
    safety = "numerics"

    def why_not(self, situation: Situation) -> str | None:
        """Not what is in use; fp16 and TF32 only on a GPU, float32 not where code says float64."""
        wanted = self.changes(situation)["precision"]
        if wanted == situation.configuration.get("precision"):
            return f"it computes in {wanted} already"
        if wanted == "fp32" and situation.is_script:
            return _WIDE_IN_CODE
        if wanted == "fp16" and situation.is_script and "scaler" not in situation.traits:
            return _NO_SCALER
        return NO_GPU if wanted in ("fp16", "tf32") and not situation.on_cuda else None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`precision`."""
        return {"precision": situation.wanted.get("precision", "bf16")}


class Tf32(Experiment):
    """Float32 matrix products in TF32."""

    name = "tf32"
    keys = ("precision",)
    safety = "numerics"

    def why_not(self, situation: Situation) -> str | None:
        """Needs an Ampere GPU or later, and a training in float32."""
        if not situation.on_cuda:
            return NO_GPU
        if situation.capability is not None and situation.capability < _TF32_CAPABILITY:
            return "this GPU has no TF32"
        precision = situation.configuration.get("precision")
        return None if precision in (None, "fp32") else f"it computes in {precision}"

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`precision`."""
        return {"precision": "tf32"}


class Compile(Experiment):
    """torch.compile in the recommended mode, or without it."""

    name = "compile"
    keys = ("compile",)
    safety = "numerics"

    def why_not(self, situation: Situation) -> str | None:
        """Not twice; a script that compiles its model keeps it compiled."""
        now, wanted = situation.configuration.get("compile"), self.changes(situation)["compile"]
        if now in _NOT_COMPILED:
            return "it is not compiled" if wanted == "off" else None
        if wanted == "off":
            return _COMPILED_BY_CODE if situation.is_script else None
        return f"it is compiled already ({now})"

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`compile`."""
        return {"compile": situation.wanted.get("compile", "default")}

    def others(self, situation: Situation) -> tuple[dict[str, Any], ...]:
        """The other modes: each takes longer to compile than the one before it."""
        wanted = self.changes(situation)["compile"]
        modes = _MODES_OF_GPUS if situation.on_cuda else _MODES_OF_CPUS
        return tuple({"compile": m} for m in modes if wanted not in ("off", m))

    def snippet(self, changes: Mapping[str, Any]) -> str | None:
        """In its mode."""
        mode = changes["compile"]
        return f'model = torch.compile(model, mode="{mode}")' if mode != "default" else None


class ChannelsLast(Switch):
    """Weights and images in channels-last layout; the optimizer's state too, hence a restart."""

    name = "channels-last"
    keys = ("channels_last",)
    safety = "numerics"
    restart = True
    already = "it is in channels-last layout already"

    def why_not(self, situation: Situation) -> str | None:
        """Only for convolutions."""
        suits = "conv" in situation.traits
        return super().why_not(situation) if suits else _NO_CONVOLUTIONS


class Threads(Experiment):
    """As many threads as were recommended, or as there are usable cores."""

    name = "threads"
    keys = ("threads",)
    safety = "numerics"

    def why_not(self, situation: Situation) -> str | None:
        """Not the number in use."""
        if situation.device != "cpu":
            return "the model does not compute on the CPU"
        wanted = self.changes(situation)["threads"]
        now = situation.configuration.get("threads")
        return f"it has {wanted} threads already" if wanted == now else None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`threads`."""
        return {"threads": int(situation.wanted.get("threads", max(1, int(situation.cores))))}


class AnomalyOff(Switch):
    """Without autograd's anomaly detection."""

    name = "anomaly-off"
    keys = ("anomaly_detection",)
    value = False
    already = "anomaly detection is off already"


class DeterministicOff(Switch):
    """Without asking for deterministic algorithms."""

    name = "deterministic-off"
    keys = ("deterministic",)
    safety = "numerics"
    value = False
    already = "deterministic algorithms are not asked for"


class CudnnBenchmark(Experiment):
    """cuDNN tries its convolutions and keeps the fastest."""

    name = "cudnn-benchmark"
    keys = ("cudnn_benchmark",)
    safety = "numerics"

    def why_not(self, situation: Situation) -> str | None:
        """Only convolutions on a GPU."""
        if not situation.on_cuda:
            return NO_GPU
        return None if "conv" in situation.traits else _NO_CONVOLUTIONS

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`cudnn_benchmark`."""
        return {"cudnn_benchmark": bool(situation.wanted.get("cudnn_benchmark", True))}


class NonBlocking(Experiment):
    """Copies that the host does not wait for, from pinned batches."""

    name = "non-blocking"
    keys = ("non_blocking",)

    def why_not(self, situation: Situation) -> str | None:
        """A CPU copies nothing."""
        return None if situation.on_cuda else NO_GPU

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`non_blocking`, with `pin_memory`, without which it has no effect."""
        pinned = situation.configuration.get("pin_memory")
        return {"non_blocking": True} | ({} if pinned else {"pin_memory": True})


class GcFrozen(Switch):
    """`gc.freeze()` before the training."""

    name = "gc-frozen"
    keys = ("gc_frozen",)
    already = "garbage collection is frozen already"


class LaunchBlockingOff(Experiment):
    """Without CUDA_LAUNCH_BLOCKING, which makes the host wait for each kernel."""

    name = "launch-blocking-off"
    keys = ("launch_blocking", "environment")
    restart = True

    def why_not(self, situation: Situation) -> str | None:
        """Only on a GPU, where it is set."""
        if not situation.on_cuda:
            return NO_GPU
        return None if situation.uses("launch_blocking") else "it is not set"

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`environment`."""
        return {"environment": {"CUDA_LAUNCH_BLOCKING": "0"}}


class Environment(Experiment):
    """Variables that are set before Python starts."""

    name = "environment"
    keys = ("environment",)
    restart = True

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`environment`."""
        return {"environment": dict(situation.wanted.get("environment", {}))}
