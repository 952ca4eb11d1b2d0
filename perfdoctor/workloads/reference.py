"""Which reference model, loss and batch size suit samples of a given shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (as PyTorch's own documentation writes it)

from perfdoctor.workloads.models import MLP, TCN, SmallCNN, TinyGPT

IMAGE_BATCH = 32
SEQUENCE_BATCH = 64
TABLE_BATCH = 256
TOKEN_BATCH = 16


@dataclass(frozen=True)
class Task:
    """What the model predicts: one of `outputs` classes, or that many numbers."""

    outputs: int
    classify: bool

    def __str__(self) -> str:
        if self.classify:
            return f"{self.outputs} classes"
        return "1 number" if self.outputs == 1 else f"{self.outputs} numbers"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A model to train where the user gave only data.

    Attributes:
        make: gives a fresh model.
        loss: `loss(output, target)`.
        batch_size: samples per batch.
        label: such as "a small CNN".
        predicts: such as "4 classes".
    """

    make: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    batch_size: int
    label: str
    predicts: str

    def note(self, model: nn.Module) -> str:
        """The sentence for a report's header; `model` is what `make` gave."""
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        return f"Reference model: {self.label} ({millions:.2g} M parameters), {self.predicts}."


def reference_for(shape: tuple[int, ...], task: Task, *, image: bool = False) -> Reference:
    """The model for samples of `shape`.

    Numbers and vectors get an MLP; (T, C) a TCN, or a CNN where it is an `image` without
    channels; three dimensions and more a CNN.
    """
    if len(shape) < 2:
        make, label, batch_size = _mlp(shape, task), "an MLP", TABLE_BATCH
    elif len(shape) == 2 and not image:
        make, label, batch_size = _tcn(shape, task), "a small TCN", SEQUENCE_BATCH
    else:
        make, label, batch_size = _cnn(shape, task), "a small CNN", IMAGE_BATCH
    loss = F.cross_entropy if task.classify else F.mse_loss
    return Reference(make=make, loss=loss, batch_size=batch_size, label=label, predicts=str(task))


def gpt_reference(vocabulary: int, block_size: int) -> Reference:
    """The model for windows of `block_size` token ids."""
    return Reference(
        make=lambda: TinyGPT(vocabulary, block_size=block_size),
        loss=next_token_loss,
        batch_size=TOKEN_BATCH,
        label="a small GPT",
        predicts=f"the next of {block_size} tokens, {vocabulary} token ids",
    )


def next_token_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of logits (B, T, V) and token ids (B, T)."""
    return F.cross_entropy(logits.flatten(0, 1), target.flatten())


def _mlp(shape: tuple[int, ...], task: Task) -> Callable[[], nn.Module]:
    return lambda: MLP(math.prod(shape), task.outputs)


def _tcn(shape: tuple[int, ...], task: Task) -> Callable[[], nn.Module]:
    """(T, C), unless there would be more channels than time: then (C, T)."""
    channels_first = shape[0] < shape[1]
    length, channels = max(shape), min(shape)
    return lambda: TCN(channels, task.outputs, length=length, channels_first=channels_first)


def _cnn(shape: tuple[int, ...], task: Task) -> Callable[[], nn.Module]:
    """(C, H, W), unless the last dimension is smaller than the first: then (H, W, C)."""
    last = len(shape) == 3 and shape[2] < shape[0]
    channels = shape[2] if last else math.prod(shape[:-2])
    side = min(shape[:2]) if last else min(shape[-2:])
    return lambda: SmallCNN(channels, task.outputs, side=side, channels_last=last)
