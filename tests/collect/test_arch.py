"""The architecture step computes what DARTS defines, and leaves the weights alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from perfdoctor.collect.arch import ArchitectureStep

RATE = 0.1


class Quadratic(nn.Module):
    """L_batch(w, a) = (w·a − batch)²: every derivative is known in closed form."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
        self.a = nn.Parameter(torch.tensor([3.0], dtype=torch.float64))

    def loss(self, batch):
        return ((self.w * self.a - batch) ** 2).sum()


def step(model, order, train=1.0, val=2.0):
    """The gradient of the architecture parameter that the optimizer was given."""
    seen = {}

    class Recorder(torch.optim.SGD):
        def step(self, closure=None):
            seen["grad"] = model.a.grad.item()

    weights = torch.optim.SGD([model.w], lr=RATE)
    arch = ArchitectureStep(model.loss, [model.w], [model.a], Recorder([model.a], lr=1), weights)
    arch.step(torch.tensor(train), torch.tensor(val), order)
    return seen["grad"]


def test_first_order_is_the_gradient_at_the_present_weights():
    assert step(Quadratic(), 1) == pytest.approx(2 * (2 * 3 - 2) * 2)


def test_second_order_is_the_gradient_through_one_virtual_step():
    w, a, train, val = 2.0, 3.0, 1.0, 2.0
    unrolled = torch.tensor(a, dtype=torch.float64, requires_grad=True)
    moved = w - RATE * 2 * (w * unrolled - train) * unrolled
    ((moved * unrolled - val) ** 2).backward()
    assert step(Quadratic(), 2) == pytest.approx(unrolled.grad.item(), rel=1e-4)


@pytest.mark.parametrize("order", [1, 2])
def test_the_weights_are_as_before(order):
    model = Quadratic()
    step(model, order)
    assert model.w.item() == 2.0
    assert model.w.grad is None


def test_parameters_that_a_batch_does_not_use_get_no_gradient():
    model = Quadratic()
    unused = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([model.a, unused], lr=1)
    weights = torch.optim.SGD([model.w], lr=RATE)
    ArchitectureStep(model.loss, [model.w], [model.a, unused], optimizer, weights).step(
        torch.tensor(1.0), torch.tensor(2.0), 1
    )
    assert unused.item() == 1
