"""Parametrized weights that a forward pass computes again: which count, and what they take."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from test_loss_part import Costs
from test_observing import Clock, Watched
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

SIDE, TIMES, STEPS = 4, 5, 21


class Costly(nn.Module):
    """Computing costs 6, and its gradient 8."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.clock.spend(6)
        made: torch.Tensor = Costs.apply(x * 2, self.clock, 8)  # type: ignore[no-untyped-call]
        return made


class Dropped(Costly):
    """Another weight each time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(super().forward(x), 0.5)


class Counting(Costly):
    """Keeps a state and gives the same all the same."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.get_buffer("count").add_(1)
        return super().forward(x)


class Kept(Costly):
    """Rests on what the forward pass has set before."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.given: torch.Tensor = torch.ones(())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.given


class Recurrent(nn.Module):
    """A cell in a loop. What is not its weight costs 30, and in the backward pass 20."""

    def __init__(self, clock: Clock, kind: Callable[[Clock], nn.Module] | None = Costly) -> None:
        super().__init__()
        self.clock = clock
        self.cell = nn.Linear(SIDE, SIDE)
        if kind is not None:
            parametrize.register_parametrization(self.cell, "weight", kind(clock))

    def forward(self, x: torch.Tensor, times: int = TIMES) -> torch.Tensor:
        self.clock.spend(30)
        for _ in range(times):
            x = self.cell(x).tanh()
        made: torch.Tensor = Costs.apply(x, self.clock, 20)  # type: ignore[no-untyped-call]
        return made


Step = Callable[[Any], None]


def _step(model: Any) -> None:
    model(torch.ones(2, SIDE)).sum().backward()


def _seen(clock: Clock, model: nn.Module, step: Step = _step, steps: int = STEPS) -> dict[str, Any]:
    torch.manual_seed(0)
    with Watched(clock) as seen:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(steps):
            step(model)
            optimizer.step()
            optimizer.zero_grad()
        settings = seen.observer.looks.parametrized.settings()
    lists = [m for m in model.modules() if isinstance(m, parametrize.ParametrizationList)]
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in lists)
    return settings


@pytest.fixture(autouse=True)
def nothing_compiled() -> None:
    """Another test may have compiled a model, and then nobody looks."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_weight_in_a_loop_is_computed_each_time(clock: Clock) -> None:
    found = _seen(clock, Recurrent(clock))
    assert found.pop("parametrized_read_at").startswith("test_parametrized.py:")
    assert found == {
        "parametrized_times": TIMES,
        "parametrized_of_forward": 4 * 6 / (30 + 5 * 6),
        "parametrized_of_backward": 4 * 8 / (20 + 5 * 8),
        "parametrized_weight": "cell.weight",
        "parametrized_by": "Costly",
    }


ONCE = {"parametrized_times": 1}


def _cached(model: Any) -> None:
    with parametrize.cached():
        out = model(torch.ones(2, SIDE))
    out.sum().backward()


def _one_read(model: Any) -> None:
    model(torch.ones(2, SIDE), 1).sum().backward()


def _accumulates(model: Any) -> None:
    for _ in range(3):
        _one_read(model)


def _changes_between(model: Any) -> None:
    first = model(torch.ones(2, SIDE), 1)
    with torch.no_grad():
        model.cell.parametrizations.weight.original.mul_(0.99)
    (first + model(torch.ones(2, SIDE), 1)).sum().backward()


def _reads_without_gradients(model: Any) -> None:
    with torch.no_grad():
        for _ in range(9):
            model.cell.weight.norm()
        model(torch.ones(2, SIDE))
    _one_read(model)


@pytest.mark.parametrize(
    "step", [_cached, _one_read, _accumulates, _changes_between, _reads_without_gradients]
)
def test_what_is_computed_once_for_each_backward_pass_is_no_waste(clock: Clock, step: Step) -> None:
    assert _seen(clock, Recurrent(clock), step) == ONCE


@pytest.mark.parametrize("kind", [Dropped, Counting, None])
def test_what_is_another_weight_or_keeps_a_state_has_to_be_computed(
    clock: Clock, kind: Any
) -> None:
    assert _seen(clock, Recurrent(clock, kind)) == ONCE


def test_a_weight_that_rests_on_what_the_pass_has_set_is_another_one(clock: Clock) -> None:
    class Set(Recurrent):
        def forward(self, x: torch.Tensor, times: int = TIMES) -> torch.Tensor:
            lists: Any = self.cell.parametrizations
            for i in range(times):
                lists.weight[0].given = torch.tensor(1.0 + i)
                x = super().forward(x, 1)
            return x

    assert _seen(clock, Set(clock, Kept)) == ONCE


