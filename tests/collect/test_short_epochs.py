"""A loader with short epochs ends and begins them as any other does."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

from perfdoctor.collect.short_epochs import shorten


class Counting(Dataset):
    """Samples are their indices."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([index])


def batches(loader) -> list[list[int]]:
    return [batch.flatten().tolist() for batch in loader]


@pytest.mark.parametrize("workers", [{}, {"num_workers": 2}])
@pytest.mark.parametrize("kept", [False, True])
def test_its_first_batches_are_an_epoch(workers, kept):
    more = workers | ({"persistent_workers": kept} if workers else {})
    loader = shorten(DataLoader(Counting(), batch_size=2, **more), 3)
    assert len(loader) == 3
    for _ in range(3):
        assert batches(loader) == [[0, 1], [2, 3], [4, 5]]


def test_what_a_sampler_of_batches_gives_is_counted_too():
    sampler = BatchSampler(SequentialSampler(range(10)), 4, drop_last=False)
    loader = shorten(DataLoader(Counting(), batch_sampler=sampler), 2)
    assert batches(loader) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_without_batches_its_samples_are_counted():
    assert batches(shorten(DataLoader(Counting(), batch_size=None), 4)) == [[0], [1], [2], [3]]


def test_an_epoch_is_never_longer_than_it_was():
    loader = shorten(DataLoader(Counting(), batch_size=4), 7)
    assert len(loader) == len(batches(loader)) == 3
