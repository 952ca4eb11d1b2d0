"""What a step is made of, for steps of which only the whole is known."""

from __future__ import annotations

from collections import deque
from statistics import median_low
from typing import TYPE_CHECKING

from perfdoctor.collect.script.step_rows import MOST_LABELS

if TYPE_CHECKING:  # not before the script's first line, see `perfdoctor.running`
    import numpy as np
    from numpy.typing import NDArray

#: Steps that tell, and how many of them it takes.
_KEPT, _FEWEST = 100, 20
#: Up to so many times the usual a step is a slow one as a whole, or more where one in twenty of the
#: steps observed label by label computes for longer; beyond that something else ran.
_SLOWER, _ONE_IN = 1.5, 20


class UsualParts:
    """Divides what a step took among the labels as in the steps observed before.

    The parts are medians of the last steps that were observed label by label. A step that took
    much longer than they do had something in it that they had not: that is `other`, label 0.
    `computing` are the labels whose time varies with the whole step's: not those of loaders.
    """

    def __init__(self, computing: range) -> None:
        self._computing = slice(computing.start, computing.stop)
        self._rows: deque[list[int]] = deque(maxlen=_KEPT)
        self._parts: dict[int, int] = {}
        self._other = 0
        self._slower = _SLOWER

    def note(self, row: list[int]) -> None:
        """A step that was observed label by label, in nanoseconds."""
        self._rows.append(row)

    def step_ns(self) -> int:
        """The median of such steps; 0 where there are too few."""
        if len(self._rows) < _FEWEST:
            return 0
        return median_low(sum(row[:MOST_LABELS]) for row in self._rows)

    def settle(self) -> None:
        """What follows is divided as the steps noted so far."""
        columns = zip(*self._rows, strict=True)
        parts = [median_low(column) for column in list(columns)[:MOST_LABELS]]
        self._other = parts[0]
        self._parts = {label: part for label, part in enumerate(parts) if part and label}
        computing = sorted(sum(row[self._computing]) for row in self._rows)
        slow, usual = computing[-1 - len(computing) // _ONE_IN], median_low(computing)
        self._slower = max(_SLOWER, slow / usual if usual else 0.0)

    def divided(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Spreads label 0 of each step over the labels of which nothing was noted in it."""
        import numpy as np

        labels, parts = list(self._parts), np.array(list(self._parts.values()), dtype=np.float64)
        missing = rows[:, labels] == 0
        usual = np.maximum(1.0, self._other + missing @ parts)
        scale = np.minimum(rows[:, 0] / usual, self._slower)
        spread = (missing * parts * scale[:, None]).astype(np.int64)
        rows[:, labels] += spread
        rows[:, 0] -= spread.sum(axis=1)
        return rows
