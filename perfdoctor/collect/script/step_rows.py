"""The steps of a training of any length as rows of a bounded table: nanoseconds per label."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # not before the script's first line, see `perfdoctor.running`
    import numpy as np
    from numpy.typing import NDArray

#: Labels, fixed and added ones (a loader each, the user's own stages). Further ones are `other`.
MOST_LABELS = 32
#: Columns of a row after those of the labels.
SAMPLES, EPOCH = MOST_LABELS, MOST_LABELS + 1
WIDTH = MOST_LABELS + 2
#: Rows kept; a power of two, as thinning halves them. 2^14 rows are 4.5 MB, twice that if thinned.
MOST_ROWS = 1 << 14


@dataclass(frozen=True)
class Rows:
    """The steps as kept: nanoseconds per label, samples, and whether an epoch began.

    Attributes:
        single: one step a row. sums: all steps since the row before, that one included.
        stride: how many steps that is.
    """

    single: NDArray[np.int64]
    sums: NDArray[np.int64]
    stride: int


class StepRows:
    """Rows of a training of any length: past `most`, only every second one is kept, and so on."""

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        self.stride = 1
        self.steps = 0
        self._single = array("q")
        self._sums = array("q")
        self._pending = [0] * WIDTH
        self._waiting = 0

    def add(self, row: list[int]) -> None:
        """One step."""
        self.steps += 1
        if self.stride == 1:
            self._sums.extend(row)
        else:
            self._pending = [a + b for a, b in zip(self._pending, row, strict=True)]
            self._waiting += 1
            if self._waiting < self.stride:
                return
            self._sums.extend(self._pending)
            self._single.extend(row)
            self._pending = [0] * WIDTH
            self._waiting = 0
        if len(self._sums) >= self._most * WIDTH:
            self._thin()

    def add_all(self, rows: NDArray[np.int64]) -> None:
        """Many steps, a row each."""
        if self.stride == 1 and len(self._sums) + rows.size < self._most * WIDTH:
            self.steps += rows.shape[0]
            self._sums.frombytes(rows.tobytes())
            return
        for row in rows.tolist():
            self.add(row)

    def rows(self) -> Rows:
        """A copy of what is kept; steps since the last kept row are left out.

        Sliced first: an array that numpy looks into cannot grow, and this may be another thread.
        """
        stride, sums, single = self.stride, self._sums[:], self._single[:]
        table = _table(sums)
        return Rows(table if stride == 1 else _table(single)[: len(table)], table, stride)

    def sums(self) -> list[int]:
        """Each column over every step."""
        pending, table = self._pending, _table(self._sums[:])
        return [a + int(b) for a, b in zip(pending, table.sum(axis=0), strict=True)]

    def _thin(self) -> None:
        kept = self.rows()
        self._sums = array("q", (kept.sums[0::2] + kept.sums[1::2]).tobytes())
        self._single = array("q", kept.single[1::2].tobytes())
        self.stride *= 2


def _table(values: array[int]) -> NDArray[np.int64]:
    import numpy as np

    return np.frombuffer(values, dtype=np.int64).reshape(-1, WIDTH)
