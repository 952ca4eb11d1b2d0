"""A training that goes steadily is noted in fewer words, and comes to the same."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_observing import Clock, Samples, Watched
from torch import nn
from torch.utils.data import DataLoader

import perfdoctor
from perfdoctor.collect.script.observer import Observer

#: What may happen in a step, or after it, that a steady training does not do.
_EVENTS = (
    "validate",
    "sum",
    "stage",
    "save",
    "accumulate",
    "cells",
    "another",
    "raise",
    "grad",
    "peek",
)


class _Costly(nn.Module):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.layer, self.clock = nn.Linear(4, 4), clock

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.clock.spend(10)
        if x.shape[0] == 3:
            raise ValueError
        out: torch.Tensor = self.layer(x)
        if out.requires_grad:
            out.register_hook(lambda grad: self.clock.spend(20))
        return out


def _train(clock: Clock, plan: list[str], loader: DataLoader[Any]) -> None:
    model, other = _Costly(clock), _Costly(clock)
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD([*model.parameters(), *other.parameters()], lr=1e-3)
    batches = iter(loader)
    for event in plan:
        x, _ = next(batches, (None, None))
        if x is None:
            batches = iter(loader)
            x, _ = next(batches)
        if event == "peek":
            model.eval()
            with torch.no_grad():
                model(x)
            model.train()
            continue
        optimizer.zero_grad()
        out = model(x)
        _happens(event, clock, model, other, out, loader)
        clock.spend(2)
        loss = criterion(out, x)
        clock.spend(1)
        loss.backward()
        clock.spend(3)
        if event != "accumulate":
            optimizer.step()
            clock.spend(5)
        if event == "validate":
            model.eval()
            with torch.no_grad():
                for x, _ in loader:
                    model(x)
            model.train()


def _happens(
    event: str, clock: Clock, model: Any, other: Any, out: torch.Tensor, loader: Any
) -> None:
    if event == "stage":
        with perfdoctor.stage("mine"):
            model(out)
            clock.spend(7)
    elif event == "cells":
        for _ in range(3):
            out = model(out)
            clock.spend(1)
    elif event == "another":
        other(out)
    elif event == "save":
        torch.save({}, "/dev/null")
    elif event == "grad":
        torch.autograd.grad(model(out).sum(), out, retain_graph=True)
    elif event == "raise":
        with pytest.raises(ValueError):
            model(torch.ones(3, 4))
    elif event == "sum":
        sum(len(x) for x, _ in loader)


def _seen(plan: list[str]) -> Watched:
    clock = Clock()
    torch.manual_seed(0)
    with Watched(clock) as seen:
        _train(clock, plan, DataLoader(Samples(clock, count=12), batch_size=4))
    return seen


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(("nothing", "nothing", "nothing", *_EVENTS)), max_size=14))
def test_it_comes_to_the_same_whether_a_training_is_taken_to_go_steadily(plan: list[str]) -> None:
    quick = _seen(plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Observer, "_goes_steadily", lambda self: False)
        patch.setattr(Observer, "is_again", lambda self, module: False)
        thorough = _seen(plan)
    assert quick.per_step() == thorough.per_step()
    assert quick.totals() == thorough.totals()
    assert quick.samples() == thorough.samples()
    assert not quick.observer.recorder.stack


def test_most_steps_of_a_steady_training_are_not_looked_into(monkeypatch: Any) -> None:
    asked: list[str] = []
    for name in ("next_begins", "forward_begins", "backward_begins", "optimizer_ends"):
        original = getattr(Observer, name)

        def counting(self: Any, *args: Any, _original: Any = original, _name: str = name) -> Any:
            asked.append(_name)
            return _original(self, *args)

        monkeypatch.setattr(Observer, name, counting)
    plan = ["nothing"] * 30
    clock = Clock()
    with Watched(clock) as seen:
        _train(clock, plan, DataLoader(Samples(clock, count=200), batch_size=4))
    assert seen.steps == 30
    assert len(asked) < 30, "of 120"


def test_what_follows_a_forward_in_a_stage_of_the_scripts_own_belongs_to_it() -> None:
    clock = Clock()
    model = _Costly(clock)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with Watched(clock) as seen:
        for _ in range(5):
            with perfdoctor.stage("mine"):
                loss = model(torch.ones(2, 4)).sum()
                clock.spend(7)
            clock.spend(1)
            loss.backward()
            optimizer.step()
    assert seen.totals() == {"forward": 50, "mine": 35, "other": 5, "backward": 100}
    assert not seen.observer.recorder.stack


def test_batches_that_nothing_is_trained_on_do_not_pile_up() -> None:
    clock = Clock()
    model = _Costly(clock)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with Watched(clock) as seen:
        batches = iter(DataLoader(Samples(clock, count=9000), batch_size=1))
        for x, _ in batches:
            if seen.observer.recorder.count < 5:
                model(x).sum().backward()
                optimizer.step()
            assert len(seen.observer.recorder._notes) < 10_000
    assert seen.observer.recorder.count == 5


def test_an_observer_that_nobody_listens_to_has_nothing_due() -> None:
    with Watched(Clock()) as seen:
        pass
    assert seen.observer._on_step(7) == sys.maxsize
