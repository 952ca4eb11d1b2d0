"""LSTMs called for one moment after the other, told from a step's graph, and timed both ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from perfdoctor.collect.script.looks_of_training import _graph
from perfdoctor.collect.script.stepped_layers import SteppedLayers

MOMENTS, BATCH, TAKES, GIVES = 16, 3, 5, 6
X = torch.randn(MOMENTS, BATCH, TAKES)
HEAD, BACK = nn.Linear(GIVES, 1), nn.Linear(GIVES, TAKES)


def by_moment(layer: nn.LSTM, x: torch.Tensor = X) -> torch.Tensor:
    """Inputs that are known."""
    state, total = None, torch.zeros(())
    for part in x.split(1):
        output, state = layer(part, state)
        total = total + HEAD(output).tanh().sum()
    return total


def fed_back(layer: nn.LSTM) -> torch.Tensor:
    """An output is the next input."""
    given, state, total = X[:1], None, torch.zeros(())
    for _ in range(MOMENTS):
        output, state = layer(given, state)
        given = BACK(output)
        total = total + given.sum()
    return total


def from_state(layer: nn.LSTM) -> torch.Tensor:
    """An input is made of the state, as by attention."""
    state = (torch.zeros(1, BATCH, GIVES), torch.zeros(1, BATCH, GIVES))
    total = torch.zeros(())
    for part in X.split(1):
        output, state = layer(part + BACK(state[0]), state)
        total = total + output.sum()
    return total


def found(total: torch.Tensor) -> dict[str, Any]:
    looks = SteppedLayers()
    looks.note(_graph(total))
    looks.measure()
    return {name.removeprefix("stepped_"): value for name, value in looks.settings().items()}


@pytest.mark.parametrize("layers", [1, 3])
def test_it_is_timed_both_ways(layers: int) -> None:
    seen = found(by_moment(nn.LSTM(TAKES, GIVES, layers)))
    assert (seen["layers"], seen["moments"]) == (layers, MOMENTS)
    assert min(seen["s"], seen["left"], seen["beside_left"]) > 0
    assert 0.8 < seen["operations"] <= 1.0


def test_batches_that_come_first_are_the_same() -> None:
    layer, state = nn.LSTM(TAKES, GIVES, batch_first=True), None
    total = torch.zeros(())
    for part in X.transpose(0, 1).split(1, dim=1):
        output, state = layer(part, state)
        total = total + output.sum()
    assert found(total)["moments"] == MOMENTS


def test_of_a_long_sequence_a_part_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    layer = nn.LSTM(TAKES, GIVES)
    whole = found(by_moment(layer))
    monkeypatch.setattr("perfdoctor.collect.script.recurrence._MOST_MOMENTS", MOMENTS // 2)
    assert found(by_moment(layer))["s"] == 2 * whole["s"]


def test_moments_with_enough_to_do_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    one = BATCH * 4 * GIVES * (TAKES + GIVES)
    monkeypatch.setattr("perfdoctor.collect.script.recurrence._MULTIPLICATIONS", 7 * one)
    assert found(by_moment(nn.LSTM(TAKES, GIVES))) == {"layers": 0}


@pytest.mark.parametrize(
    "total",
    [
        lambda: fed_back(nn.LSTM(TAKES, GIVES)),
        lambda: fed_back(nn.LSTM(TAKES, GIVES, 2)),
        lambda: from_state(nn.LSTM(TAKES, GIVES)),
        lambda: nn.LSTM(TAKES, GIVES)(X)[0].sum(),
        lambda: by_moment(nn.LSTM(TAKES, GIVES), X[:4]),
        lambda: HEAD(BACK.weight.t()[:, :1].t().expand(2, GIVES)).sum(),
    ],
    ids=["fed back", "fed back, two layers", "of the state", "in one call", "short", "no LSTM"],
)
def test_all_else_is_none(total: Callable[[], torch.Tensor]) -> None:
    assert found(total()) == {"layers": 0}


def test_nothing_is_told_where_no_step_was_seen() -> None:
    assert SteppedLayers().settings() == {}


def test_on_a_device_it_is_not_timed() -> None:
    looks = SteppedLayers()
    looks.note(_graph(by_moment(nn.LSTM(TAKES, GIVES))))
    assert set(looks.settings()) == {"stepped_layers", "stepped_moments", "stepped_operations"}
