"""What of a checkpoint's bytes no tensor needs."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any

import pytest
import torch
from torch import nn

from perfdoctor.collect.script.saved_tensors import SavedTensors


def _unneeded(*saves: Any) -> float | None:
    seen = SavedTensors()
    for one in saves:
        seen.note(one)
    return seen.settings().get("saved_unneeded")


def test_a_view_is_saved_with_all_that_it_looks_into() -> None:
    images = torch.zeros(1000, 10)
    assert _unneeded({"probe": images[:10]}) == pytest.approx(0.99)
    assert _unneeded({"nested": [(images[:10].clone(),)]}) == pytest.approx(0.0)


@pytest.mark.parametrize(
    "saved",
    [
        nn.LSTM(8, 8).state_dict(),
        OrderedDict(a=torch.zeros(4)),
        [torch.zeros(3, 5).t(), torch.zeros(0)],
        {"tied": (weights := torch.zeros(6)), "again": weights, "view": weights.view(2, 3)},
        {"halves": torch.zeros(8).chunk(2)},
    ],
)
def test_ordinary_checkpoints_hold_what_they_need(saved: Any) -> None:
    assert _unneeded(saved) == pytest.approx(0.0)


def test_an_optimizer_s_state_is_needed() -> None:
    model = nn.Linear(30, 30)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 30)).sum().backward()
    optimizer.step()
    assert _unneeded({"m": model.state_dict(), "o": optimizer.state_dict()}) == pytest.approx(0.0)


@pytest.mark.parametrize(
    "saved", [{"epoch": 3}, nn.Linear(2, 2), torch.zeros(2, 2).to_sparse(), None, "text"]
)
def test_of_what_holds_no_plain_tensors_nothing_is_said(saved: Any) -> None:
    assert _unneeded(saved) is None


def test_containers_that_hold_themselves_end() -> None:
    loop: list[Any] = [torch.zeros(4)]
    loop.append(loop)
    assert _unneeded(loop) == pytest.approx(0.0)


def test_only_the_first_saves_are_looked_into() -> None:
    small, part = torch.zeros(10), torch.zeros(1000)[:10]
    assert _unneeded(small, small, small, part) == pytest.approx(0.0)


def test_long_lists_of_numbers_are_not_gone_through() -> None:
    part = torch.zeros(100)[:50]
    assert _unneeded({"losses": [*[0] * 60_000, part], "w": torch.zeros(4)}) == pytest.approx(0.0)
    assert _unneeded({"losses": [*[0] * 40_000, part]}) == pytest.approx(0.5)
    assert _unneeded([deque([torch.zeros(100)[:50]])]) == pytest.approx(0.5)
