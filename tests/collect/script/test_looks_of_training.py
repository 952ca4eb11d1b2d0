"""A script that trains one model after another is told of as the longest training is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_observing import Clock, Watched
from torch import nn

from perfdoctor.collect.script.assembly import _of_several, _records
from perfdoctor.collect.script.looks_of_training import Began, LooksOfTraining

STEPS = 16


def train(clock: Clock, layers: int, each: int, steps: int = STEPS) -> None:
    """Steps that take this long each, of a model of so many layers."""
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(layers)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        clock.spend(each)
        model(torch.rand(3, 4)).sum().backward()
        optimizer.step()


@pytest.mark.parametrize(("first", "second", "layers"), [(1, 50, 5), (50, 1, 2)])
def test_the_longest_training_is_told(first: int, second: int, layers: int) -> None:
    clock = Clock()
    with Watched(clock) as seen:
        train(clock, layers=2, each=first)
        train(clock, layers=5, each=second)
    assert seen.observer.looks.longest().autograd_nodes == operations(layers)


def operations(layers: int) -> int:
    """Of a sum of so many linear layers: each a product and a transposed weight."""
    return 2 * layers + 1


def test_a_training_that_ends_before_its_graph_is_seen_is_none() -> None:
    clock = Clock()
    with Watched(clock) as seen:
        train(clock, layers=2, each=1)
        train(clock, layers=5, each=500, steps=2)
    assert seen.observer.looks.longest().autograd_nodes == operations(2)


def test_of_three_trainings_the_longest_is_kept() -> None:
    clock = Clock()
    with Watched(clock) as seen:
        for layers, each in ((2, 1), (5, 50), (3, 20)):
            train(clock, layers=layers, each=each)
    assert seen.observer.looks.longest().autograd_nodes == operations(5)


def test_each_training_settles_for_itself() -> None:
    recorder: Any = type("Recorder", (), {"count": 100, "clock": staticmethod(lambda: 0)})()
    looks = LooksOfTraining(recorder, Began(0, 90))
    assert [count for count in range(200) if looks.settles(count)] == [103, 120]
    assert [count for count in range(200) if looks.counts(count)] == [102]
    assert looks.steps == (90, None)
    looks.end(Began(5, 130))
    assert looks.steps == (90, 130)


def test_folds_of_a_cross_validation_are_one_training() -> None:
    clock = Clock()
    with Watched(clock) as seen:
        for _ in range(3):
            train(clock, layers=2, each=1)
    assert seen.observer.optimizers.trainings == 0
    assert seen.observer.looks.longest_steps is None


def test_the_steps_of_the_longest_are_known() -> None:
    clock = Clock()
    with Watched(clock) as seen:
        train(clock, layers=2, each=1)
        train(clock, layers=5, each=50)
    assert seen.observer.looks.longest_steps == (STEPS, None)


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (None, None),
        ((50, None), (50, 400)),
        ((50, 300), (50, 300)),
        ((320, None), None),  # too few for a trend
        ((50, 160), None),  # less than half of the time
    ],
)
def test_the_longest_is_told_alone_where_it_stands_for_the_whole(
    steps: tuple[int, int | None] | None, told: tuple[int, int] | None
) -> None:
    step_s = np.full(400, 0.1)
    assert _records(steps, 1, step_s) == told
    assert bool(_of_several(told, 1, 400)) == (told is not None)


def test_rows_stand_for_several_steps_of_a_long_script() -> None:
    assert _records((100, None), 2, np.full(400, 0.1)) == (50, 400)
    (note,) = _of_several((50, 400), 2, 400)
    assert "steps 101 to 800 of 800" in note
