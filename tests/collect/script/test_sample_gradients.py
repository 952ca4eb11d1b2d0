"""Gradients of single samples that are taken in a loop: what they cost on a clock they drive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_loss_part import Costs
from test_observing import Clock, Watched
from torch import Tensor, nn

COST, BATCH, STEPS = 10, 12, 6


class Model(nn.Module):
    """A pass back through it costs 10."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.layer = clock, nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = Costs.apply(self.layer(x), self.clock, COST)  # type: ignore[no-untyped-call]
        return out.squeeze(-1)


def _gradients(of: Tensor, model: Model, **how: Any) -> None:
    torch.autograd.grad(of, list(model.parameters()), retain_graph=True, **how)


def by_index(losses: Tensor, model: Model) -> None:
    for i in range(BATCH):
        _gradients(losses[i], model)


def unbound(losses: Tensor, model: Model) -> None:
    for loss in losses:
        _gradients(loss, model)


def few_tasks(losses: Tensor, model: Model) -> None:
    for i in range(4):
        _gradients(losses[i], model)


def of_all_together(losses: Tensor, model: Model) -> None:
    for _ in range(BATCH):
        _gradients(losses.mean(), model)


def differentiated_again(losses: Tensor, model: Model) -> None:
    for i in range(BATCH):
        _gradients(losses[i], model, create_graph=True)


def seen(step: Callable[[Tensor, Model], None], clock: Clock, steps: int = STEPS) -> dict[str, Any]:
    with Watched(clock) as watched:
        model = Model(clock)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(steps):
            step(model(torch.ones(BATCH, 4)), model)
            model(torch.ones(BATCH, 4)).mean().backward()
            optimizer.step()
    return watched.observer.looks.sample_gradients.settings()


@pytest.mark.parametrize("step", [by_index, unbound])
def test_calls_for_elements_of_one_tensor_are_timed(step: Callable[..., None]) -> None:
    found = seen(step, Clock())
    assert found["sample_gradients_s"] == pytest.approx(BATCH * COST * 1e-9)
    assert found["sample_gradients_calls"] == BATCH
    assert found["sample_gradients_at"].startswith("test_sample_gradients.py:")
    assert found["sample_gradients_in"] == "_gradients"


@pytest.mark.parametrize("step", [few_tasks, of_all_together, differentiated_again])
def test_others_are_not(step: Callable[..., None]) -> None:
    assert seen(step, Clock()) == {"sample_gradients_s": 0.0}


def test_of_too_few_steps_nothing_is_told() -> None:
    assert seen(by_index, Clock(), steps=3) == {}
