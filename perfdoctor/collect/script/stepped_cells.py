"""Recurrent cells that a step calls for one moment after the other, though all inputs are known.

`nn.LSTM`, `nn.GRU` and `nn.RNN` do the same in one operation. A cell is told from the graph that a
backward pass goes through: each of its calls multiplies an input and then a state, and the states
come from what it gave before. Where the inputs do too, there is no other way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from perfdoctor.collect.script.arithmetic import output_shape
from perfdoctor.collect.script.layer_calls import (
    PRODUCTS,
    by_weight,
    comes_from,
    given_to,
    weight_of,
)
from perfdoctor.collect.script.recurrence import Recurrence, kind_of
from perfdoctor.collect.script.timed_ways import Took, two_ways

#: Operations between the product with the input and that with the state: views alone.
_NEAR = 4


def cells_of(functions: Collection[Any], least: int) -> Iterator[Recurrence]:
    """Those with so many calls or more. Raises `UntoldError`."""
    products = (f for f in functions if type(f).__name__ in PRODUCTS)
    many = [sorted(group, key=_number) for group in by_weight(products) if len(group) >= least]
    for states in many:
        inputs = next((one for one in many if _are_of_one_cell(one, states)), None)
        if inputs is not None and _feeds(states, states) and not _feeds(states, inputs):
            yield _cell(inputs, states)


def _cell(inputs: list[Any], states: list[Any]) -> Recurrence:
    rows, gives = weight_of(states[0]).shape
    return Recurrence(
        moments=len(inputs),
        batch=output_shape(states[0])[0],
        takes=int(weight_of(inputs[0]).shape[1]),
        gives=int(gives),
        kind=kind_of(rows, gives) or "",
        is_cell=True,
        selects=type(given_to(inputs[-1])).__name__.startswith("Select"),
    )


def _feeds(calls: Collection[Any], others: Collection[Any]) -> bool:
    """Whether what the others are given comes from these calls."""
    return comes_from(map(given_to, others), calls)


def _number(function: Any) -> int:
    return int(function._sequence_nr())


def _are_of_one_cell(inputs: list[Any], states: list[Any]) -> bool:
    """Whether each product with an input is beside one with a state, for as many numbers."""
    rows, gives = weight_of(states[0]).shape
    if inputs is states or kind_of(rows, gives) is None:
        return False
    # nothing is computed from the first state where none of it needs gradients
    if weight_of(inputs[0]).shape[0] != rows or not 0 <= len(inputs) - len(states) <= 1:
        return False
    return abs(_number(states[-1]) - _number(inputs[-1])) <= _NEAR


def cell_took(one: Recurrence) -> tuple[Took, Took]:
    """One moment after the other, and all in one call."""
    import torch

    x, weights, first = one.inputs(), one.weights(), one.first_state()
    cell: Any = {"LSTM": torch.lstm_cell, "GRU": torch.gru_cell}.get(one.kind, torch.rnn_tanh_cell)

    def moment_by_moment() -> Any:
        state, given = (tuple(s[0] for s in first) if one.kind == "LSTM" else first[0]), []
        for part in [x[t] for t in range(len(x))] if one.selects else x.unbind():
            state = cell(part, state, *weights)
            given.append(state[0] if one.kind == "LSTM" else state)
        return torch.stack(given)

    return two_ways(moment_by_moment, lambda: one.sequence(x, first, weights)[0], (x, *weights))
