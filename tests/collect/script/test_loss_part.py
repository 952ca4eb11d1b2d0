"""How much of a backward pass is the loss's: losses of known cost, on a clock that they drive."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_observing import Clock, Net, Samples, Watched
from torch import nn
from torch.utils.data import DataLoader

from perfdoctor.collect.script.loss_part import LossPart
from perfdoctor.collect.script.settings_used import settings_used


class Costs(torch.autograd.Function):
    """What it is given; its backward costs so much."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, clock: Clock, cost: int) -> torch.Tensor:
        ctx.clock, ctx.cost = clock, cost
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        ctx.clock.spend(ctx.cost)
        return grads[0], None, None


class Costly(nn.Module):
    """A linear layer whose backward costs 30."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.layer = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = Costs.apply(self.layer(x), self.clock, 30)  # type: ignore[no-untyped-call]
        return made


def _loss(clock: Clock, out: torch.Tensor) -> torch.Tensor:
    """Its backward costs 10."""
    made: torch.Tensor = Costs.apply(out, clock, 10)  # type: ignore[no-untyped-call]
    return made.pow(2).mean()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _train(clock: Clock, steps: int = 4, *, times: int = 1) -> Watched:
    with Watched(clock) as seen:
        model = Costly(clock)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(steps):
            loss = _loss(clock, model(torch.ones(5, 4)))
            for i in range(times):
                loss.backward(retain_graph=i < times - 1)
            optimizer.step()
    return seen


def test_the_loss_s_part_ends_where_the_model_s_first_gradient_is_asked_for(clock: Clock) -> None:
    seen = _train(clock)
    assert seen.observer.looks.now.loss_part.median == 10 / 40
    assert seen.totals()["backward"] == 4 * 40


def test_the_part_is_a_setting_for_the_rules(clock: Clock) -> None:
    with Watched(clock) as seen:
        model = Costly(clock)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for x, _ in DataLoader(Samples(clock, count=12), batch_size=4):
            _loss(clock, model(x)).backward()
            optimizer.step()
        used = settings_used(seen.observer)
    assert used["loss_of_backward"] == 10 / 40


def test_a_graph_that_is_gone_through_again_counts_each_time_alike(clock: Clock) -> None:
    seen = _train(clock, steps=2, times=2)
    assert seen.observer.looks.now.loss_part._parts == [10 / 40] * 4


def test_a_backward_pass_by_keywords_is_looked_into_too(clock: Clock) -> None:
    with Watched(clock) as seen:
        model = Costly(clock)
        for _ in range(3):
            torch.autograd.backward(tensors=_loss(clock, model(torch.ones(5, 4))))
    assert seen.observer.looks.now.loss_part.median == 10 / 40


def test_a_model_that_gives_its_loss_itself_has_no_part_of_the_loss(clock: Clock) -> None:
    class WithLoss(Costly):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return _loss(self.clock, super().forward(x))

    with Watched(clock) as seen:
        model = WithLoss(clock)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(5):
            model(torch.ones(5, 4)).backward()
            optimizer.step()
    assert seen.observer.looks.now.loss_part.median is None


def test_fewer_than_three_passes_say_nothing(clock: Clock) -> None:
    assert _train(clock, steps=2).observer.looks.now.loss_part.median is None


def test_a_loss_without_the_model_has_no_part_in_which_the_model_is_reached(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, free = Costly(clock), torch.ones(5, 1, requires_grad=True)
        for _ in range(5):
            model(torch.ones(5, 4))
            _loss(clock, free).backward()
    assert seen.observer.looks.now.loss_part.median is None


def test_no_hook_stays_after_a_backward_pass_even_one_that_fails(clock: Clock) -> None:
    part = LossPart(clock)
    out = Costly(clock)(torch.ones(5, 4))
    first = torch._C._autograd._get_sequence_nr()  # type: ignore[attr-defined]
    loss = _loss(clock, out)
    notes: list[int] = []
    note = part._note

    def counted(gradients: Any) -> None:
        notes.append(clock())
        note(gradients)

    part._note = counted  # type: ignore[method-assign]
    part.begins(loss, first)
    loss.backward(retain_graph=True)
    part.ends()
    loss.backward(retain_graph=True)
    assert len(notes) == 1
    part.begins(loss, first)
    part.ends()
    loss.backward()
    assert len(notes) == 1
    with pytest.raises(RuntimeError, match="second time"):
        part.begins(loss, first)
        try:
            loss.backward()
        finally:
            part.ends()
    assert not part._hooks


def test_on_a_device_the_host_s_clock_tells_nothing_and_is_not_asked(clock: Clock) -> None:
    with Watched(clock) as seen:
        model = nn.Linear(4, 1, device="meta")
        for _ in range(5):
            out = model(torch.ones(5, 4, device="meta"))
            clock.spend(1)
            out.register_hook(lambda _: clock.spend(3))
            (out.pow(2) * 2).mean().backward()
    assert seen.observer.looks.now.loss_part.median is None


def _gradients(seed: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    x, y = torch.randn(16, 4), torch.randint(2, (16,))
    found = []
    for _ in range(4):
        out = model(x)
        loss = nn.functional.cross_entropy(out, y) + 0.1 * torch.cdist(out, out).mean()
        loss.backward()
        found += [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return found


def test_gradients_are_the_same_to_the_last_bit(clock: Clock) -> None:
    plain = _gradients()
    ticks = iter(range(1_000_000))
    clock_of_ticks: Any = lambda: next(ticks)  # noqa: E731
    with Watched(clock_of_ticks) as seen:
        observed = _gradients()
    assert seen.observer.looks.now.loss_part.median is not None
    assert all(torch.equal(a, b) for a, b in zip(observed, plain, strict=True))


def test_a_loss_of_parts_that_lie_before_the_model_s_end_is_told_by_the_newest(
    clock: Clock,
) -> None:
    with Watched(clock) as seen:
        model, side = Costly(clock), Net(clock)
        for _ in range(3):
            first = side(torch.ones(5, 4))
            second = model(torch.ones(5, 4))
            _loss(clock, second + first.unsqueeze(-1)).backward()
    assert seen.observer.looks.now.loss_part.median == pytest.approx(10 / (10 + 30 + 20))
