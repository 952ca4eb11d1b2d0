"""A script that trains one model after another is told of as the longest training is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_observing import Clock, Watched
from torch import nn

from perfdoctor.collect.script.assembly import _is_most, _of_several, _records
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
    ],
)
def test_the_longest_shows_the_trend(
    steps: tuple[int, int | None] | None, told: tuple[int, int] | None
) -> None:
    assert _records(steps, 1, 400) == told
    assert bool(_of_several(told, 1, 400)) == (told is not None)


@pytest.mark.parametrize(
    ("records", "most"), [((50, 400), True), ((50, 160), False), (None, False)]
)
def test_it_is_told_alone_where_it_takes_most_of_the_time(
    records: tuple[int, int] | None, most: bool
) -> None:
    assert _is_most(records, np.full(400, 0.1)) == most


def test_rows_stand_for_several_steps_of_a_long_script() -> None:
    assert _records((100, None), 2, 400) == (50, 400)
    (note,) = _of_several((50, 400), 2, 400)
    assert "steps 101 to 800 of 800" in note


def test_what_is_unfrozen_between_two_looks_belongs_to_neither_part() -> None:
    clock = Clock()
    with Watched(clock) as seen:
        train(clock, layers=2, each=1, steps=30)
        looks = seen.observer.looks
        looks.looked_at_gradients(another=False)
        train(clock, layers=2, each=1, steps=20)
        looks.looked_at_gradients(another=True)
        assert looks.longest_steps == (0, 30)
        train(clock, layers=2, each=50, steps=10)
    assert looks.longest_steps == (50, None)


def test_what_comes_before_the_first_step_is_no_training() -> None:
    clock = Clock()
    with Watched(clock) as seen:
        clock.spend(10_000)
        train(clock, layers=2, each=1)
        train(clock, layers=5, each=50)
    assert seen.observer.looks.longest().autograd_nodes == operations(5)
