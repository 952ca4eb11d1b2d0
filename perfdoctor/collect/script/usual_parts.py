"""What a step is made of, for steps of which only the whole is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
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
    much longer than they do had something in it that they had not: that is `other`, label 0, but
    for the part of such time that the labels had where it was seen. On a machine that others use
    too that is most of it: any step may have to wait for its turn.

    Args:
        unnoted: the labels that nothing is noted of in such a step. Where nothing was noted of
            another one, of a loader say, nothing of it happened.

    Attributes:
        fits: most of the steps divided last took about as long as those before, loading left out.
    """

    def __init__(self, unnoted: Collection[int]) -> None:
        self._unnoted = unnoted
        self.fits = True
        self._rows: deque[list[int]] = deque(maxlen=_KEPT)
        self._parts: dict[int, int] = {}
        self._other = 0
        self._slower = self._slowest = _SLOWER
        self._beyond, self._beyond_computing = 0, 0  # of slow steps, nanoseconds more than usual

    def note(self, row: list[int]) -> None:
        """A step that was observed label by label, in nanoseconds."""
        self._rows.append(row)

    def step_ns(self) -> int:
        """The median of such steps; 0 where there are too few."""
        if len(self._rows) < _FEWEST:
            return 0
        return median_low(sum(row[:MOST_LABELS]) for row in self._rows)

    def forget(self) -> None:
        """What follows is to be divided as the steps that are noted from here on."""
        self._rows.clear()

    def settle(self) -> None:
        """What follows is divided as the steps noted so far."""
        columns = zip(*self._rows, strict=True)
        parts = [median_low(column) for column in list(columns)[:MOST_LABELS]]
        self._other = parts[0]
        self._parts = {label: parts[label] for label in self._unnoted if parts[label]}
        computing = [sum(row[label] for label in self._unnoted) for row in self._rows]
        usual = max(1, median_low(computing))
        self._slower = max(_SLOWER, sorted(computing)[-1 - len(computing) // _ONE_IN] / usual)
        self._slowest = max(self._slower, self._slowest, max(computing) / usual)
        self._learn_slow(computing, usual)

    def _learn_slow(self, computing: list[int], usual: int) -> None:
        """What slow steps have taken more than usual, and how much of that while computing."""
        for row, spent in zip(self._rows, computing, strict=True):
            if row[0] + spent > self._slower * (self._other + usual):
                more = max(0, spent - usual)
                self._beyond_computing += more
                self._beyond += more + max(0, row[0] - self._other)

    def divided(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Spreads label 0 of each step over the labels of which nothing was noted in it."""
        import numpy as np

        self.fits = True
        if not len(rows):
            return rows
        labels, parts = list(self._parts), np.array(list(self._parts.values()), dtype=np.float64)
        missing = rows[:, labels] == 0
        usual = np.maximum(1.0, self._other + missing @ parts)
        scale = rows[:, 0] / usual
        self.fits = bool(1 / self._slower <= np.median(scale) <= self._slower)
        beyond = np.clip(scale, self._slower, self._slowest) - self._slower
        share = self._beyond_computing / max(1, self._beyond)
        scale = np.minimum(scale, self._slower) + beyond * share
        spread = (missing * parts * scale[:, None]).astype(np.int64)
        rows[:, labels] += spread
        rows[:, 0] -= spread.sum(axis=1)
        return rows
