"""How many backward passes a step has, at first and at last."""

from __future__ import annotations

import pytest
import torch
from test_observing import Clock, Watched
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from perfdoctor.collect.script.passes_per_step import PassesPerStep


def told(*passes: int) -> tuple[float, ...]:
    found, whole = PassesPerStep(), 0
    for look, each in enumerate((0, *passes)):
        whole += 20 * each
        found.note(20 * look, whole)
    return tuple(found.settings().values())


@pytest.mark.parametrize(
    ("passes", "ends"),
    [
        ((1, 1, 1, 1), (1, 1)),
        ((1, 1, 1, 4, 4, 4), (1, 4)),
        ((1, 2, 3, 4, 5, 6), ()),  # more and more
        ((1,), ()),
        ((), ()),
    ],
)
def test_passes_at_both_ends(passes: tuple[int, ...], ends: tuple[float, ...]) -> None:
    assert told(*passes) == ends


@pytest.mark.parametrize("loads", [True, False])
def test_passes_are_counted_whatever_gives_the_batches(loads: bool) -> None:
    data = TensorDataset(torch.rand(40, 4))
    with Watched(Clock()) as seen:
        model = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        batches = [x for (x,) in DataLoader(data, batch_size=4)]
        for (x,) in DataLoader(data, batch_size=4) if loads else ((x,) for x in batches):
            x.requires_grad_(True)
            torch.autograd.grad(model(x).mean(), x)
            model(x).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert seen.observer.backward_passes == 20


def test_of_several_trainings_those_of_the_longest_count() -> None:
    found = PassesPerStep()
    for steps, passes in ((20, 20), (40, 40), (60, 60), (80, 140), (100, 220), (120, 300)):
        found.note(steps, passes)
    assert found.settings((60, None)) == {"passes_at_first": 4, "passes_at_last": 4}
    assert found.settings((0, 60)) == {"passes_at_first": 1, "passes_at_last": 1}
