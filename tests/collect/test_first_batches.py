"""Whether the same batches come from a loader that is made otherwise."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import toys
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, Sampler, TensorDataset

from perfdoctor.collect.arm_training import BenchTraining
from perfdoctor.collect.first_batches import OTHER, REDRAWN, SAME, digest, relation


class Augmented(toys.Points):
    """Its samples are drawn anew, their classes are not."""

    def __getitem__(self, index):
        point, kind = super().__getitem__(index)
        return point + torch.rand(4), kind


class Unlike(Sampler):
    """Another order each time, which no seed decides."""

    times = 0

    def __len__(self):
        return 8

    def __iter__(self):
        type(self).times += 1
        return iter([(index + self.times) % 8 for index in range(8)])


def made(dataset, **options):
    return lambda: DataLoader(dataset, batch_size=2, **options)


def test_workers_give_the_same_batches_where_nothing_is_drawn_in_them():
    points = toys.Points(16)
    none, two = (made(points, shuffle=True, num_workers=n) for n in (0, 2))
    assert relation(none, two, 3) == SAME


def test_workers_draw_other_augmentations_of_the_same_samples():
    points = Augmented(16)
    none, one = (made(points, shuffle=True, num_workers=n) for n in (0, 1))
    assert relation(none, one, 3) == REDRAWN
    assert relation(none, none, 3) == SAME


def test_another_order_is_told_from_other_augmentations():
    points = toys.Points(16)
    assert relation(made(points), made(points, shuffle=True), 3) == OTHER


def test_of_what_differs_from_time_to_time_nothing_is_told():
    points = toys.Points(8)
    once = made(points, sampler=Unlike())
    assert relation(once, made(points, sampler=Unlike(), num_workers=1), 3) is None


def test_what_cannot_be_compared_is_not():
    class Odd(toys.Points):
        def __getitem__(self, index):
            return object()

    odd = made(Odd(8), collate_fn=list)
    assert relation(odd, odd, 2) is None
    with pytest.raises(TypeError):
        digest([object()])


def test_nothing_that_is_drawn_later_notices():
    generator = torch.Generator().manual_seed(3)
    points = Augmented(16)
    sampler = RandomSampler(points, generator=generator)
    state = generator.get_state()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    expected = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    relation(made(points, sampler=sampler), made(points, sampler=sampler, num_workers=1), 3)
    assert torch.equal(generator.get_state(), state)
    assert (torch.rand(1), random.random(), np.random.rand()) == expected


@pytest.mark.parametrize(
    "batch",
    [
        (torch.zeros(2, dtype=torch.bfloat16), {"mask": torch.tensor([True]), "name": "a"}),
        [np.arange(3), 1.5, None, torch.tensor(1 + 2j)],
        np.array(["a", None], dtype=object),
    ],
)
def test_batches_of_many_kinds_are_compared(batch):
    assert digest(batch) == digest(batch)
    assert digest(batch) != digest([batch])


def test_batches_of_the_same_bytes_and_another_shape_differ():
    flat = TensorDataset(torch.zeros(4, 2))
    assert digest(flat.tensors[0]) != digest(torch.zeros(8))


def test_the_loader_of_a_workload_is_compared_without_being_touched():
    training = BenchTraining(
        {"workload": f"{toys.__file__}:workload"}, {}, {"two": {"num_workers": 2}, "compute": {}}
    )
    try:
        training.warm(1, None)
        assert training.batches("two", 3) == {"relation": SAME}
        assert training.batches("compute", 3) == {"relation": SAME}
        training.chunk(2, None)
    finally:
        training.close()


class Stream(IterableDataset):
    """Another beginning each time, or always the same."""

    def __init__(self, moves):
        self.moves, self.times = moves, 0

    def __iter__(self):
        self.times += self.moves
        yield from (torch.tensor([float(self.times + i)]) for i in range(8))


@pytest.mark.parametrize(("moves", "told"), [(0, OTHER), (1, None)])
def test_iterables_are_other_only_where_they_are_the_same_from_time_to_time(moves, told):
    stream = Stream(moves)
    two = DataLoader(stream, batch_size=4)
    assert relation(made(stream), lambda: two, 1) == told
