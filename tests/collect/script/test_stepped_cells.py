"""Cells that are called for one moment after the other, told from a step's graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from made import graph_of
from torch import nn

from perfdoctor.collect.script.recurrence import Recurrence
from perfdoctor.collect.script.stepped_cells import cell_took, cells_of
from perfdoctor.collect.script.stepped_layers import SteppedLayers

_CELLS = {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "RNN": nn.RNNCell}
_MOMENTS = 10

_Input = Callable[[int, torch.Tensor], torch.Tensor]


def _called(kind: str, given: _Input | None = None, takes: int = 5) -> list[Any]:
    cell, x = _CELLS[kind](takes, 7), torch.ones(3, _MOMENTS, takes)
    first, outputs = torch.zeros(3, 7), []
    state: Any = (first, first) if kind == "LSTM" else first
    for t in range(_MOMENTS):
        output = state[0] if kind == "LSTM" else state
        state = cell(x[:, t] if given is None else given(t, output), state)
        outputs.append(state[0] if kind == "LSTM" else state)
    return graph_of(torch.stack(outputs).sum())


@pytest.mark.parametrize("kind", _CELLS)
@pytest.mark.parametrize("takes", [5, 7])
def test_a_cell_whose_inputs_are_known_is_found(kind: str, takes: int) -> None:
    found = list(cells_of(_called(kind, takes=takes), 8))
    assert found == [Recurrence(_MOMENTS, 3, takes, 7, kind, is_cell=True)]


@pytest.mark.parametrize("kind", _CELLS)
def test_one_whose_inputs_come_from_what_it_gave_is_not(kind: str) -> None:
    assert list(cells_of(_called(kind, lambda t, output: output[:, :5] + 1), 8)) == []


@pytest.mark.parametrize("selects", [True, False])
def test_how_moments_are_taken_is_told(selects: bool) -> None:
    x = torch.ones(_MOMENTS, 3, 5, requires_grad=True)
    parts = list(x) if selects is False else [x[t] for t in range(_MOMENTS)]
    (found,) = cells_of(_called("LSTM", lambda t, _: parts[t]), 8)
    assert found.selects is selects


def test_a_few_calls_are_not() -> None:
    assert list(cells_of(_called("LSTM"), _MOMENTS + 1)) == []


@pytest.mark.parametrize("kind", _CELLS)
def test_how_long_it_takes_is_tried_both_ways(kind: str) -> None:
    now, then = cell_took(Recurrence(_MOMENTS, 3, 5, 7, kind, is_cell=True, selects=True))
    assert now.both_s > 0
    assert then.both_s > 0


def test_cells_are_told_as_layers_are() -> None:
    seen = SteppedLayers()
    seen.note(_called("GRU"))
    seen.measure()
    told = seen.settings()
    assert (told["stepped_layers"], told["stepped_moments"]) == (1, _MOMENTS)
    assert (told["stepped_cell"], told["stepped_operations"] < 0.2) == ("GRU", True)


def test_a_layer_for_whole_sequences_comes_first() -> None:
    seen = SteppedLayers()
    model = nn.LSTM(5, 7)
    parts = torch.ones(_MOMENTS, 3, 5).split(1)
    state, outputs = None, []
    for part in parts:
        output, state = model(part, state)
        outputs.append(output)
    seen.note(graph_of(torch.cat(outputs).sum()))
    assert "stepped_cell" not in seen.settings()
