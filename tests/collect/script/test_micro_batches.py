"""Batches whose gradients are accumulated, told from the graphs of a step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from perfdoctor.collect.script.looks_of_training import _graph
from perfdoctor.collect.script.micro_batches import MicroBatches

NET = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8))
OTHER = nn.Linear(5, 8)


def noted(*losses: torch.Tensor) -> MicroBatches:
    looks = MicroBatches()
    for loss in losses:
        looks.note(_graph(loss))
    return looks


def told(looks: MicroBatches) -> dict[str, Any]:
    looks.update_begins()
    looks.measure()
    return {name.removeprefix("micro_batch_"): n for name, n in looks.settings().items()}


def loss(rows: int = 4, net: nn.Module = NET) -> torch.Tensor:
    total: torch.Tensor = net(torch.randn(rows, 5)).sum()
    return total


def test_they_are_counted_and_timed_both_ways() -> None:
    seen = told(noted(*(loss() for _ in range(6))))
    assert (seen["calls"], seen["samples"], seen["operations"]) == (6, 4, 1.0)
    assert 0 < seen["of_layers"] < 1.0
    assert 0 < seen["left"] <= 1.0 and 0 < seen["beside_left"] <= 1.0


def test_texts_may_be_of_other_lengths_in_each() -> None:
    seen = told(noted(*(loss(rows) for rows in (3, 9, 4, 5, 3))))
    assert (seen["calls"], seen["samples"]) == (5, 4)


def test_an_update_between_them_ends_it() -> None:
    looks = noted(loss(), loss())
    looks.update_begins()
    looks.note(_graph(loss()))
    assert told(looks) == {"calls": 0}


@pytest.mark.parametrize(
    "losses",
    [
        lambda: [loss(), loss()],
        lambda: [loss(), loss(net=OTHER), loss(), loss(net=OTHER)],
        lambda: [loss()] * 5,
    ],
    ids=["two", "of two models", "of one forward"],
)
def test_all_else_is_none(losses: Any) -> None:
    assert told(noted(*losses())) == {"calls": 0}


def test_batches_with_enough_to_do_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfdoctor.collect.script.layer_calls._NUMBERS", 2 * 4 * 8)
    assert told(noted(*(loss() for _ in range(6)))) == {}


def test_nothing_is_told_where_no_step_was_seen() -> None:
    assert told(MicroBatches()) == {}
    assert told(noted(torch.ones(3, requires_grad=True).sum())) == {}
