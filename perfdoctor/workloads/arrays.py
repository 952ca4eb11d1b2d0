"""Array files: blocks of samples with or without targets, or one file a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from perfdoctor.workload import UnreadableSampleError
from perfdoctor.workloads import tokens
from perfdoctor.workloads.arrayblocks import recognise_blocks
from perfdoctor.workloads.arrayfiles import Arrays, as_numpy, as_sample, is_image
from perfdoctor.workloads.kinds import Found, Recognised, class_labels, reason_of
from perfdoctor.workloads.pairs import Source, pair, read_sources
from perfdoctor.workloads.reference import Task, reference_for
from perfdoctor.workloads.targets import MAX_VALUES, NO_TARGETS, PLACEHOLDER_TASK, placeholder

#: So many files of one shape, without targets in them, are taken as one sample each.
MANY_FILES = 16
#: Files read to learn the shape and the classes, where each file is one sample.
_PROBED = 64
#: The share of them that must have one shape; a damaged file among them is no reason to doubt.
_ALIKE = 0.9

Sample = tuple[Tensor, Tensor]


class ArrayFiles(Dataset[Sample]):
    """Reads one file a sample.

    `__getitem__` raises `UnreadableSampleError` for a file that cannot be read, or whose shape
    differs from the others'.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        shape: tuple[int, ...],
        task: Task | None,
        labels: Sequence[int] | None,
    ) -> None:
        self.sources, self.shape, self.task, self.labels = tuple(sources), shape, task, labels

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> Sample:
        source = self.sources[index]
        try:
            held = source.read()
            if tuple(held.x.shape) != self.shape:
                raise ValueError(f"has shape {tuple(held.x.shape)}, others have {self.shape}")
            x = as_sample(held.x)
            return x, self._target(index, x, held.y)
        except Exception as error:  # readers of damaged files raise anything
            raise UnreadableSampleError(str(source.x.path), reason_of(error)) from error

    def _target(self, index: int, x: Tensor, y: Any) -> Tensor:
        if self.labels is not None:
            return torch.tensor(self.labels[index])
        if self.task is None:
            return placeholder(x)
        if y is None or y.size != (1 if self.task.classify else self.task.outputs):
            raise ValueError("has no targets such as the other files have")
        if self.task.classify:
            return torch.tensor(int(y.reshape(-1)[0]) % self.task.outputs)
        return torch.from_numpy(y.reshape(-1).astype(np.float32))


def recognise(found: Found) -> Recognised:
    """A dataset of arrays and the reference model for their shape.

    Raises:
        PerfdoctorError: no file can be read; with `strict`, one cannot; safetensors is missing.
    """
    sources, alone = pair(found.files)
    probed, _ = read_sources(sources[:_PROBED], strict=found.strict)
    arrays = [held for _, held in probed]
    if _are_tokens(probed):
        return tokens.recognise_npy(found)
    if _one_sample_each(arrays, len(sources)):
        return _recognise_files(found, sources, arrays)
    return recognise_blocks(found, sources, alone)


def _are_tokens(probed: Sequence[tuple[Source, Arrays]]) -> bool:
    return all(
        source.x.path.suffix.lower() == ".npy"
        and held.y is None
        and held.x.ndim == 1
        and as_numpy(held.x[:0]).dtype.kind in "iu"
        for source, held in probed
    )


def _one_sample_each(arrays: Sequence[Arrays], count: int) -> bool:
    """Whether a file is a sample, not a block of samples along the first dimension."""
    if count < 2:
        return False
    with_targets = [held for held in arrays if held.y is not None]
    if 2 * len(with_targets) > len(arrays):
        return 2 * sum(map(_is_target_of_one, with_targets)) > len(with_targets)
    shape, same = Counter(tuple(held.x.shape) for held in arrays).most_common(1)[0]
    return same >= _ALIKE * len(arrays) and (count >= MANY_FILES or len(shape) < 2)


def _is_target_of_one(held: Arrays) -> bool:
    y = held.y
    return y is not None and (y.ndim == 0 or held.x.ndim == 0 or len(y) != len(held.x))


def _recognise_files(
    found: Found, sources: Sequence[Source], arrays: Sequence[Arrays]
) -> Recognised:
    shape = Counter(tuple(held.x.shape) for held in arrays).most_common(1)[0][0]
    folders = class_labels([source.x for source in sources])
    if folders is not None:
        task: Task | None = Task(len(folders[1]), classify=True)
        about = f"classes from {len(folders[1])} folders"
    else:
        task = _task_of_files([held for held in arrays if tuple(held.x.shape) == shape])
        about = NO_TARGETS if task is None else f"targets in the files: {task}"
    what = f"{len(sources)} files, each a sample of shape {shape}; {about}"
    return Recognised(
        dataset=ArrayFiles(sources, shape, task, folders[0] if folders else None),
        samples=len(sources),
        reference=reference_for(shape, task or PLACEHOLDER_TASK, image=is_image(arrays[0].x)),
        notes=(f"Recognised {what} ({found.where}).",),
    )


def _task_of_files(arrays: Sequence[Arrays]) -> Task | None:
    """The task from the first files' targets; labels met later are folded into their classes."""
    y = arrays[0].y
    if y is None or y.size > MAX_VALUES:
        return None
    if y.size == 1 and y.dtype.kind in "biu":
        highest = max(int(h.y.reshape(-1)[0]) for h in arrays if h.y is not None and h.y.size == 1)
        return Task(max(2, highest + 1), classify=True)
    return Task(y.size, classify=False)
