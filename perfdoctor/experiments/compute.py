"""Experiments on how the model computes."""

from __future__ import annotations

from typing import Any, ClassVar

from perfdoctor.experiments import Situation

NO_GPU = "there is no GPU here"
_TF32_CAPABILITY = (8, 0)  # Ampere (CUDA C++ Programming Guide, compute capabilities)


class Precision:
    """Autocast to bfloat16, or what was recommended."""

    name: ClassVar[str] = "precision"
    keys: ClassVar[tuple[str, ...]] = ("precision",)
    safety: ClassVar[str] = "numerics"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """Not what is in use; fp16 and TF32 only on a GPU."""
        wanted = self.changes(situation)["precision"]
        if wanted == situation.configuration.get("precision"):
            return f"it computes in {wanted} already"
        return NO_GPU if wanted in ("fp16", "tf32") and not situation.on_cuda else None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`precision`."""
        return {"precision": situation.wanted.get("precision", "bf16")}


class Tf32:
    """Float32 matrix products in TF32."""

    name: ClassVar[str] = "tf32"
    keys: ClassVar[tuple[str, ...]] = ("precision",)
    safety: ClassVar[str] = "numerics"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

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


class Compile:
    """torch.compile in the recommended mode."""

    name: ClassVar[str] = "compile"
    keys: ClassVar[tuple[str, ...]] = ("compile",)
    safety: ClassVar[str] = "numerics"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """Not twice."""
        now = situation.configuration.get("compile")
        return None if now in (None, "off", False) else f"it is compiled already ({now})"

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`compile`."""
        return {"compile": situation.wanted.get("compile", "default")}


class ChannelsLast:
    """Weights and images in channels-last layout; the optimizer's state too, hence a restart."""

    name: ClassVar[str] = "channels-last"
    keys: ClassVar[tuple[str, ...]] = ("channels_last",)
    safety: ClassVar[str] = "numerics"
    restart: ClassVar[bool] = True
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """Only for convolutions."""
        if situation.configuration.get("channels_last"):
            return "it is in channels-last layout already"
        return None if "conv" in situation.traits else "the model has no 2-d convolutions"

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`channels_last`."""
        return {"channels_last": True}


class Threads:
    """As many threads as were recommended, or as there are usable cores."""

    name: ClassVar[str] = "threads"
    keys: ClassVar[tuple[str, ...]] = ("threads",)
    safety: ClassVar[str] = "numerics"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

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


class AnomalyOff:
    """Without autograd's anomaly detection."""

    name: ClassVar[str] = "anomaly-off"
    keys: ClassVar[tuple[str, ...]] = ("anomaly_detection",)
    safety: ClassVar[str] = "exact"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """Where it is on."""
        on = "anomaly_detection" in situation.traits
        return None if on else "anomaly detection is off already"

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`anomaly_detection`."""
        return {"anomaly_detection": False}


class DeterministicOff:
    """Without asking for deterministic algorithms."""

    name: ClassVar[str] = "deterministic-off"
    keys: ClassVar[tuple[str, ...]] = ("deterministic",)
    safety: ClassVar[str] = "numerics"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """Where they are asked for."""
        on = "deterministic" in situation.traits
        return None if on else "deterministic algorithms are not asked for"

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`deterministic`."""
        return {"deterministic": False}


class CudnnBenchmark:
    """cuDNN tries its convolutions and keeps the fastest."""

    name: ClassVar[str] = "cudnn-benchmark"
    keys: ClassVar[tuple[str, ...]] = ("cudnn_benchmark",)
    safety: ClassVar[str] = "numerics"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """Only convolutions on a GPU."""
        if not situation.on_cuda:
            return NO_GPU
        return None if "conv" in situation.traits else "the model has no 2-d convolutions"

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`cudnn_benchmark`."""
        return {"cudnn_benchmark": bool(situation.wanted.get("cudnn_benchmark", True))}


class NonBlocking:
    """Copies that the host does not wait for, from pinned batches."""

    name: ClassVar[str] = "non-blocking"
    keys: ClassVar[tuple[str, ...]] = ("non_blocking",)
    safety: ClassVar[str] = "exact"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """A CPU copies nothing."""
        return None if situation.on_cuda else NO_GPU

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`non_blocking`, with `pin_memory`, without which it has no effect."""
        pinned = situation.configuration.get("pin_memory")
        return {"non_blocking": True} | ({} if pinned else {"pin_memory": True})


class GcFrozen:
    """`gc.freeze()` before the training."""

    name: ClassVar[str] = "gc-frozen"
    keys: ClassVar[tuple[str, ...]] = ("gc_frozen",)
    safety: ClassVar[str] = "exact"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """It can be tried everywhere."""
        return None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`gc_frozen`."""
        return {"gc_frozen": True}
