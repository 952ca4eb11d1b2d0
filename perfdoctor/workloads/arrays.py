"""Array files: blocks of samples with or without targets, or one file a sample."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from perfdoctor.workload import UnreadableSampleError
from perfdoctor.workloads import tokens
from perfdoctor.workloads.arrayfiles import X_NAMES, Y_NAMES, Array, Arrays, as_numpy, as_sample
from perfdoctor.workloads.arrayfiles import named, read_arrays, words
from perfdoctor.workloads.kinds import (
    DataFile,
    Found,
    Recognised,
    class_labels,
    none_readable,
    read_each,
    reason_of,
    skipped_notes,
    unreadable,
)
from perfdoctor.workloads.reference import Task, reference_for
from perfdoctor.workloads.targets import (
    MAX_VALUES,
    PLACEHOLDER_TASK,
    Targets,
    concatenated,
    placeholder,
)

#: So many files of one shape, without targets in them, are taken as one sample each.
MANY_FILES = 16
#: Files read to learn the shape and the classes, where each file is one sample.
_PROBED = 64

Sample = tuple[Tensor, Tensor]
Skipped = list[tuple[str, str]]


@dataclass(frozen=True)
class Source:
    """A file with samples, and the file beside it with their targets, if there is one."""

    x: DataFile
    y: DataFile | None = None

    def read(self) -> Arrays:
        """Raises what `read_arrays` raises."""
        held = read_arrays(self.x.path)
        if self.y is None:
            return held
        return replace(held, y=as_numpy(read_arrays(self.y.path).x))


class ArrayBlocks(Dataset[Sample]):
    """Samples from a few arrays, one after the other; `.npy` files stay mapped on disk.

    `skipped` holds (path, reason) of the files that could not be used.
    """

    def __init__(
        self, blocks: Sequence[Array], targets: Targets | None, skipped: Skipped
    ) -> None:
        self.blocks = tuple(blocks)
        self.ends = list(accumulate(len(block) for block in blocks))
        self.targets = None if targets is None else targets.values
        self.skipped = skipped

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> Sample:
        block = bisect_right(self.ends, index)
        start = self.ends[block - 1] if block else 0
        x = as_sample(self.blocks[block][index - start])
        return x, placeholder(x) if self.targets is None else self.targets[index]


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
    probed, _ = _read(sources[:_PROBED], strict=found.strict)
    arrays = [held for _, held in probed]
    if _are_tokens(probed):
        return tokens.recognise_npy(found)
    if _one_sample_each(arrays, len(sources)):
        return _files(found, sources, arrays)
    return _blocks(found, sources, alone)


def pair(files: Sequence[DataFile]) -> tuple[list[Source], Skipped]:
    """Joins `x_1.npy` with `y_1.npy`, `a.npy` with `a_label.npy`; the rest are samples alone.

    Where there are pairs, files without targets are skipped: they are something else.
    """
    samples: dict[Any, list[DataFile]] = defaultdict(list)
    targets: dict[Any, list[DataFile]] = defaultdict(list)
    for file in files:
        side = targets if named([file.path.stem], Y_NAMES) else samples
        side[_pair_key(file.path)].append(file)
    both = [key for key in samples if len(samples[key]) == len(targets.get(key, ())) == 1]
    if not both:
        return [Source(file) for file in files], []
    paired = {f for key in both for f in (samples[key][0], targets[key][0])}
    alone = [(str(f.path), "no targets beside it") for f in files if f not in paired]
    return [Source(samples[key][0], targets[key][0]) for key in both], alone


def _pair_key(path: Path) -> tuple[Path, tuple[str, ...]]:
    role = {*X_NAMES, *Y_NAMES}
    return path.parent, tuple(word for word in words(path.stem) if word not in role)


def _read(sources: Sequence[Source], *, strict: bool) -> tuple[list[tuple[Source, Arrays]], Skipped]:
    by_path = {source.x.path: source for source in sources}
    done, skipped = read_each(
        [source.x for source in sources], lambda path: by_path[path].read(), strict=strict
    )
    return [(by_path[file.path], held) for file, held in done], skipped


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
    if all(held.y is not None for held in arrays):
        return all(_is_target_of_one(held) for held in arrays)
    same = len({tuple(held.x.shape) for held in arrays}) == 1
    return same and (count >= MANY_FILES or arrays[0].x.ndim < 2)


def _is_target_of_one(held: Arrays) -> bool:
    y = held.y
    return y is not None and (y.ndim == 0 or held.x.ndim == 0 or len(y) != len(held.x))


def _files(found: Found, sources: Sequence[Source], arrays: Sequence[Arrays]) -> Recognised:
    shape = Counter(tuple(held.x.shape) for held in arrays).most_common(1)[0][0]
    folders = class_labels([source.x for source in sources])
    if folders is not None:
        task: Task | None = Task(len(folders[1]), classify=True)
        source_of_targets = f"classes from {len(folders[1])} folders"
    else:
        task = _task_of_files([held for held in arrays if tuple(held.x.shape) == shape])
        source_of_targets = _PLACEHOLDER if task is None else f"targets in the files: {task}"
    labels = None if folders is None else folders[0]
    what = f"{len(sources)} files, each a sample of shape {shape}; {source_of_targets}"
    return Recognised(
        dataset=ArrayFiles(sources, shape, task, labels),
        samples=len(sources),
        reference=reference_for(shape, task or PLACEHOLDER_TASK, image=_is_image(arrays[0].x)),
        notes=(f"Recognised {what} ({found.where}).",),
    )


_PLACEHOLDER = "no targets, so the model learns each sample's mean"


def _task_of_files(arrays: Sequence[Arrays]) -> Task | None:
    """The task from the first files' targets; labels met later are folded into their classes."""
    y = arrays[0].y
    if y is None or y.size > MAX_VALUES:
        return None
    if y.size == 1 and y.dtype.kind in "biu":
        highest = max(int(h.y.reshape(-1)[0]) for h in arrays if h.y is not None and h.y.size == 1)
        return Task(max(2, highest + 1), classify=True)
    return Task(y.size, classify=False)


