"""Datasets that tell what they were asked; a spawned worker imports them from here."""

from __future__ import annotations

import os
import random
import signal
import warnings

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info


class Numbers(Dataset):
    """Index, seed of the worker, random draws of three kinds."""

    def __init__(self, count: int = 24) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int):
        info = get_worker_info()
        assert info is None or info.dataset is self
        seed = 0.0 if info is None else float(info.seed % 100_003)
        draws = (random.random(), float(np.random.rand()), torch.rand(()).item())
        return torch.tensor([float(index), seed, *draws], dtype=torch.float64)


class Batches(Numbers):
    """Gives a whole batch at once."""

    def __getitems__(self, indices):
        assert type(indices) is list
        return [self[i] for i in indices]


class Shard(IterableDataset):
    """Numbers, shared out among the workers."""

    def __init__(self, count: int = 21) -> None:
        self.count = count

    def __iter__(self):
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return iter(range(first, self.count, step))


class Broken(Numbers):
    """Fails at one index."""

    def __getitem__(self, index: int):
        if index == 5:
            raise ValueError(f"cannot read sample {index}")
        return super().__getitem__(index)


class TellsItsCaller(Numbers):
    """Fails with the place that a warning about the caller is put on."""

    def __getitem__(self, index: int):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.warn("here", stacklevel=2)
        raise RuntimeError(f"{caught[0].filename}:{caught[0].lineno}")


class NotIterable(IterableDataset):
    """Fails when its iterator is made."""

    def __iter__(self):
        raise RuntimeError("no shards")


class Killed(Numbers):
    """The worker that gets to index 17 is killed."""

    def __getitem__(self, index: int):
        if index == 17:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


class Nested(Numbers):
    """Each sample comes out of a loader of its own."""

    def __getitem__(self, index: int):
        return next(iter(torch.utils.data.DataLoader([index, index], batch_size=2)))


def bad_collate(samples):
    """Fails."""
    raise TypeError("these do not fit together")


def bad_init(worker_id: int) -> None:
    """Fails."""
    raise OSError(f"no file for {worker_id}")


def seeded_init(worker_id: int) -> None:
    """Draws a number, as a user's own may."""
    random.random()
