"""How large the samples of a training are, by the first batch of each epoch."""

from __future__ import annotations

import pytest
import torch
from test_observing import Clock, Watched
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from perfdoctor.collect.script.sample_sizes import EVERY, SampleSizes
from perfdoctor.collect.script.settings_used import sample_sizes


def test_images_that_become_larger_are_told() -> None:
    with Watched(Clock()) as seen:
        model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.LazyLinear(1))
        model(torch.rand(1, 3, 8, 8))
        optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
        for size in (8, 8, 16, 16):
            data = TensorDataset(torch.rand(8, 3, size, size), torch.rand(8))
            for x, y in DataLoader(data, batch_size=4):
                (model[0](x).mean() - y.mean()).backward()
                optimizer.step()
    sizes = sample_sizes(seen.observer)
    assert sizes == {
        "sample_elements_at_first": 3 * 8 * 8 + 1,
        "sample_elements_at_last": 3 * 16 * 16 + 1,
    }


def noted(*sizes: int, loader: int = 0) -> SampleSizes:
    found = SampleSizes()
    for step, size in enumerate(sizes):
        found.note(10 * step, loader, [torch.zeros(4, size)], 4)
    return found


def test_what_varies_at_random_is_told_by_medians() -> None:
    found = noted(*([10, 30, 20] * 20))
    assert set(found.settings({0}, None).values()) == {20}


@pytest.mark.parametrize(("steps", "ends"), [((20, None), (30, 40)), ((0, 20), (10, 20))])
def test_of_several_trainings_those_of_the_longest_count(
    steps: tuple[int, int | None], ends: tuple[int, int]
) -> None:
    assert tuple(noted(10, 20, 30, 40).settings({0}, steps).values()) == ends


def test_other_loaders_and_a_single_epoch_tell_nothing() -> None:
    assert noted(10, 20, loader=3).settings({0}, None) == {}
    assert noted(10).settings({0}, None) == {}
    found = SampleSizes()
    for step in range(3):
        found.note(step, 0, ["text"], 4)
    assert found.settings({0}, None) == {}


def test_without_a_loader_calls_for_gradients_tell() -> None:
    with Watched(Clock()) as seen:
        small, large = nn.Linear(4, 1), nn.Conv2d(3, 2, 3)
        parameters = [*small.parameters(), *large.parameters()]
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        for step in range(2 * EVERY + 1):
            images = torch.rand(2, 3, 8 + step // EVERY, 8)
            with torch.no_grad():
                large(torch.rand(2, 3, 64, 64))
            (small(torch.rand(2, 4)).mean() + large(images).mean()).backward()
            optimizer.step()
    assert tuple(sample_sizes(seen.observer).values()) == (3 * 8 * 8, 3 * 10 * 8)


def test_a_long_training_is_remembered_to_its_end() -> None:
    found = noted(*range(1, 3 * 4096))
    first, last = found.settings({0}, None).values()
    assert first < 4096 * 3 * 0.15
    assert last > 4096 * 3 * 0.85
