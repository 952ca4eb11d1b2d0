"""Targets of array and table data: classes, numbers, or a placeholder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perfdoctor.workloads.reference import Task

#: More distinct integers than these are numbers (a price, a year), not classes.
MAX_CLASSES = 1_000
#: A target of more numbers than these (an image, say) would need another kind of model.
MAX_VALUES = 1_024

PLACEHOLDER_TASK = Task(1, classify=False)
NO_TARGETS = "no targets, so the model learns each sample's mean"


@dataclass(frozen=True)
class Targets:
    """Int64 classes (N,) or float32 numbers (N, K), and what the model then predicts."""

    values: Tensor
    task: Task


def targets_of(y: NDArray[Any]) -> Targets | None:
    """Targets from an array whose first dimension counts samples.

    Integers and truth values, one a sample, are classes, numbered from 0; other numbers are
    predicted. None where they are too many a sample.
    """
    flat = y.reshape(len(y), -1)
    if flat.shape[1] > MAX_VALUES:
        return None
    if flat.shape[1] == 1 and y.dtype.kind in "biu":
        classes, index = np.unique(flat[:, 0], return_inverse=True)
        if len(classes) <= MAX_CLASSES:
            task = Task(max(2, len(classes)), classify=True)
            return Targets(torch.from_numpy(index.astype(np.int64)), task)
    return Targets(_standardised(flat), Task(flat.shape[1], classify=False))


def _standardised(values: NDArray[Any]) -> Tensor:
    """Mean 0 and variance 1, so that the loss of no data set runs away."""
    x = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    spread = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return torch.from_numpy(x.astype(np.float32))


def placeholder(x: Tensor) -> Tensor:
    """The target of a sample that has none: its mean, so that there is something to learn."""
    return x.mean().reshape(1)


def concatenated(parts: Sequence[NDArray[Any]]) -> Targets | None:
    """`targets_of` for data that came in several files; None if any target is too large."""
    if any(np.prod(part.shape[1:]) > MAX_VALUES for part in parts):
        return None
    return targets_of(np.concatenate([part.reshape(len(part), -1) for part in parts]))
