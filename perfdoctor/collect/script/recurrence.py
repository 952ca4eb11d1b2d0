"""What a recurrent layer, or a cell of one, was called for, and the like of it to be timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Moments that are gone through to see how long it takes, and multiplications in them: some 10 ms
#: forward. Where that is less than a short sequence, a moment has enough to do by itself.
_MOST_MOMENTS, _MULTIPLICATIONS = 128, 500_000_000
#: Kind → rows of its weights for each number that it gives, and the operations of a cell.
_KINDS = {"LSTM": (4, 15), "GRU": (3, 16), "RNN": (1, 6)}


@dataclass(frozen=True)
class Recurrence:
    """So many calls, for a moment each of `batch` sequences, from `takes` to `gives` numbers.

    `kind` is that of the layer: LSTM, GRU or RNN. `is_cell`: a cell was called, whose operations
    are its own. `selects`: each moment is taken out of the sequence by its number, whose gradient
    is as large as the sequence.
    """

    moments: int
    batch: int
    takes: int
    gives: int
    kind: str = "LSTM"
    is_cell: bool = False
    selects: bool = False

    @property
    def own_operations(self) -> int:
        """Of a cell, in all its calls."""
        return self.moments * _KINDS[self.kind][1] if self.is_cell else 0

    @property
    def timed(self) -> int:
        """Moments of which it is timed."""
        of_moment = self.batch * self._rows * (self.takes + self.gives)
        return min(self.moments, _MOST_MOMENTS, _MULTIPLICATIONS // max(1, of_moment))

    @property
    def _rows(self) -> int:
        return _KINDS[self.kind][0] * self.gives

    def inputs(self) -> Any:
        """Those of the moments that are timed, first moment first."""
        import torch

        return torch.zeros(self.timed, self.batch, self.takes, requires_grad=True)

    def weights(self) -> list[Any]:
        """As torch's operations take them: of the input, of the state, and both biases."""
        import torch

        sizes = ((self._rows, self.takes), (self._rows, self.gives), (self._rows,), (self._rows,))
        return [torch.zeros(*size, requires_grad=True) for size in sizes]

    def first_state(self) -> Any:
        """That of a layer: for an LSTM two."""
        import torch

        state = torch.zeros(1, self.batch, self.gives)
        return (state, state) if self.kind == "LSTM" else state

    def sequence(self, x: Any, state: Any, weights: list[Any]) -> tuple[Any, Any]:
        """What a layer gives for these moments, and its state then."""
        import torch

        layer: Any = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN": torch.rnn_tanh}[self.kind]
        # biases, one layer, no dropout, training, one direction, moments first
        given, *last = layer(x, state, weights, True, 1, 0.0, True, False, False)
        return given, tuple(last) if self.kind == "LSTM" else last[0]


def kind_of(rows: int, gives: int) -> str | None:
    """What weights with so many rows are of, for so many numbers that are given."""
    return next((kind for kind, (times, _) in _KINDS.items() if rows == times * gives), None)
