"""Copies to a device are a stage of their own. The device is torch's `meta`, which every machine
has; the copies take the time that a fake gives them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from test_observing import Clock, Watched, _mse, _parts
from torch import nn

from perfdoctor.collect.script.copies import Copies, goes_to, is_copied_over


@pytest.fixture
def clock(monkeypatch: Any) -> Iterator[Clock]:
    """Each copy takes 4."""
    clock = Clock()
    for name in ("to", "copy_"):
        original = getattr(torch.Tensor, name)

        def slow(self: Any, *args: Any, _original: Any = original, **kwargs: Any) -> Any:
            clock.spend(4 * bool(self.is_cpu))
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, slow)
    yield clock


def test_batches_on_their_way_to_the_device_are_told_apart(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, optimizer, loader = _parts(clock)
        model.to("meta")
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for x, y in [*loader, *loader]:
            if seen.observer.recorder.count == 1:
                seen.patches.watch_copies()  # as when the device is found out
            x = x.to("meta", non_blocking=True)
            loss = _mse(clock, model(x), y.to(torch.device("meta")))
            loss.backward()
            optimizer.step()
    later = seen.per_step()[1:]
    assert [step["h2d_copy"] for step in later] == [8, 8, 8]
    assert [step["loss"] for step in later] == [2, 2, 2]
    assert [step["forward"] for step in later] == [10, 10, 10]


def test_what_stays_on_the_host_is_no_copy(clock: Clock) -> None:
    with Watched(clock) as seen:
        seen.patches.watch_copies()
        model, optimizer, loader = _parts(clock)
        for x, y in loader:
            _mse(clock, model(x.to(torch.float32).to("cpu")), y).backward()
            optimizer.step()
    assert "h2d_copy" not in seen.totals()


def test_copies_of_a_validation_belong_to_it(clock: Clock) -> None:
    with Watched(clock) as seen:
        seen.patches.watch_copies()
        model, optimizer, loader = _parts(clock)
        for x, y in loader:
            _mse(clock, model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for x, _ in loader:
                model(x)
                x.to("meta")
    assert "h2d_copy" not in seen.totals()


def test_the_methods_are_as_before_when_nobody_observes(monkeypatch: Any) -> None:
    own = {name: name in vars(torch.Tensor) for name in ("to", "cuda", "copy_")}
    with Watched(Clock()) as seen:
        seen.patches.watch_copies()
    assert {name: name in vars(torch.Tensor) for name in own} == own


@pytest.mark.parametrize(
    ("target", "goes"),
    [
        ("cuda", True),
        ("cuda:1", True),
        ("cpu", False),
        (0, True),
        (torch.device("meta"), True),
        (torch.device("cpu"), False),
        (torch.float16, False),
        (torch.zeros(1), False),
        (torch.zeros(1, device="meta"), True),
        (None, False),
    ],
)
def test_where_a_tensor_goes_is_seen_from_what_it_is_given(target: Any, goes: bool) -> None:
    tensor = torch.zeros(1)
    assert goes_to(tensor, (target,), {}) == goes
    assert not goes_to(torch.zeros(1, device="meta"), (target,), {})
    assert is_copied_over(torch.zeros(1, device="meta"), (tensor,), {})
    assert not is_copied_over(tensor, (tensor,), {})


def test_how_most_bytes_are_copied_is_a_setting() -> None:
    seen = Copies()
    assert seen.settings() == {}
    seen.add(4096, pinned=True, non_blocking=True)
    seen.add(2048, pinned=False, non_blocking=False)
    seen.add(8, pinned=False, non_blocking=False)
    assert seen.settings() == {"h2d_pinned": True, "non_blocking": True}


def test_a_compiled_model_copies_as_before() -> None:
    class Moves(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.to(torch.float64) + 1

    with Watched(Clock()) as seen:
        seen.patches.watch_copies()
        found = torch.compile(Moves(), backend="eager", fullgraph=True)(torch.ones(2))
    assert found.dtype == torch.float64
