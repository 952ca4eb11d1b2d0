"""What a usual step of a training consists of, from the steps that were watched whole.

So the time of steps that were not looked into (see `skimming`) can be parted among the labels.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from perfdoctor.collect.script.skimmed_steps import Stretch
from perfdoctor.collect.script.step_rows import MOST_LABELS, SAMPLES, WIDTH

if TYPE_CHECKING:  # not before the script's first line, see `perfdoctor.running`
    import numpy as np
    from numpy.typing import NDArray

#: Steps that a usual one is known from, and how many it takes at least.
_MOST, _FEWEST = 36, 8
#: A step is usual up to so many times the median: one twice as long holds something else.
_USUAL = 1.5
#: Unusual time in skimmed steps, beside the usual, from which on they are watched again: so much of
#: what is told is told wrongly at most.
_UNUSUAL_SHARE = 0.03
#: So much is allowed for besides: what happens once, as a report that is written or a program that
#: starts, is no habit.
_GRACE_NS = 1_000_000_000
#: So many long steps one after the other are a slow machine, and nothing that happens in one.
_IN_A_ROW = 3


@dataclass(frozen=True)
class _Parts:
    """Nanoseconds of the labels in a usual step, and of all of them together."""

    of_label: tuple[tuple[int, int], ...]
    whole: int


class _Row(NamedTuple):
    """A watched step: nanoseconds per label, of all that may be skimmed, and of everything."""

    of_label: list[int]
    fixed: int
    whole: int


class UsualStep:
    """Learns from rows of nanoseconds per label, and parts what is noted as `skimmed` alone.

    Args:
        skimmed: the label of what was not looked into; lower ones are what it may consist of.
        other: the label of what is longer than usual. ends: those that are never skimmed, and whose
            steps tell nothing of the others.
    """

    def __init__(self, skimmed: int, other: int, ends: Collection[int] = ()) -> None:
        self._skimmed, self._other, self._ends = skimmed, other, tuple(ends)
        self._rows: deque[_Row] = deque(maxlen=_MOST)
        self._parts = _Parts((), 0)
        self._leave_out = False
        self.steps = 0  # that were parted
        self._usual = self._unusual = 0

    def watched(self, row: list[int]) -> None:
        """A step that was watched whole; the row must not change any more."""
        leave_out, self._leave_out = self._leave_out, False
        if not leave_out and not any(row[label] for label in self._ends):
            self._rows.append(_Row(row, sum(row[: self._skimmed]), sum(row[:MOST_LABELS])))

    def leave_out_next(self) -> None:
        """In the next step is more than in others: what was done to add these up, for one."""
        self._leave_out = True

    def step_ns(self) -> float | None:
        """Median of the watched steps, loading included; None where they are few."""
        if len(self._rows) < _FEWEST:
            return None
        return statistics.median(row.whole for row in self._rows)

    def learn(self) -> bool:
        """Takes the steps watched last for what usual ones consist of; whether they tell."""
        if len(self._rows) < _FEWEST:
            return False
        most = _USUAL * statistics.median(row.fixed for row in self._rows)
        usual = [row.of_label for row in self._rows if row.fixed <= most]
        labels = {n for row in usual for n in range(self._skimmed) if row[n]}
        parts = tuple((n, sum(row[n] for row in usual) // len(usual)) for n in sorted(labels))
        self._parts = _Parts(parts, sum(part for _, part in parts))
        return bool(self._parts.whole)

    def part(self, row: list[int]) -> None:
        """Gives the skimmed time of a row that was watched in part, as where an epoch ended in it,
        to the labels of a usual step that it still lacks, and what is left to `other`."""
        rest = row[self._skimmed]
        row[self._skimmed] = 0
        for label, usual in self._parts.of_label:
            given = max(0, min(rest, usual - row[label]))
            row[label] += given
            rest -= given
        row[self._other] += rest

    def rows(self, steps: Stretch, loader: int) -> NDArray[np.int64]:
        """These steps as rows, each with the parts of a usual one: scaled for all of them together,
        and what one of them differs goes to its largest part; what one is far longer to `other`,
        where the steps around it are not as well."""
        import numpy as np

        long = steps.taken > _USUAL * self._parts.whole
        slow = _in_a_row(long)  # as beside another program: no part of theirs is longer than others
        alone, usual = long & ~slow, ~long
        mean = steps.taken[usual].mean() if usual.any() else self._parts.whole
        pattern = np.zeros(WIDTH, dtype=np.int64)
        for label, part in self._parts.of_label:
            pattern[label] = part * mean / self._parts.whole
        rest, largest = steps.taken - pattern.sum(), int(pattern.argmax())
        rows = np.tile(pattern, (steps.taken.size, 1))
        rows[usual, largest] += rest[usual]
        rows[alone, self._other] += rest[alone]
        for at in np.flatnonzero(slow | (rows[:, largest] < 0)):
            rows[at] = pattern * steps.taken[at] // pattern.sum()
            rows[at, largest] += steps.taken[at] - rows[at].sum()
        rows[:, loader] += steps.waited
        rows[:, SAMPLES] = steps.samples
        self.steps += steps.taken.size
        self._usual += int(steps.taken.sum() - rest[alone].sum())
        self._unusual += int(rest[alone].sum())
        return rows

    def is_regular(self) -> bool:
        """Whether skimmed steps were like the watched ones, all but a few."""
        return self._unusual <= _UNUSUAL_SHARE * self._usual + _GRACE_NS


def _in_a_row(marks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where at least `_IN_A_ROW` marks follow each other."""
    import numpy as np

    ends = np.flatnonzero(np.diff(np.concatenate(([False], marks, [False]))))
    found = np.zeros_like(marks)
    for first, end in ends.reshape(-1, 2):
        found[first:end] = end - first >= _IN_A_ROW
    return found
