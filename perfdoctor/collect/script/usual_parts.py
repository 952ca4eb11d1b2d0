"""What a step is made of, for steps of which only the whole is known."""

from __future__ import annotations

from collections import deque
from statistics import median_low

from perfdoctor.collect.script.step_rows import MOST_LABELS

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
        self._parts: list[tuple[int, int]] = []
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
        self._parts = [(label, part) for label, part in enumerate(parts) if part]
        computing = sorted(sum(row[self._computing]) for row in self._rows)
        slow, usual = computing[-1 - len(computing) // _ONE_IN], median_low(computing)
        self._slower = max(_SLOWER, slow / usual if usual else 0.0)

    def divide(self, row: list[int]) -> None:
        """Spreads label 0 of a step over the labels of which nothing was noted in it."""
        missing = [(label, part) for label, part in self._parts if not label or not row[label]]
        whole, usual = row[0], sum(part for _, part in missing)
        if not usual or len(missing) < 2:
            return
        scale = min(whole, self._slower * usual) / usual
        for label, part in missing[1:] if not missing[0][0] else missing:
            row[label] = int(part * scale)
            row[0] -= row[label]
