"""Whether a model that a step calls again is given what came of its own output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_observing import Clock, Net, Watched


def acting(model: Any, optimizer: Any) -> None:
    for _ in range(3):
        kept, seen = [], torch.ones(1, 4)
        for _ in range(5):
            out = model(seen)
            kept.append(out)
            seen = torch.full((1, 4), out.item())
        torch.stack(kept).mean().backward()
        optimizer.step()


def ask(model: Any, seen: Any) -> Any:
    return model(seen)


def acting_by_a_function(model: Any, optimizer: Any) -> None:
    for _ in range(3):
        kept, seen = [], torch.ones(1, 4)
        for _ in range(5):
            out = ask(model, seen)
            kept.append(out)
            seen = torch.full((1, 4), out.item())
        torch.stack(kept).mean().backward()
        optimizer.step()


def on_frames(model: Any, optimizer: Any) -> None:
    for _ in range(3):
        kept = []
        for frame in torch.ones(5, 1, 4):
            kept.append(model(frame))
        torch.stack(kept).mean().backward()
        optimizer.step()


def on_frames_in_a_list(model: Any, optimizer: Any) -> None:
    for _ in range(3):
        kept = [model(frame) for frame in torch.ones(5, 1, 4)]
        torch.stack(kept).mean().backward()
        optimizer.step()


def on_games(model: Any, optimizer: Any) -> None:
    for _ in range(3):
        kept, seen = [], [torch.ones(1, 4) for _ in range(4)]
        for _ in range(5):
            for game in range(4):
                out = model(seen[game])
                kept.append(out)
                seen[game] = torch.full((1, 4), out.item())
        torch.stack(kept).mean().backward()
        optimizer.step()


def once_a_step(model: Any, optimizer: Any) -> None:
    for _ in range(3):
        model(torch.ones(1, 4)).mean().backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("train", "told"),
    [
        (acting, {"fed_back": True}),
        (acting_by_a_function, {"fed_back": True}),
        (on_frames, {"fed_back": False}),
        (on_frames_in_a_list, {"fed_back": False}),
        (on_games, {"fed_back": True}),
        (once_a_step, {}),
    ],
)
def test_calls_of_a_step_are_looked_at(train: Callable[..., None], told: dict[str, bool]) -> None:
    with Watched(Clock()) as seen:
        model = Net(Clock())
        train(model, torch.optim.SGD(model.parameters(), lr=1e-3))
    assert seen.observer.looks.repeated.settings(seen.state.loop.loops()) == told
