"""Recurrent cells that a step calls for one moment after the other, though all inputs are known.

`nn.LSTM`, `nn.GRU` and `nn.RNN` do the same in one operation. A cell is told from the graph that a
backward pass goes through: each of its calls multiplies an input and then a state, and the states
come from what it gave before. Where the inputs do too, there is no other way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from perfdoctor.collect.script.arithmetic import output_shape
from perfdoctor.collect.script.layer_calls import (
    PRODUCTS,
    by_weight,
    comes_from,
    given_to,
    weight_of,
)
from perfdoctor.collect.script.timed_ways import Took, two_ways

#: Rows of a cell's weights for each number that it gives → what it is, and its operations.
_KINDS = {4: ("LSTM", 15), 3: ("GRU", 16), 1: ("RNN", 6)}
#: Operations between the product with the input and that with the state: views alone.
_NEAR = 4


@dataclass(frozen=True)
class Cell:
    """A cell that was called for so many moments of `batch` sequences, from `takes` to `gives`
    numbers; `kind` is that of the layer: LSTM, GRU or RNN. `selects`: each moment is taken out of
    the sequence by its number, whose gradient is as large as the sequence."""

    moments: int
    batch: int
    takes: int
    gives: int
    kind: str
    selects: bool = False

    @property
    def operations(self) -> int:
        """Of one moment."""
        return next(n for kind, n in _KINDS.values() if kind == self.kind)


def cells_of(functions: Collection[Any], least: int) -> Iterator[Cell]:
    """Those with so many calls or more. Raises `UntoldError`."""
    products = (f for f in functions if type(f).__name__ in PRODUCTS)
    many = [sorted(group, key=_number) for group in by_weight(products) if len(group) >= least]
    for states in many:
        inputs = next((one for one in many if _are_of_one_cell(one, states)), None)
        if inputs is not None and _feeds(states, states) and not _feeds(states, inputs):
            weight = weight_of(states[0])
            kind, _ = _KINDS[int(weight.shape[0] // weight.shape[1])]
            takes, batch = int(weight_of(inputs[0]).shape[1]), output_shape(states[0])[0]
            selects = type(given_to(inputs[-1])).__name__.startswith("Select")
            yield Cell(len(inputs), batch, takes, int(weight.shape[1]), kind, selects)


def _feeds(calls: Collection[Any], others: Collection[Any]) -> bool:
    """Whether what the others are given comes from these calls."""
    return comes_from(map(given_to, others), calls)


def _number(function: Any) -> int:
    return int(function._sequence_nr())


def _are_of_one_cell(inputs: list[Any], states: list[Any]) -> bool:
    """Whether each product with an input is beside one with a state, for as many numbers."""
    rows, gives = weight_of(states[0]).shape
    if inputs is states or rows % gives or rows // gives not in _KINDS:
        return False
    # nothing is computed from the first state where none of it needs gradients
    if weight_of(inputs[0]).shape[0] != rows or not 0 <= len(inputs) - len(states) <= 1:
        return False
    return abs(_number(states[-1]) - _number(inputs[-1])) <= _NEAR


def cell_took(one: Cell, moments: int) -> tuple[Took, Took]:
    """So many moments one after the other, and in one call."""
    import torch

    rows = one.gives * next(n for n, (kind, _) in _KINDS.items() if kind == one.kind)
    x = torch.zeros(moments, one.batch, one.takes, requires_grad=True)
    sizes = ((rows, one.takes), (rows, one.gives), (rows,), (rows,))
    weights = [torch.zeros(*size, requires_grad=True) for size in sizes]
    first = torch.zeros(one.batch, one.gives)
    layer = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN": torch.rnn_tanh}[one.kind]
    cell: Any = {"LSTM": torch.lstm_cell, "GRU": torch.gru_cell}.get(one.kind, torch.rnn_tanh_cell)
    pair = one.kind == "LSTM"

    def moment_by_moment() -> Any:
        state, given = (first, first) if pair else first, []
        for part in [x[t] for t in range(moments)] if one.selects else x.unbind():
            state = cell(part, state, *weights)
            given.append(state[0] if pair else state)
        return torch.stack(given)

    def at_once() -> Any:
        state = (first[None], first[None]) if pair else first[None]
        # biases, one layer, no dropout, training, one direction, moments first
        return layer(x, state, weights, True, 1, 0.0, True, False, False)[0]  # type: ignore[operator]

    return two_ways(moment_by_moment, at_once, (x, *weights))
