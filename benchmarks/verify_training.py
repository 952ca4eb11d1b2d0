"""The training of `benchmarks/verify.py`: a step of equal pieces, some of which can be left out.

Leaving out 10 of 200 is a planted gain whose size is known, made of the same work as the rest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import perfdoctor
from perfdoctor.collect import modes
from perfdoctor.collect.arm_training import BenchTraining

PIECES = 200
_NOW = {"pieces": PIECES}


class Pieces(nn.Module):
    """One small layer, applied as often as `_NOW` says."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(48, 48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            for _ in range(_NOW["pieces"]):
                x = torch.relu(x @ self.layer.weight)
        return self.layer(x)


def workload() -> perfdoctor.Workload:
    """Samples in memory, so that nothing but the pieces takes time."""
    data = torch.utils.data.TensorDataset(torch.randn(4096, 48), torch.randn(4096, 48))
    return perfdoctor.Workload(model=Pieces(), dataset=data, batch_size=64)


class Planted(BenchTraining):
    """`BenchTraining` with a change of its own: {"pieces": N}."""

    def __init__(self, **described: Any) -> None:
        modes.CHANGES["pieces"] = _leave_out
        super().__init__(**described)


def _leave_out(mode: modes.Mode, loop: Any, value: int) -> None:
    mode.within(lambda: _set(value))


class _set:  # noqa: N801 - reads as a statement
    def __init__(self, value: int) -> None:
        self._value = value

    def __enter__(self) -> None:
        self._before, _NOW["pieces"] = _NOW["pieces"], self._value

    def __exit__(self, *_: object) -> None:
        _NOW["pieces"] = self._before
