"""Whether steps of the architecture compute gradients of the weights for nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from test_observing import Clock, Watched
from torch import nn

STEPS = 8
_GIVES, _SECONDS = "search_gives_weights_gradients", "search_backward_s"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.alphas = nn.Parameter(torch.zeros(2))
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = torch.softmax(self.alphas, 0)
        out: torch.Tensor = first * self.one(x) + second * self.two(x)
        return out


class Slow(torch.autograd.Function):
    """The loss, whose backward takes 20."""

    @staticmethod
    def forward(ctx: Any, out: torch.Tensor, clock: Clock) -> torch.Tensor:
        ctx.clock, ctx.shape = clock, out.shape
        return out.sum()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        ctx.clock.spend(20)
        return grads[0].expand(ctx.shape), None


Search = Callable[[Net, torch.Tensor, torch.optim.Optimizer], None]


def searched(clock: Clock, search: Search, *, clears: bool = True) -> dict[str, Any]:
    with Watched(clock) as seen:
        net = Net()
        weights = [*net.one.parameters(), *net.two.parameters()]
        optimizer = torch.optim.SGD(weights, lr=1e-3)
        architecture = torch.optim.Adam([net.alphas], lr=1e-3)
        for _ in range(STEPS):
            x = torch.ones(4, 8)
            architecture.zero_grad()
            search(net, Slow.apply(net(x), clock), architecture)  # type: ignore[no-untyped-call]
            if clears:
                optimizer.zero_grad()
            net(x).sum().backward()
            optimizer.step()
            if not clears:
                optimizer.zero_grad()
        return seen.observer.looks.search_gradients.settings()


def by_backward(net: Net, loss: torch.Tensor, architecture: torch.optim.Optimizer) -> None:
    loss.backward()  # type: ignore[no-untyped-call]
    architecture.step()


def alone(net: Net, loss: torch.Tensor, architecture: torch.optim.Optimizer) -> None:
    (net.alphas.grad,) = torch.autograd.grad(loss, [net.alphas])
    architecture.step()


def test_weights_that_get_gradients_which_are_cleared_are_seen_and_timed() -> None:
    clock = Clock()
    used = searched(clock, by_backward)
    assert used[_GIVES] is True
    assert used[_SECONDS] >= 20e-9


def test_gradients_of_the_architecture_alone_are_as_it_should_be() -> None:
    assert searched(Clock(), alone) == {}


def test_gradients_that_the_weights_step_uses_are_not_for_nothing() -> None:
    assert searched(Clock(), by_backward, clears=False) == {}


def test_two_models_that_are_trained_in_turns_are_no_search() -> None:
    with Watched(Clock()) as seen:
        models = [nn.Linear(4, 4), nn.Linear(4, 4)]
        optimizers = [torch.optim.SGD(m.parameters(), lr=1e-3) for m in models]
        for _ in range(STEPS):
            for optimizer in optimizers:
                for one in optimizers:
                    one.zero_grad()
                models[1](models[0](torch.ones(2, 4))).sum().backward()
                optimizer.step()
        assert seen.observer.looks.search_gradients.settings() == {}
