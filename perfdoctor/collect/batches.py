"""Batches as nested containers of tensors: moving, slicing, joining, and the default unpacking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its customary name

from perfdoctor.errors import PerfdoctorError

TARGET_KEYS = ("labels", "label", "targets", "target", "y")


def tree_map(function: Callable[[torch.Tensor], Any], tree: Any) -> Any:
    """`tree` with `function` applied to every tensor in its lists, tuples and mappings."""
    if isinstance(tree, torch.Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        return {key: tree_map(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(tree_map(function, value) for value in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(tree_map(function, value) for value in tree)
    return tree


def tensors(tree: Any) -> Iterator[torch.Tensor]:
    """Every tensor in `tree`."""
    found: list[torch.Tensor] = []
    tree_map(found.append, tree)
    return iter(found)


def to_device(
    batch: Any, device: torch.device, *, non_blocking: bool, channels_last: bool = False
) -> Any:
    """The batch on `device`; 4-d tensors in channels-last layout if wanted."""
    if not isinstance(batch, (torch.Tensor, Mapping, list, tuple)) and hasattr(batch, "to"):
        return batch.to(device)  # a batch class of its own, such as a graph batch

    def move(tensor: torch.Tensor) -> torch.Tensor:
        if channels_last and tensor.dim() == 4:
            layout = torch.channels_last
            return tensor.to(device, non_blocking=non_blocking, memory_format=layout)
        return tensor.to(device, non_blocking=non_blocking)

    return tree_map(move, batch)


def samples_in(batch: Any) -> int | None:
    """The first dimension of the batch's first tensor."""
    return next((int(t.shape[0]) for t in tensors(batch) if t.dim() > 0), None)


def bytes_in(batch: Any) -> int:
    """Bytes of all tensors in the batch."""
    return sum(t.numel() * t.element_size() for t in tensors(batch))


def first_sample(batch: Any) -> Any:
    """A batch of one: the first sample of every tensor that has the batch's length."""
    count = samples_in(batch)
    return tree_map(lambda t: t[:1] if t.dim() > 0 and t.shape[0] == count else t, batch)


def joined(first: Any, second: Any) -> Any:
    """Two batches of one structure as one of their summed length.

    Raises:
        RuntimeError: their tensors do not fit together.
    """
    others = tensors(second)
    count = samples_in(first)

    def join(tensor: torch.Tensor) -> torch.Tensor:
        other = next(others)
        alike = tensor.dim() > 0 and tensor.shape[0] == count
        return torch.cat([tensor, other]) if alike else tensor

    return tree_map(join, first)


def default_unpack(batch: Any) -> tuple[Any, Any]:
    """(inputs, target) of a batch: see `Workload.unpack`."""
    if isinstance(batch, Mapping):
        target = next((batch[key] for key in TARGET_KEYS if key in batch), None)
        return batch, target
    if isinstance(batch, (list, tuple)) and len(batch) >= 2:
        inputs = batch[0] if len(batch) == 2 else tuple(batch[:-1])
        return inputs, batch[-1]
    if isinstance(batch, (list, tuple)) and len(batch) == 1:
        return batch[0], None
    return batch, None


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Tuples become positional arguments, mappings keyword arguments."""
    if isinstance(inputs, tuple) and not hasattr(inputs, "_fields"):
        return model(*inputs)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(inputs)


def default_loss(output: Any, target: Any) -> torch.Tensor:
    """The model's own loss, cross-entropy or mean squared error: see `Workload.loss`.

    Raises:
        PerfdoctorError: none of them fits what the model returned.
    """
    own = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if isinstance(own, torch.Tensor):
        return own
    if isinstance(output, (list, tuple)) and output and isinstance(output[0], torch.Tensor):
        output = output[0]
    if isinstance(output, torch.Tensor) and output.dim() == 0:
        return output
    if isinstance(output, torch.Tensor) and isinstance(target, torch.Tensor):
        return _loss_by_shape(output, target)
    raise PerfdoctorError(
        f"no default loss for an output of type {type(output).__name__} and a target of type "
        f"{type(target).__name__}; give Workload(loss=...)",
        slug="no-default-loss",
    )


def _loss_by_shape(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    if not target.is_floating_point() and output.dim() >= 2:
        classes = output.shape[-1]
        if output.shape[:-1] == target.shape:
            return F.cross_entropy(output.reshape(-1, classes), target.reshape(-1).long())
        if output.dim() == target.dim() + 1:  # (N, C, ...) as cross_entropy wants it
            return F.cross_entropy(output, target.long())
    if target.is_floating_point() and output.numel() == target.numel():
        return F.mse_loss(output.reshape(target.shape), target)
    raise PerfdoctorError(
        f"no default loss for output {tuple(output.shape)} ({output.dtype}) and target "
        f"{tuple(target.shape)} ({target.dtype}); give Workload(loss=...)",
        slug="no-default-loss",
    )
