"""Arrays of many samples: the first dimension counts them."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from perfdoctor.workloads.arrayfiles import Array, Arrays, as_sample, is_image
from perfdoctor.workloads.kinds import (
    Found,
    Recognised,
    class_labels,
    counted,
    none_readable,
    unreadable,
)
from perfdoctor.workloads.pairs import Skipped, Source, read_sources
from perfdoctor.workloads.reference import reference_for
from perfdoctor.workloads.targets import (
    NO_TARGETS,
    PLACEHOLDER_TASK,
    Targets,
    concatenated,
    placeholder,
)

#: The size of files that are read into memory; more of them would not change a step.
MAX_BYTES = 4 * 2**30


class ArrayBlocks(Dataset[tuple[Tensor, Tensor]]):
    """Samples from a few arrays, one after the other; `.npy` files stay mapped on disk.

    `skipped` holds (path, reason) of the files that could not be used.
    """

    def __init__(self, blocks: Sequence[Array], targets: Targets | None, skipped: Skipped) -> None:
        self.blocks = tuple(blocks)
        self.ends = list(accumulate(len(block) for block in blocks))
        self.targets = None if targets is None else targets.values
        self.skipped = skipped

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        block = bisect_right(self.ends, index)
        start = self.ends[block - 1] if block else 0
        x = as_sample(self.blocks[block][index - start])
        return x, placeholder(x) if self.targets is None else self.targets[index]

    def __getstate__(self) -> dict[str, Any]:
        """Mapped files travel to a spawned worker as paths; pickled, they would be read whole."""
        paths = [Path(str(b.filename)) if isinstance(b, np.memmap) else b for b in self.blocks]
        return self.__dict__ | {"blocks": tuple(paths)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.blocks = tuple(
            np.load(b, mmap_mode="r", allow_pickle=False) if isinstance(b, Path) else b
            for b in state["blocks"]
        )


def recognise_blocks(found: Found, sources: Sequence[Source], alone: Skipped) -> Recognised:
    """A dataset of blocks of samples; `alone` are files already known to be no part of it.

    Raises:
        PerfdoctorError: no file is usable; with `strict`, one is not.
    """
    read, left = _within_memory(sources)
    done, skipped = read_sources(read, strict=found.strict)
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
    about = NO_TARGETS if targets is None else f"targets: {task}"
    what = f"{len(dataset)} samples of shape {shape} in {counted(len(usable), 'file')}; {about}"
    return Recognised(
        dataset=dataset,
        samples=len(dataset),
        reference=reference_for(shape, task, image=is_image(blocks[0])),
        notes=(
            f"Recognised {what} ({found.where}).",
            *(f"Left out {left} files, to stay below 4 GiB in memory." for _ in range(left > 0)),
        ),
    )


def _within_memory(sources: Sequence[Source]) -> tuple[list[Source], int]:
    """The first sources whose files, unless they are mapped, stay below `MAX_BYTES`; the rest."""
    read_whole = [0 if s.x.path.suffix == ".npy" else s.x.size_bytes for s in sources]
    count = max(1, bisect_right(list(accumulate(read_whole)), MAX_BYTES))
    return list(sources[:count]), len(sources) - count


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