def _spectral(clock: Clock) -> nn.Module:
    model = Recurrent(clock)
    parametrizations.spectral_norm(model.cell)
    return model


def test_the_power_iteration_of_spectral_norm_moves_on_each_time(clock: Clock) -> None:
    assert _seen(clock, _spectral(clock)) == ONCE


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_the_older_weight_norm_is_computed_once_a_call_of_its_module(clock: Clock) -> None:
    model = Recurrent(clock, None)
    torch.nn.utils.weight_norm(model.cell)
    assert _seen(clock, model) == ONCE


def test_two_calls_of_a_model_before_one_backward_pass_share_a_weight(clock: Clock) -> None:
    def step(model: Any) -> None:
        (model(torch.ones(2, SIDE), 1) - model(torch.zeros(2, SIDE), 1)).sum().backward()

    found = _seen(clock, Recurrent(clock), step)
    assert found["parametrized_times"] == 2
    assert found["parametrized_of_forward"] == 6 / (2 * 30 + 2 * 6)
    assert found["parametrized_of_backward"] == 8 / (2 * 20 + 2 * 8)


def test_passes_without_gradients_are_a_part_of_the_forward_pass(clock: Clock) -> None:
    teacher = Recurrent(clock, None).requires_grad_(False)

    def step(model: Any) -> None:
        with torch.no_grad():
            teacher(torch.ones(2, SIDE))
        _step(model)

    model = Recurrent(clock)
    with Watched(clock) as seen:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        batches: Any = DataLoader(TensorDataset(torch.zeros(STEPS)), batch_size=1)
        for _ in batches:
            step(model)
            optimizer.step()
        found = seen.observer.looks.parametrized.settings()
    assert found["parametrized_of_forward"] <= 4 * 6 / (30 + 5 * 6)
    assert found["parametrized_times"] == TIMES


def test_too_few_steps_say_nothing(clock: Clock) -> None:
    assert _seen(clock, Recurrent(clock), steps=10) == {}
    assert _seen(clock, Recurrent(clock), steps=5) == {}


def test_a_failing_forward_pass_leaves_no_hooks(clock: Clock) -> None:
    class Fails(Recurrent):
        def forward(self, x: torch.Tensor, times: int = TIMES) -> torch.Tensor:
            out = super().forward(x, times)
            if clock.now % 2:
                raise ValueError
            return out

    def step(model: Any) -> None:
        clock.spend(1 - clock.now % 2)
        with pytest.raises(ValueError):
            model(torch.ones(2, SIDE))
        clock.spend(1)
        _step(model)

    assert _seen(clock, Fails(clock)) is not None
    assert _seen(clock, Fails(clock), step)["parametrized_times"] == 2 * TIMES


def test_parts_that_are_computed_again_in_the_backward_pass_are_not_counted(clock: Clock) -> None:
    class Checkpointed(Recurrent):
        def forward(self, x: torch.Tensor, times: int = TIMES) -> torch.Tensor:
            again: Any = super().forward
            made: torch.Tensor = checkpoint(again, x.requires_grad_(), 1, use_reentrant=True)
            return made

    assert _seen(clock, Checkpointed(clock)) == ONCE


def test_weights_on_a_device_are_not_read(clock: Clock) -> None:
    model = Recurrent(clock).to("meta")

    def step(model: Any) -> None:
        model(torch.ones(2, SIDE, device="meta")).sum().backward()

    assert _seen(clock, model, step) == {}


def test_a_profiler_of_the_script_s_own_is_left_to_itself(clock: Clock) -> None:
    def step(model: Any) -> None:
        with torch.autograd.profiler.profile():
            _step(model)

    assert _seen(clock, Recurrent(clock), step) == {}


def _trained() -> Iterator[torch.Tensor]:
    torch.manual_seed(3)
    model = nn.Linear(SIDE, SIDE)
    parametrizations.orthogonal(model, orthogonal_map="cayley")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(STEPS):
        x = torch.randn(2, SIDE)
        (model(x) + model(model(x)) + nn.functional.dropout(x)).pow(2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        yield from (p.detach().clone() for p in model.parameters())
    yield torch.get_rng_state()


def test_numbers_and_random_state_are_the_same_to_the_last_bit() -> None:
    plain = list(_trained())
    ticks = iter(range(10_000_000))
    clock: Any = lambda: next(ticks)  # noqa: E731
    with Watched(clock) as seen:
        observed = list(_trained())
        assert seen.observer.looks.parametrized.settings()["parametrized_times"] == 3
    assert all(torch.equal(a, b) for a, b in zip(plain, observed, strict=True))
