"""Whether a state that is carried from step to step ties the graphs of the steps together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_observing import Clock, Watched
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from perfdoctor.collect.script import graph_reach
from perfdoctor.collect.script.settings_used import settings_used

_GROWN, _OWN = "graph_nodes_grown_per_step", "graph_nodes_own"


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Mood(nn.Module):
    """Shifts its output by a running mean of what it saw, `after` each step as the test has it."""

    def __init__(self, after: Callable[[torch.Tensor], torch.Tensor] = lambda mood: mood) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(4, 4), nn.Linear(4, 1)
        self.mood, self.after = torch.zeros(4), after

    def forward(self, x: torch.Tensor, longer: int = 0) -> torch.Tensor:
        seen = self.embed(x)
        out: torch.Tensor = self.head(seen + self.mood)
        for _ in range(longer):
            out = out + 1
        self.mood = self.after(0.9 * self.mood + 0.1 * seen.mean(0))
        return out


def _trained(
    seen: Watched,
    model: Mood,
    *,
    epochs: int = 1,
    steps: int = 30,
    anew: int = 0,
    longer: Callable[[int], int] = lambda step: 0,
    passes: int = 1,
) -> dict[str, Any]:
    """What was noted of epochs of so many steps; the mood begins anew every so many (0: never)."""
    optimizer = torch.optim.SGD(model.embed.parameters(), lr=1e-4)
    batches = DataLoader(TensorDataset(torch.ones(2 * steps * passes, 4)), batch_size=2)
    done = 0
    for _ in range(epochs):
        for number, (x,) in enumerate(batches):
            if anew and done % anew == 0 and number % passes == 0:
                model.mood = torch.zeros(4)
            model(x, longer(done)).sum().backward(retain_graph=True)
            if number % passes == passes - 1:
                done += 1
                optimizer.step()
                optimizer.zero_grad()
    return settings_used(seen.observer)


def test_the_operations_of_a_carried_state_are_counted_each_step(clock: Clock) -> None:
    with Watched(clock) as seen:
        used = _trained(seen, Mood())
        assert used[_GROWN] == 6  # addmm, transpose, mean, two products and their sum
        assert used[_OWN] == 6


def test_a_state_that_is_detached_leads_nowhere(clock: Clock) -> None:
    with Watched(clock) as seen:
        used = _trained(seen, Mood(torch.Tensor.detach))
        assert (used[_GROWN], used[_OWN]) == (0.0, 6)


def test_a_state_that_begins_anew_with_each_epoch_grows_within_them(clock: Clock) -> None:
    with Watched(clock) as seen:
        assert _trained(seen, Mood(), epochs=5, steps=8, anew=8)[_GROWN] == 6


def test_a_state_that_begins_anew_with_each_sequence_grows_within_them(clock: Clock) -> None:
    with Watched(clock) as seen:
        used = _trained(seen, Mood(), anew=7)
        assert (used[_GROWN], used["graph_steps_back"]) == (6, 7)


def test_a_state_that_is_cut_off_every_few_steps_of_an_epoch_is_meant_so(clock: Clock) -> None:
    with Watched(clock) as seen:
        used = _trained(seen, Mood(), anew=4)
        assert used[_GROWN] == 0
        assert "graph_steps_back" not in used


def test_graphs_that_get_larger_by_themselves_reach_nowhere(clock: Clock) -> None:
    with Watched(clock) as seen:
        used = _trained(seen, Mood(torch.Tensor.detach), longer=lambda step: step)
        assert used[_GROWN] == 0
        assert used[_OWN] > 6


def test_batches_of_changing_lengths_do_not_hide_what_is_carried(clock: Clock) -> None:
    with Watched(clock) as seen:
        assert _trained(seen, Mood(), longer=lambda step: step * 7 % 5)[_GROWN] == 6


def test_a_graph_that_all_steps_share_does_not_grow(clock: Clock) -> None:
    with Watched(clock) as seen:
        model = Mood(torch.Tensor.detach)
        shared = model.embed(torch.ones(4)).relu()
        model.after = lambda mood: mood.detach() + shared
        assert _trained(seen, model)[_GROWN] == 0


def test_batches_whose_gradients_add_up_are_one_step(clock: Clock) -> None:
    with Watched(clock) as seen:
        assert _trained(seen, Mood(torch.Tensor.detach), passes=3)[_GROWN] == 0
    with Watched(Clock()) as seen:
        assert _trained(seen, Mood(), passes=3)[_GROWN] == 18


def test_a_second_network_that_judges_the_first_does_not_grow(clock: Clock) -> None:
    with Watched(clock) as seen:
        maker, judge = nn.Linear(4, 4), nn.Linear(4, 1)
        made, judged = (torch.optim.SGD(m.parameters(), lr=1e-4) for m in (maker, judge))
        for _ in range(30):
            fake = maker(torch.ones(2, 4))
            judge(fake).sum().backward(retain_graph=True)
            judged.step()
            judge(fake).sum().backward()
            made.step()
        assert settings_used(seen.observer)[_GROWN] == 0


def test_nothing_is_said_of_few_steps(clock: Clock) -> None:
    with Watched(clock) as seen:
        assert _GROWN not in _trained(seen, Mood(), steps=4)


@pytest.mark.parametrize("limit", ["_MOST_NODES", "_MOST_IN_ALL"])
def test_large_graphs_are_not_counted(
    clock: Clock, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_reach, limit, 12)
    with Watched(clock) as seen:
        assert _GROWN not in _trained(seen, Mood())
