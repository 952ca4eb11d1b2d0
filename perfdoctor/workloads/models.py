"""Reference models: small, ordinary, and quick enough to measure on two CPU cores.

They stand in for the user's model where only data was given. A training step takes about
20–150 ms on two cores at the batch size of `reference.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (as PyTorch's own documentation writes it)


class SmallCNN(nn.Module):
    """Four convolution blocks, global average pooling and a linear head.

    Takes (B, C, H, W); with `channels_last` (B, H, W, C); other dimensions in front of the last
    two count as channels. `side` is the smaller of H and W: large images are reduced in the first
    layer, tiny ones are never reduced below two pixels, where batch norm would fail.
    """

    widths = (24, 48, 96, 128)

    def __init__(
        self, channels: int, outputs: int, *, side: int, channels_last: bool = False
    ) -> None:
        super().__init__()
        self.channels_last = channels_last
        blocks: list[nn.Module] = []
        stride = max(1, side // 64)
        for width in self.widths:
            blocks += _conv_block(channels, width, stride)
            channels, side = width, -(-side // stride)
            stride = 2 if side >= 4 else 1
        self.features = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, …) → (B, outputs)."""
        x = x.movedim(-1, 1) if self.channels_last else x.reshape(len(x), -1, *x.shape[-2:])
        out: Tensor = self.head(self.features(x).mean((2, 3)))
        return out


def _conv_block(channels: int, width: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]


class TCN(nn.Module):
    """A temporal convolutional network (arXiv:1803.01271): dilated residual blocks, then a mean.

    Takes (B, T, C), or (B, C, T) with `channels_first`. Sequences longer than 256 are reduced by
    the stride of the first layer.
    """

    width = 64
    dilations = (1, 2, 4, 8)

    def __init__(
        self, channels: int, outputs: int, *, length: int, channels_first: bool = False
    ) -> None:
        super().__init__()
        self.channels_first = channels_first
        self.stem = nn.Conv1d(channels, self.width, 3, max(1, length // 256), padding=1)
        self.blocks = nn.ModuleList(
            nn.Conv1d(self.width, self.width, 3, padding=d, dilation=d) for d in self.dilations
        )
        self.head = nn.Linear(self.width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, outputs)."""
        x = self.stem(x if self.channels_first else x.transpose(1, 2))
        for block in self.blocks:
            x = x + F.relu(block(x))
        out: Tensor = self.head(x.mean(2))
        return out


class MLP(nn.Module):
    """Two hidden layers. Takes (B, …) and flattens it."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        width = 1024 if features <= 2048 else 256
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(features, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, …) → (B, outputs)."""
        out: Tensor = self.layers(x.reshape(len(x), -1))
        return out


class TinyGPT(nn.Module):
    """A decoder-only transformer of two layers with learned positions and a tied output layer.

    Takes token ids (B, T), gives logits (B, T, vocabulary).
    """

    def __init__(
        self, vocabulary: int, *, block_size: int, layers: int = 2, width: int = 128, heads: int = 4
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(block_size, width)
        self.blocks = nn.ModuleList(_DecoderBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) → (B, T, vocabulary)."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(self.norm(x))
        return out


class _DecoderBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def _attention(self, x: Tensor) -> Tensor:
        b, t, width = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.project(mixed.transpose(1, 2).reshape(b, t, width))
        return out
