"""Layers called on one piece of the batch after the other, told from a step's graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from perfdoctor.collect.script.looks_of_training import _graph
from perfdoctor.collect.script.pieces import LayersOnPieces

PIECES, SAMPLES = 12, 2
FRAMES = torch.randn(PIECES, SAMPLES, 3, 8, 8)
ROWS = torch.randn(PIECES, SAMPLES, 6)
CNN = nn.Sequential(
    nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1), nn.Flatten()
)
LAYER = nn.Linear(6, 6)
CELL = nn.LSTMCell(6, 6)


def each(layer: Callable[[torch.Tensor], torch.Tensor], pieces: torch.Tensor) -> torch.Tensor:
    return torch.stack([layer(piece) for piece in pieces]).sum()


def fed_back() -> torch.Tensor:
    x = ROWS[0]
    for _ in range(PIECES):
        x = LAYER(x).tanh()
    return x.sum()


def of_cells() -> torch.Tensor:
    h, c = torch.zeros(SAMPLES, 6), torch.zeros(SAMPLES, 6)
    for _ in range(PIECES):
        h, c = CELL(h.tanh(), (h, c))
    return h.sum()


def of_known_inputs() -> torch.Tensor:
    """As of a cell by hand: its inputs are known, its state is not."""
    h = torch.zeros(SAMPLES, 6)
    inner = nn.Linear(6, 6)
    for row in ROWS:
        h = torch.tanh(LAYER(row) + inner(h))
    return h.sum()


def found(total: torch.Tensor) -> dict[str, Any]:
    looks = LayersOnPieces()
    looks.note(_graph(total))
    looks.measure()
    return {name.removeprefix("pieces_"): value for name, value in looks.settings().items()}


@pytest.mark.parametrize(
    ("total", "layers", "views"),
    [
        (lambda: each(CNN, FRAMES), 2 / 4, 1 / 4),
        (lambda: each(nn.Sequential(LAYER, nn.ReLU()), ROWS), 1 / 3, 1 / 3),
        (lambda: each(nn.Conv1d(6, 3, 1), ROWS.unsqueeze(-1)), 1.0, 0.0),
        (lambda: each(nn.Conv2d(4, 4, 3, groups=2), torch.randn(9, 2, 4, 6, 6)), 1.0, 0.0),
    ],
    ids=["frames", "rows", "signals", "in groups"],
)
def test_they_are_timed_both_ways(total: Any, layers: float, views: float) -> None:
    seen = found(total())
    assert seen["calls"] in (PIECES, 9)
    assert seen["samples"] == SAMPLES
    assert 0.6 < seen["operations"] < 1.0
    assert seen["of_layers"] / seen["operations"] == pytest.approx(layers, abs=0.15)
    assert seen["of_views"] / seen["operations"] == pytest.approx(views, abs=0.2)
    assert 0 < seen["left"] <= 1.0 and 0 < seen["beside_left"] <= 1.0


@pytest.mark.parametrize(
    "total",
    [
        fed_back,
        of_cells,
        lambda: CNN(FRAMES.flatten(0, 1)).sum(),
        lambda: each(CNN, FRAMES[:4]),
        lambda: sum((nn.Linear(6, 6)(row).sum() for row in ROWS), torch.zeros(())),
        lambda: sum((LAYER(torch.randn(n, 6)).sum() for n in range(1, 13)), torch.zeros(())),
        lambda: each(nn.ConvTranspose2d(3, 4, 3), FRAMES),
    ],
    ids=["fed back", "cells", "all at once", "few", "other weights", "other sizes", "transposed"],
)
def test_all_else_is_none(total: Callable[[], torch.Tensor]) -> None:
    assert found(total()) == {"calls": 0}


def test_of_what_goes_in_order_only_the_free_layers_count() -> None:
    seen = found(of_known_inputs())
    assert seen["calls"] == PIECES
    assert seen["operations"] == seen["of_layers"] < 0.3


def test_pieces_with_enough_to_do_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfdoctor.collect.script.layer_calls._NUMBERS", 7 * SAMPLES * 6)
    assert found(each(LAYER, ROWS)) == {}


def test_nothing_is_told_where_no_step_was_seen() -> None:
    assert LayersOnPieces().settings() == {}
