"""How small validation's batches are beside the training's."""

from __future__ import annotations

import pytest
import torch
from test_observing import Clock
from test_validation_calls import Net, found
from torch.utils.data import DataLoader, TensorDataset

from perfdoctor.collect.script.loaders_seen import LoadersSeen
from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.validation_batches import loader_of_validation

BATCH = torch.ones(64, 8)


def part_of(*shapes: tuple[int, ...]) -> float | None:
    """Of a model that is validated with inputs of these shapes."""
    clock = Clock()

    def validate(model: Net) -> None:
        for shape in shapes:
            model(torch.ones(shape))

    part: float | None = found(Net(clock), clock, validate, BATCH).get("validation_call_part")
    return part


@pytest.mark.parametrize(("rows", "part"), [(64, 1.0), (4, 1 / 16), (100, 100 / 64)])
def test_a_call_is_set_beside_a_call_of_the_training(rows: int, part: float) -> None:
    assert part_of(*[(rows, 8)] * 5) == pytest.approx(part)


def test_samples_that_differ_in_length_can_be_padded() -> None:
    assert part_of((2, 8), (2, 4), (2, 6)) == pytest.approx(12 / 512)


@pytest.mark.parametrize("shapes", [((1, 3, 8, 8), (1, 3, 6, 9)), ((1, 8), (1, 8, 8))])
def test_samples_that_do_not_fit_together_tell_nothing(shapes) -> None:
    assert part_of(*shapes) is None


def test_the_loader_that_validates_most_is_meant() -> None:
    data = TensorDataset(torch.zeros(64, 2))
    seen = LoadersSeen(Recorder())
    for size, batches in ((8, 16), (1, 128)):
        facts = seen.of(DataLoader(data, batch_size=size))
        facts.iterators, facts.batches, facts.validation = 2, batches, batches
    trained = seen.of(DataLoader(data, batch_size=2))
    trained.iterators, trained.batches, trained.training = 2, 1000, 1000
    assert loader_of_validation(seen.values()) == {
        "validation_batch_size": 1,
        "validation_batches": 64,
    }


def test_a_sampler_of_batches_does_not_tell_its_size() -> None:
    data = TensorDataset(torch.zeros(4, 2))
    seen = LoadersSeen(Recorder())
    facts = seen.of(DataLoader(data, batch_sampler=[[0, 1], [2]]))
    facts.iterators, facts.batches, facts.validation = 1, 2, 2
    assert loader_of_validation(seen.values()) == {}