def _blocks(found: Found, sources: Sequence[Source], alone: Skipped) -> Recognised:
    done, skipped = _read(sources, strict=found.strict)
    usable, odd = _alike(done)
    skipped += alone + odd
    if found.strict and odd:
        raise unreadable(Path(odd[0][0]), odd[0][1])
    if not usable:
        raise none_readable(skipped)
    blocks = [held.x for _, held in usable]
    targets = _block_targets(usable)
    dataset = ArrayBlocks(blocks, targets, skipped)
    shape = tuple(blocks[0].shape[1:])
    task = PLACEHOLDER_TASK if targets is None else targets.task
    about = _PLACEHOLDER if targets is None else f"targets: {task}"
    plural = "s" if len(usable) > 1 else ""
    what = f"{len(dataset)} samples of shape {shape} in {len(usable)} file{plural}; {about}"
    return Recognised(
        dataset=dataset,
        samples=len(dataset),
        reference=reference_for(shape, task, image=_is_image(blocks[0])),
        notes=(
            f"Recognised {what} ({found.where}).",
            *skipped_notes(skipped, len(found.files)),
        ),
    )


def _alike(done: Sequence[tuple[Source, Arrays]]) -> tuple[list[tuple[Source, Arrays]], Skipped]:
    """The blocks that go together: the most frequent sample shape, with targets where any has."""
    problems = [(source, held, _problem(held)) for source, held in done]
    good = [(source, held) for source, held, problem in problems if problem is None]
    skipped = [(str(s.x.path), problem) for s, _, problem in problems if problem is not None]
    if not good:
        return [], skipped
    kinds = Counter(_block_kind(held) for _, held in good)
    kind = max(kinds, key=lambda k: (kinds[k], k[1]))
    skipped += [
        (str(s.x.path), f"has {_kind_text(_block_kind(held))}, others have {_kind_text(kind)}")
        for s, held in good
        if _block_kind(held) != kind
    ]
    return [(s, held) for s, held in good if _block_kind(held) == kind], skipped


def _problem(held: Arrays) -> str | None:
    if held.x.ndim == 0 or len(held.x) == 0:
        return "has no samples"
    if held.y is not None and (held.y.ndim == 0 or len(held.y) != len(held.x)):
        return f"has {len(held.x)} samples but targets of shape {held.y.shape}"
    return None


def _block_kind(held: Arrays) -> tuple[tuple[int, ...], bool]:
    return tuple(held.x.shape[1:]), held.y is not None


def _kind_text(kind: tuple[tuple[int, ...], bool]) -> str:
    return f"samples of shape {kind[0]} {'with' if kind[1] else 'without'} targets"


def _block_targets(usable: Sequence[tuple[Source, Arrays]]) -> Targets | None:
    ys = [held.y for _, held in usable if held.y is not None]
    if ys:
        return concatenated(ys)
    folders = class_labels([source.x for source, _ in usable])
    if folders is None:
        return None
    lengths = [len(held.x) for _, held in usable]
    return concatenated([np.repeat(folders[0], lengths)])


def _is_image(x: Array) -> bool:
    """Bytes in two dimensions a sample are grey images, as in MNIST; other numbers sequences."""
    return x.dtype in (torch.uint8, np.dtype("uint8"))
