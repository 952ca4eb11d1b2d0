"""Calls without gradients: many in few steps, or a few in each."""

from __future__ import annotations

import copy

import pytest
import torch
from test_observing import Clock, Watched
from torch import nn

STEPS = 30


class Net(nn.Module):
    """Each call takes 10."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.layer = clock, nn.Linear(4, 4)

    def __deepcopy__(self, memo: dict[int, object]) -> Net:
        return Net(self.clock)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.clock.spend(10)
        out: torch.Tensor = self.layer(x)
        return out


def test_a_copy_that_plays_episodes_makes_data() -> None:
    clock = Clock()
    with Watched(clock) as seen:
        model = Net(clock)
        actor = copy.deepcopy(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

        @torch.no_grad()
        def rollout(deeper: int = 6) -> None:
            if deeper:  # the names of so many functions are looked at, and this one's says "test"
                rollout(deeper - 1)
                return
            for _ in range(50):
                actor(torch.ones(2, 4))

        for step in range(STEPS):
            if step % 10 == 5:
                rollout()
            optimizer.zero_grad()
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
    assert "validation" not in seen.totals()


def spent(every: int, calls: int) -> dict[str, int]:
    """Nanoseconds by stage where so many calls of an average are made each so many steps."""
    clock = Clock()
    with Watched(clock) as seen:
        model = Net(clock)
        average = copy.deepcopy(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for step in range(STEPS):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
            if step % every == every - 1:
                with torch.no_grad():
                    for _ in range(calls):
                        average(torch.ones(2, 4))
    return seen.totals()


@pytest.mark.parametrize("calls", [100, 40])
def test_samples_drawn_now_and_then_are_validation(calls: int) -> None:
    found = spent(every=10, calls=calls)
    assert found["validation"] >= 10 * (calls - 16) * 3
    assert found["forward"] <= 10 * (STEPS + 16 * 3)


@pytest.mark.parametrize(("every", "calls"), [(1, 40), (2, 40), (1, 2), (10, 12)])
def test_what_each_step_calls_or_a_few_calls_are_forward(every: int, calls: int) -> None:
    found = spent(every, calls)
    assert "validation" not in found
    assert found["forward"] >= 10 * (STEPS + STEPS // every * calls)
