"""Gradients that are taken one by one: graphs of known cost, on a clock that they drive."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
import torch
from test_loss_part import Costs
from test_observing import Clock, Watched
from torch import nn

STEPS = 6
Step = Callable[["Parts"], Any]


class Parts:
    """A layer that is trained, and parameters at three depths behind it: a pass back to the last of
    them costs 10, to the second 20, and to the first 30."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.layer = nn.Linear(4, 4)
        self.optimizer = torch.optim.SGD(self.layer.parameters(), lr=1e-3)
        self.alphas = [nn.Parameter(torch.ones(2)) for _ in range(3)]

    def costly(self, x: torch.Tensor, cost: int = 10) -> torch.Tensor:
        made: torch.Tensor = Costs.apply(x, self.clock, cost)  # type: ignore[no-untyped-call]
        return made

    def loss(self) -> torch.Tensor:
        out: torch.Tensor = self.layer(torch.ones(5, 4))
        for alpha in self.alphas:
            out = self.costly(out * alpha.sum())
        return out.sum()

    def train(self) -> None:
        self.optimizer.zero_grad()
        self.layer(torch.ones(5, 4)).sum().backward()
        self.optimizer.step()


class Field(Parts):
    """Two outputs of coordinates x and t; a pass from either to them costs 10."""

    def coordinates(self) -> tuple[torch.Tensor, torch.Tensor]:
        x, t = torch.rand(5, 2).split(1, dim=1)
        return x.requires_grad_(), t.requires_grad_()

    def at(self, x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = torch.tanh(self.layer(self.costly(torch.cat([x, t, x * t, x], dim=1))))
        return out[:, :1], out[:, 1:2]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _watch(clock: Clock, step: Step, made: Callable[[Clock], Any], steps: int) -> Watched:
    with Watched(clock) as seen:
        parts = made(clock)
        for _ in range(steps):
            step(parts)
            parts.train()
    return seen


def _told(
    clock: Clock, step: Step, made: Callable[[Clock], Any] = Parts, steps: int = STEPS
) -> dict[str, Any]:
    """What is found in a few such steps."""
    return _watch(clock, step, made, steps).observer.looks.one_by_one.settings()


def one_after_the_other(parts: Parts) -> None:
    loss = parts.loss()
    for alpha in parts.alphas:
        torch.autograd.grad(loss, alpha, retain_graph=True)


def gradient(
    f: torch.Tensor, wrt: torch.Tensor | Sequence[torch.Tensor], *, graph: bool = True
) -> torch.Tensor:
    return torch.autograd.grad(f, wrt, torch.ones_like(f), create_graph=graph, retain_graph=True)[0]


# -- what is taken one by one -------------------------------------------------------------------


def test_calls_for_one_parameter_after_the_other(clock: Clock) -> None:
    found = _told(clock, one_after_the_other)
    assert found["one_by_one_s"] == pytest.approx(60e-9)
    assert found["one_by_one_calls"] == 3
    assert found["one_by_one_outputs"] == 1
    # 12 edges in place of 4, 6 and 8
    assert found["one_by_one_left"] == pytest.approx(2 / 3)
    assert found["one_by_one_least"] == pytest.approx(1 / 2)
    assert found["one_by_one_created"] == 0
    assert found["one_by_one_at"].startswith("test_one_by_one.py:")
    assert found["one_by_one_in"] == "one_after_the_other"


def test_derivatives_of_several_outputs_for_one_coordinate_after_the_other(clock: Clock) -> None:
    def step(field: Field) -> None:
        x, t = field.coordinates()
        u, v = field.at(x, t)
        for out in (u, v):
            gradient(out, x)
            gradient(out, t)

    found = _told(clock, step, Field)
    assert found["one_by_one_s"] == pytest.approx(40e-9)
    assert found["one_by_one_calls"] == 4
    assert found["one_by_one_outputs"] == 2
    assert found["one_by_one_left"] == pytest.approx(0.6, abs=0.1)
    assert found["one_by_one_created"] == 1
    assert found["one_by_one_in"] == "gradient"


@pytest.mark.parametrize("reduced", [torch.sum, torch.mean])
def test_the_sum_is_written_anew_for_each_call(
    clock: Clock, reduced: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    def step(field: Field) -> None:
        x, t = field.coordinates()
        u, _ = field.at(x, t)
        torch.autograd.grad(reduced(u), x, create_graph=True)
        torch.autograd.grad(outputs=reduced(u), inputs=[t], create_graph=True)

    assert _told(clock, step, Field)["one_by_one_calls"] == 2


def test_inputs_that_are_no_leaves(clock: Clock) -> None:
    def step(parts: Parts) -> None:
        first = parts.layer(torch.ones(5, 4))
        second = parts.costly(first)
        loss = parts.costly(second * parts.alphas[0].sum()).sum()
        for tensor in (first, second, parts.alphas[0]):
            torch.autograd.grad(loss, tensor, retain_graph=True)

    found = _told(clock, step)
    assert found["one_by_one_calls"] == 3
    assert found["one_by_one_s"] == pytest.approx(40e-9)


def test_derivatives_of_a_derivative_for_several_coordinates(clock: Clock) -> None:
    def step(field: Field) -> None:
        x, t = field.coordinates()
        u_x = gradient(field.at(x, t)[0], x)
        gradient(u_x, x)
        gradient(u_x, t)

    found = _told(clock, step, Field)
    assert (found["one_by_one_calls"], found["one_by_one_outputs"]) == (2, 1)


def test_what_is_done_in_every_third_step_counts_for_a_third(clock: Clock) -> None:
    count = iter(range(100))

    def step(parts: Parts) -> None:
        if next(count) % 3 == 1:
            one_after_the_other(parts)

    found = _told(clock, step, steps=14)
    assert found["one_by_one_s"] == pytest.approx(60e-9 / 3)
    assert found["one_by_one_calls"] == 3


# -- what is not --------------------------------------------------------------------------------


def in_one_call(parts: Parts) -> None:
    torch.autograd.grad(parts.loss(), parts.alphas)


def rows_of_a_jacobian(parts: Parts) -> None:
    x = torch.ones(5, 4, requires_grad=True)
    out = parts.costly(parts.layer(x))
    for row in torch.eye(4):
        torch.autograd.grad(out, x, row.expand(5, 4), retain_graph=True)


def rows_of_a_jacobian_by_their_outputs(parts: Parts) -> None:
    x = torch.ones(4, requires_grad=True)
    out = parts.costly(parts.layer(x))
    for i in range(4):
        torch.autograd.grad(out[i], x, retain_graph=True)


def all_rows_at_once(parts: Parts) -> None:
    x, w = torch.ones(4, requires_grad=True), parts.layer.weight
    out = parts.costly(parts.layer(x))
    for tensor in (x, w):
        torch.autograd.grad(out, tensor, torch.eye(4), retain_graph=True, is_grads_batched=True)


def other_gradients_come_in(parts: Parts) -> None:
    x, w = torch.ones(5, 4, requires_grad=True), parts.layer.weight
    out = parts.costly(parts.layer(x))
    for tensor in (x, w):
        torch.autograd.grad(out, tensor, torch.randn(5, 4), retain_graph=True)


def several_losses(parts: Parts) -> None:
    out = parts.costly(parts.layer(torch.ones(5, 4)))
    for loss, tensor in ((out.pow(2).mean(), parts.layer.weight), (out.sum(), parts.layer.bias)):
        torch.autograd.grad(loss, tensor, retain_graph=True)


def several_losses_for_the_same_weights(parts: Parts) -> None:
    out = parts.costly(parts.layer(torch.ones(5, 4)))
    for loss in (out.pow(2).mean(), out.sum()):
        torch.autograd.grad(loss, parts.layer.weight, retain_graph=True)


def samples_one_by_one(parts: Parts) -> None:
    out = parts.costly(parts.layer(torch.ones(5, 4))).sum(1)
    for one in out:
        torch.autograd.grad(one, list(parts.layer.parameters()), retain_graph=True)


def derivatives_of_derivatives(parts: Parts) -> None:
    x = torch.ones(5, 4, requires_grad=True)
    u_x = gradient(parts.costly(parts.layer(x).tanh()), x)
    gradient(gradient(u_x, x), x)


def a_penalty_of_gradients(parts: Parts) -> None:
    x = torch.ones(5, 4, requires_grad=True)
    out = parts.costly(parts.layer(x).tanh())
    (gradient(out, x).norm(dim=1) - 1).pow(2).mean().backward()


def the_same_inputs_twice(parts: Parts) -> None:
    loss = parts.loss()
    for tensors in (parts.alphas[:2], parts.alphas[1:]):
        torch.autograd.grad(loss, tensors, retain_graph=True)


def a_forward_pass_each(parts: Parts) -> None:
    for alpha in parts.alphas:
        torch.autograd.grad(parts.loss(), alpha)


def torch_s_own_functions(parts: Parts) -> None:
    inputs = (torch.ones(4), torch.ones(4))
    torch.autograd.functional.jacobian(lambda a, b: parts.costly(a * b), inputs)
    torch.autograd.functional.vhp(lambda a, b: parts.costly(a * b).pow(2).sum(), inputs, inputs)


def with_a_graph_and_without(parts: Parts) -> None:
    loss = parts.loss()
    torch.autograd.grad(loss, parts.alphas[0], create_graph=True)
    torch.autograd.grad(loss, parts.alphas[1], retain_graph=True)


HEALTHY: list[Step] = [
    in_one_call,
    rows_of_a_jacobian,
    rows_of_a_jacobian_by_their_outputs,
    all_rows_at_once,
    other_gradients_come_in,
    several_losses,
    several_losses_for_the_same_weights,
    samples_one_by_one,
    derivatives_of_derivatives,
    a_penalty_of_gradients,
    the_same_inputs_twice,
    a_forward_pass_each,
    torch_s_own_functions,
    with_a_graph_and_without,
]


@pytest.mark.parametrize("step", HEALTHY, ids=lambda step: step.__name__)
def test_what_looks_alike_is_not_taken_one_by_one(clock: Clock, step: Step) -> None:
    assert _told(clock, step) == {"one_by_one_s": 0.0}


def test_of_ways_with_nothing_in_common_nearly_all_is_left(clock: Clock) -> None:
    def step(parts: Parts) -> None:
        towers = []
        for alpha in parts.alphas[:2]:
            out = alpha * 1
            for _ in range(20):
                out = out.tanh()
            towers.append(parts.costly(out))
        loss = (towers[0] + towers[1]).sum()
        for alpha in parts.alphas[:2]:
            torch.autograd.grad(loss, alpha, retain_graph=True)

    found = _told(clock, step)
    assert found["one_by_one_left"] > 0.95
    assert found["one_by_one_least"] == pytest.approx(0.5)


# -- how it is looked at ------------------------------------------------------------------------


def test_too_few_steps_say_nothing(clock: Clock) -> None:
    assert _told(clock, one_after_the_other, steps=3) == {}


def test_steps_without_any_call_are_looked_at_too(clock: Clock) -> None:
    assert _told(clock, lambda parts: None) == {"one_by_one_s": 0.0}


def test_nothing_is_kept_alive(clock: Clock) -> None:
    gone = []

    def step(parts: Parts) -> None:
        loss, coming_in = parts.loss() * torch.ones(2), torch.rand(2)
        for alpha in parts.alphas:
            torch.autograd.grad(loss, alpha, coming_in, retain_graph=True)
        references = [weakref.ref(loss), weakref.ref(coming_in)]
        del loss, coming_in
        gone.append(all(reference() is None for reference in references))

    found = _told(clock, step)
    assert gone == [True] * STEPS
    assert found["one_by_one_calls"] == 3


def test_a_call_that_fails_ends_nothing(clock: Clock) -> None:
    def step(parts: Parts) -> None:
        loss, unrelated = parts.loss(), torch.ones(2, requires_grad=True)
        with suppress(RuntimeError):
            torch.autograd.grad(loss, unrelated, retain_graph=True)
        with suppress(RuntimeError):
            torch.autograd.grad(loss, torch.ones(2))
        for alpha in parts.alphas:
            torch.autograd.grad(loss, alpha, retain_graph=True)

    assert _told(clock, step)["one_by_one_s"] >= 60e-9


def test_a_graph_that_is_too_large_to_be_walked_says_nothing(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfdoctor.collect.script.one_by_one._MOST_NODES", 4)
    assert _told(clock, one_after_the_other) == {}


def test_large_graphs_are_walked_in_the_first_steps_only(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfdoctor.collect.script.one_by_one._MOST_IN_ALL", 45)
    found = _told(clock, one_after_the_other)
    assert found["one_by_one_s"] == pytest.approx(60e-9)
    assert found["one_by_one_left"] == pytest.approx(2 / 3)


class Late:
    """A device's clock, which tells of a moment once that is past."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.reached = clock, False

    def now(self) -> tuple[int]:
        return (self.clock(),)

    def seconds(self, start: tuple[int], end: tuple[int]) -> float | None:
        return (end[0] - start[0]) * 1e-9 if self.reached else None

    def host_seconds(self, start: tuple[int], end: tuple[int]) -> float:
        return (end[0] - start[0]) * 1e-9


def test_on_a_device_its_own_clock_tells_when_it_has_come_so_far(clock: Clock) -> None:
    with Watched(clock) as seen:
        parts, device = Parts(clock), Late(clock)
        seen.observer.recorder.use_device(device)
        for _ in range(STEPS):
            one_after_the_other(parts)
            parts.train()
        assert seen.observer.looks.one_by_one.settings() == {}
        device.reached = True
        assert seen.observer.looks.one_by_one.settings()["one_by_one_s"] == pytest.approx(60e-9)


def test_without_a_device_s_clock_the_host_s_tells_nothing_of_it(clock: Clock) -> None:
    def step(parts: Parts) -> None:
        alphas = [torch.ones(2, device="meta", requires_grad=True) for _ in range(2)]
        loss = (alphas[0] * alphas[1]).sum()
        for alpha in alphas:
            torch.autograd.grad(loss, alpha, retain_graph=True)

    assert _told(clock, step) == {}
