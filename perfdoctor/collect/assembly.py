"""What a training loop has recorded, in the shape of a Run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from perfdoctor.collect import model_probes
from perfdoctor.collect.batches import tensors
from perfdoctor.collect.loader import is_iterable
from perfdoctor.collect.precision import effective_precision
from perfdoctor.collect.training import Steps, TrainingLoop
from perfdoctor.record import Floats, StageSeries
from perfdoctor.stages import DATA_LOADING, in_order


def stage_series(steps: Steps) -> tuple[StageSeries, ...]:
    """One series per stage that occurred, `data_loading` with its hidden time."""
    names = {name for step in steps.times for name in step.exposed_s}
    series = [_exposed(name, steps) for name in in_order(names)]
    return (*series, *_worker_stages(steps, names))


def _exposed(name: str, steps: Steps) -> StageSeries:
    exposed = np.array([step.exposed_s.get(name, np.nan) for step in steps.times])
    hidden = None
    if name == DATA_LOADING:
        host = np.array([step.host_s.get(name, 0.0) for step in steps.times])
        made = np.array([info.batch_s for info in steps.infos[: len(steps.times)]])
        hidden = np.maximum(0.0, np.maximum(made, host) - exposed)
    return StageSeries(name=name, exposed_s=exposed, hidden_s=hidden)


def _worker_stages(steps: Steps, known: set[str]) -> tuple[StageSeries, ...]:
    """Stages that the dataset names inside workers: hidden, since no step waits for them alone."""
    infos = steps.infos[: len(steps.times)]
    made_elsewhere = [info for info in infos if info.worker is not None]
    names = {name for info in made_elsewhere for name in info.stages_s} - known
    return tuple(
        StageSeries(
            name=name,
            exposed_s=np.zeros(len(infos)),
            hidden_s=np.array([info.stages_s.get(name, np.nan) for info in infos]),
        )
        for name in sorted(names)
    )


def configuration(loop: TrainingLoop) -> dict[str, Any]:
    """The settings really used, for rules and readers."""
    arguments, optimizer = loop.loader_arguments, loop.optimizer
    defaults = getattr(optimizer, "defaults", {})
    workers = loop.num_workers
    found = {
        "batch_size": arguments.get("batch_size"),
        "num_workers": workers,
        "prefetch_factor": (arguments.get("prefetch_factor") or 2) if workers else None,
        "pin_memory": bool(arguments.get("pin_memory")),
        "persistent_workers": bool(arguments.get("persistent_workers")) if workers else None,
        "precision": effective_precision(loop.device, loop.options.precision),
        "compile": loop.options.compile,
        "channels_last": loop.options.channels_last,
        "convolutions": model_probes.convolves(loop.eager_model),
        "device": str(loop.device),
        "seed": loop.options.seed,
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in loop.eager_model.parameters()),
        "optimizer": type(optimizer).__name__,
        "optimizer_foreach": defaults.get("foreach"),
        "optimizer_fused": defaults.get("fused"),
        "loader_kind": "iterable" if is_iterable(loop.workload.dataset) else "map",
        "collate": _collate(arguments),
        "dataset": type(loop.workload.dataset).__name__,
        "dataset_size": _length(loop.workload.dataset),
    }
    if loop.device.type == "cuda":
        found |= {
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "batch_bytes_of_8_bits": _fat_share(loop),
        }
    if loop.arch is not None:
        found |= {"arch_every": loop.workload.arch_every, "arch_order": loop.workload.arch_order}
    return found


def _collate(arguments: Mapping[str, Any]) -> str:
    """What puts samples together: "default" where it is torch's, else its name."""
    function = arguments.get("collate_fn")
    if function in (None, default_collate):
        single = arguments.get("batch_size", 1) is None
        return "default_convert" if single and function is None else "default"
    return str(getattr(function, "__name__", type(function).__name__))


def _fat_share(loop: TrainingLoop) -> float | None:
    """The part of a batch's bytes that are pixels in float32: whole numbers, or 255th parts."""
    if not loop.captured:
        return None
    sizes = [(t.numel() * t.element_size(), _pixels(t)) for t in tensors(loop.captured[0])]
    whole = sum(size for size, _ in sizes)
    return sum(size for size, fat in sizes if fat) / whole if whole else None


def _pixels(tensor: torch.Tensor) -> bool:
    if tensor.dtype != torch.float32 or tensor.dim() < 3 or not tensor.numel():
        return False
    low, high = float(tensor.min()), float(tensor.max())
    if low < 0 or high > 255:
        return False
    numbers = tensor if high > 1 else tensor * 255
    return bool((numbers - numbers.round()).abs().max() < 1e-3)


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except TypeError:
        return None


def skipped_files(loop: TrainingLoop) -> dict[str, str]:
    """Files skipped when the dataset was made, and those met since."""
    return dict(getattr(loop.workload.dataset, "skipped", ())) | loop.steps.skipped


def host_s(steps: Steps) -> Floats:
    """Seconds per step by the host's clock."""
    return np.array([sum(step.host_s.values()) for step in steps.times])


def tokens_per_sample(loop: TrainingLoop) -> float | None:
    """The sequence length where the model's first input is a matrix of integers."""
    if not loop.captured:
        return None
    inputs, _ = loop.unpack(loop.captured[0])
    first = next(tensors(inputs), None)
    if first is None or first.dim() != 2 or first.is_floating_point():
        return None
    return float(first.shape[1])
