"""Optimizers that follow each other: which begin something else, and whose time is over."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from perfdoctor.collect.script.optimizers import Optimizers
from perfdoctor.collect.script.session import Limits, Session


def made(optimizers: Optimizers, model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    optimizers.add_group(optimizer, list(model.parameters()))
    return optimizer


@pytest.fixture
def optimizers() -> Optimizers:
    return Optimizers(lambda few, many: False)


def test_an_optimizer_of_another_model_begins_something_else(optimizers: Optimizers) -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    before = made(optimizers, first)
    made(optimizers, nn.Linear(2, 2))
    assert optimizers.phases == 0  # both are there before the first step, as in a GAN
    optimizers.stepped(before)
    made(optimizers, first)
    assert optimizers.phases == 0  # the same is trained on
    made(optimizers, second)
    assert optimizers.phases == 1


def test_what_was_trained_before_is_no_longer_after_a_while(optimizers: Optimizers) -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    before = made(optimizers, first)
    for _ in range(5):
        optimizers.stepped(before)
    now = made(optimizers, second)
    for _ in range(9):
        optimizers.stepped(now)
    assert optimizers.has(first.weight)
    optimizers.stepped(now)
    assert not optimizers.has(first.weight)
    assert optimizers.main() is now
    optimizers.stepped(before)
    assert optimizers.has(first.weight)


def test_one_that_steps_seldom_has_not_had_its_time(optimizers: Optimizers) -> None:
    seldom, often = nn.Linear(2, 2), nn.Linear(2, 2)
    one, other = made(optimizers, seldom), made(optimizers, often)
    for _ in range(2):
        optimizers.stepped(one)
        for _ in range(30):
            optimizers.stepped(other)
    now = made(optimizers, nn.Linear(2, 2))
    for _ in range(40):
        optimizers.stepped(now)
    assert optimizers.has(seldom.weight)


def test_the_first_steps_of_something_else_are_noted_too() -> None:
    session = Session("train.py", Limits())
    noting = [session._on_step(count) and session._seen.state.noting for count in (29, 30, 50)]
    assert noting == [True, False, False]
    session._seen.observer.optimizers.phases = 1
    noting = [session._on_step(count) and session._seen.state.noting for count in (60, 89, 90)]
    assert noting == [True, True, False]


def test_a_training_ends_once_all_that_made_its_steps_are_over(optimizers: Optimizers) -> None:
    few, many, later = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(3, 2)
    pair = made(optimizers, few), made(optimizers, many)
    for one in 3 * pair:
        optimizers.stepped(one)
    now = made(optimizers, later)
    for _ in range(9):
        optimizers.stepped(now)
    assert optimizers.trainings == 0
    optimizers.stepped(now)
    assert optimizers.trainings == 1


def test_optimizers_of_inner_loops_begin_no_training(optimizers: Optimizers) -> None:
    """As in meta-learning: each task's copy has its own, and the outer one goes on."""
    outer = made(optimizers, nn.Linear(2, 2))
    for _ in range(20):
        inner = made(optimizers, nn.Linear(2, 2))
        for _ in range(3):
            optimizers.stepped(inner)
        optimizers.stepped(outer)
    assert optimizers.trainings == 0


def test_one_that_is_no_longer_there_is_over_at_once(optimizers: Optimizers) -> None:
    model = nn.Linear(2, 2)
    before = made(optimizers, model)
    optimizers.stepped(before)
    del before
    optimizers.stepped(made(optimizers, nn.Linear(3, 2)))
    assert not optimizers.has(model.weight)
    assert optimizers.trainings == 1


def test_all_of_a_model_after_its_head_is_another_training(optimizers: Optimizers) -> None:
    body, head = nn.Linear(8, 8), nn.Linear(8, 2)
    probe = made(optimizers, head)
    optimizers.stepped(probe)
    del probe
    optimizers.stepped(made(optimizers, nn.Sequential(body, head)))
    assert optimizers.trainings == 1


def test_layers_that_are_unfrozen_make_another_training(optimizers: Optimizers) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
    model[0].requires_grad_(False)
    optimizer = made(optimizers, model)
    looks = []
    for step in range(6):
        if step == 3:
            model[0].requires_grad_(True)
        optimizers.stepped(optimizer)
        looks.append(optimizers.look_at_gradients())
    assert looks == [False, False, False, True, False, False]
    assert optimizers.trainings == 1


def test_a_layer_that_is_frozen_of_many_makes_none(optimizers: Optimizers) -> None:
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(5)])
    optimizer = made(optimizers, model)
    optimizers.stepped(optimizer)
    assert not optimizers.look_at_gradients()
    model[0].requires_grad_(False)
    assert not optimizers.look_at_gradients()
