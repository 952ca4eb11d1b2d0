"""Probes of the model's layout, its memory for time, larger batches, and compiling."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from perfdoctor.collect import memory
from perfdoctor.collect.batches import joined, samples_in, to_device, tree_map
from perfdoctor.collect.probe_arms import Arms, Work
from perfdoctor.collect.training import TrainingLoop
from perfdoctor.stages import BACKWARD, FORWARD, LOSS, OPTIMIZER

COMPUTE = (FORWARD, LOSS, BACKWARD)
#: Below this use of the memory nobody needs to know what saving some would cost.
_TIGHT = 0.5


def passes(loop: TrainingLoop, batch: Any, model: nn.Module | None = None) -> Work:
    """Forward, loss and backward of a batch, through another model if one is given."""
    used = loop.model if model is None else model

    def work() -> None:
        before, loop.model = loop.model, used
        try:
            loop.loss_of(batch).backward()
        finally:
            loop.model = before
        for parameter in used.parameters():
            parameter.grad = None

    return work


def channels_last(loop: TrainingLoop, precision: str) -> Arms | None:
    """Images and filters with their channels last in memory, on a copy of the model."""
    plain = loop.options.compile == "off" and not loop.options.channels_last
    if not plain or loop.workload.step is not None or not convolves(loop.eager_model):
        return None
    model: nn.Module = copy.deepcopy(loop.eager_model)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = loop.captured[0]
    moved = to_device(batch, loop.device, non_blocking=False, channels_last=True)
    return Arms(passes(loop, batch), passes(loop, moved, model), COMPUTE)


def cudnn_benchmark(loop: TrainingLoop, precision: str) -> Arms | None:
    """cuDNN's convolutions chosen by trying them, where that is off."""
    backend = torch.backends.cudnn
    if loop.device.type != "cuda" or backend.benchmark or not convolves(loop.eager_model):
        return None
    now = passes(loop, loop.captured[0])

    def changed() -> None:
        backend.benchmark = True
        try:
            now()
        finally:
            backend.benchmark = False

    return Arms(now, changed, COMPUTE)


def larger_batch(doublings: int) -> Callable[[TrainingLoop, str], Arms | None]:
    """Compute throughput (samples/s) at so many times twice the batch, of two batches repeated."""
    times = 2**doublings

    def prepare(loop: TrainingLoop, precision: str) -> Arms | None:
        if len(loop.captured) < 2 or loop.options.compile != "off":
            return None
        single, larger = loop.captured[0], joined(*loop.captured[:2])
        for _ in range(doublings - 1):
            larger = joined(larger, larger)
        sizes = samples_in(single), samples_in(larger)
        if None in sizes or sizes[1] != times * (sizes[0] or 0):
            return None
        memory.reset_peak(loop.device)
        loop.train(larger)
        peak = memory.peak_bytes(loop.device)
        return Arms(
            lambda: loop.train(single),
            lambda: loop.train(larger),
            (*COMPUTE, OPTIMIZER),
            scale=float(times),
            details={"batch_size": float(sizes[1] or 0), "peak_bytes": float(peak)},
        )

    return prepare


def gradient_checkpointing(loop: TrainingLoop, precision: str) -> Arms | None:
    """The blocks of the model recomputed in the backward pass, where memory is tight.

    `details`: bytes kept from forward to backward, as it is and with checkpointing.
    """
    blocks = _blocks(loop.eager_model)
    if len(blocks) < 2 or not _tight(loop) or loop.options.compile != "off":
        return None
    now = passes(loop, loop.captured[0])

    def changed() -> None:
        with _checkpointed(blocks):
            now()

    details = {"kept_bytes": _kept_bytes(now), "kept_bytes_after": _kept_bytes(changed)}
    return Arms(now, changed, COMPUTE, details=details)


def accumulation(loop: TrainingLoop, precision: str) -> Arms | None:
    """Two halves of a batch, their gradients added, where memory is tight."""
    batch = loop.captured[0] if loop.captured else None
    size = samples_in(batch)
    if not size or size < 2 or not _tight(loop) or loop.options.compile != "off":
        return None
    now, halves = passes(loop, batch), [_part(batch, size, i) for i in range(2)]
    parts = [passes(loop, half) for half in halves]

    def changed() -> None:
        for part in parts:
            part()

    details = {"kept_bytes": _kept_bytes(now), "kept_bytes_after": _kept_bytes(parts[0])}
    return Arms(now, changed, COMPUTE, details=details)


def compiled(loop: TrainingLoop, budget_s: float) -> Arms | None:
    """torch.compile, whose own time is kept: `compile_s` in the details.

    Compiling takes half a minute and more on a CPU, so only a generous budget allows it.
    """
    if loop.options.compile != "off" or loop.workload.step is not None:
        return None
    model: Any = torch.compile(copy.deepcopy(loop.eager_model))
    batch = loop.captured[0]
    changed = passes(loop, batch, model)
    start = time.perf_counter()
    changed()
    compile_s = time.perf_counter() - start
    return Arms(passes(loop, batch), changed, COMPUTE, details={"compile_s": compile_s})


def convolves(model: nn.Module) -> bool:
    """Whether it has two-dimensional convolutions of more than one channel."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return any(isinstance(m, kinds) and min(m.weight.shape[:2]) > 1 for m in model.modules())


def _tight(loop: TrainingLoop) -> bool:
    return memory.current_bytes(loop.device) > _TIGHT * memory.total_bytes(loop.device)


def _part(batch: Any, size: int, which: int) -> Any:
    middle = size // 2
    rows = slice(0, middle) if which == 0 else slice(middle, size)
    return tree_map(lambda t: t[rows] if t.dim() > 0 and t.shape[0] == size else t, batch)


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The members of the model's longest list of layers: what people checkpoint."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList | nn.Sequential)]
    longest = max(lists, key=len, default=None)
    return [] if longest is None else [m for m in longest if any(True for _ in m.parameters())]


@contextmanager
def _checkpointed(blocks: list[nn.Module]) -> Iterator[None]:
    """Each block's forward is run again in the backward pass."""
    for block in blocks:
        again: Callable[..., Any] = partial(checkpoint, block.forward, use_reentrant=False)
        block.forward = again
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _kept_bytes(work: Work) -> float:
    """Bytes that autograd keeps for the backward pass, each storage once."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        work()
    return float(sum(kept.values()))
