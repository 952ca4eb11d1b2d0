"""What is noted of steps that are not looked into: when they ended, and how long the loader took.

Code that a step of the training has driven out of the processor's caches takes several times as
long as it does when it has just run: here that counts, so `steps` writes these notes by itself, in
as few lines as there can be, into two lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # not before the script's first line, see `perfdoctor.running`
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Stretch:
    """Steps that were skimmed, and what was noted of the one after them.

    Attributes:
        waited, taken: nanoseconds of each that the loader took, and that all else did.
        samples: of each. until: when the last of them ended; where there is none, the one before.
        next_waited, next_samples: of the step that has not ended. batches: of all of them.
    """

    waited: NDArray[np.int64]
    taken: NDArray[np.int64]
    samples: NDArray[np.int64]
    until: int
    next_waited: int
    next_samples: int
    batches: int


class SkimmedSteps:
    """The notes of one stretch of such steps after another.

    Attributes:
        on: while steps are skimmed the optimizer's id, the step with which that ends, and the id of
            the loader's iterator; else empty. It stays the same list.
        ends: when each step ended; stays the same list.
        batches: three numbers for each batch: when it came, nanoseconds that it took, and its
            samples (-1: none was left); stays the same list.
        loader: the label of the loader.
    """

    def __init__(self) -> None:
        self.on: list[int] = []
        self.ends: list[int] = []
        self.batches: list[int] = []
        self.loader = 0
        self._since = 0

    def begin(self, on: Sequence[int], loader: int, since: int) -> None:
        """A stretch begins, for the loader of this label, where the last step has ended."""
        self.ends.clear()
        self.batches.clear()
        self.loader, self._since = loader, since
        self.on[:] = on

    def end(self) -> Stretch:
        """It ends."""
        import numpy as np

        self.on.clear()
        ends = np.array([self._since, *self.ends], dtype=np.int64)
        came, took, size = np.array(self.batches, dtype=np.int64).reshape(-1, 3).T
        step = np.searchsorted(ends[1:], came, side="left")
        waited = np.bincount(step, took, ends.size).astype(np.int64)
        samples = np.bincount(step, np.maximum(size, 0), ends.size).astype(np.int64)
        return Stretch(
            waited=waited[:-1],
            taken=np.diff(ends) - waited[:-1],
            samples=samples[:-1],
            until=int(ends[-1]),
            next_waited=int(waited[-1]),
            next_samples=int(samples[-1]),
            batches=int((size >= 0).sum()),
        )
