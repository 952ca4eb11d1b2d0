"""Where the main thread's time goes: every nanosecond belongs to exactly one label.

A label is a small number, `names` tells which. At each mark the time since the last one is added
to the label that was running. Nothing else happens on the way of the training: no list grows, no
device is waited for. At the end of each step the sums become a row of `StepRows`, whose memory is
bounded however long the training runs.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # not before the script's first line, see `perfdoctor.running`
    import numpy as np
    from numpy.typing import NDArray

OTHER = 0
START_UP = 1
FORWARD = 2
#: Between a forward of the training and what follows it: the loss, unless no backward follows.
AFTER_FORWARD = 3
LOSS = 4
BACKWARD = 5
OPTIMIZER = 6
ARCH_STEP = 7
VALIDATION = 8
H2D_COPY = 9
COMMUNICATION = 10
CHECKPOINT = 11
METRICS = 12
_FIXED = (
    "other",
    "start_up",
    "forward",
    "after_forward",
    "loss",
    "backward",
    "optimizer",
    "arch_step",
    "validation",
    "h2d_copy",
    "communication",
    "checkpoint",
    "metrics",
)
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

    def rows(self) -> Rows:
        """A copy of what is kept; steps since the last kept row are left out.

        Sliced first: an array that numpy looks into cannot grow, and this may be another thread.
        """
        stride, sums, single = self.stride, self._sums[:], self._single[:]
        table = _table(sums)
        return Rows(table if stride == 1 else _table(single)[: len(table)], table, stride)

    def _thin(self) -> None:
        kept = self.rows()
        self._sums = array("q", (kept.sums[0::2] + kept.sums[1::2]).tobytes())
        self._single = array("q", kept.single[1::2].tobytes())
        self.stride *= 2


def _table(values: array[int]) -> NDArray[np.int64]:
    import numpy as np

    return np.frombuffer(values, dtype=np.int64).reshape(-1, WIDTH)


class Recorder:
    """The main thread's labels; used by that thread alone.

    Attributes:
        current: the label that is running. spent: nanoseconds of the unfinished step per label,
            then its samples and epochs begun. totals: nanoseconds per label of all finished steps.
        after_s: seconds of `other` after the last step, once all has ended.
    """

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self.clock = clock
        self.names = list(_FIXED)
        self.current = START_UP
        self.spent = [0] * WIDTH
        self.totals = [0] * WIDTH
        self.steps = StepRows()
        self.after_s = 0.0
        self._stack: list[int] = []
        self._since = self.began = clock()

    def label(self, name: str) -> int:
        """The label of that name, added if it is new; `other` where there are too many."""
        if name in self.names:
            return self.names.index(name)
        if len(self.names) == MOST_LABELS:
            return OTHER
        self.names.append(name)
        return len(self.names) - 1

    def enter(self, label: int) -> None:
        """`label` begins; what ran until now is interrupted."""
        now = self.clock()
        self.spent[self.current] += now - self._since
        self._since = now
        self._stack.append(self.current)
        self.current = label

    def leave(self) -> None:
        """The innermost label ends; the one around it goes on."""
        now = self.clock()
        self.spent[self.current] += now - self._since
        self._since = now
        if self._stack:
            self.current = self._stack.pop()

    def switch(self, label: int) -> None:
        """From now on it is `label` in place of the innermost one."""
        now = self.clock()
        self.spent[self.current] += now - self._since
        self._since = now
        self.current = label

    def rebase(self, label: int) -> None:
        """What runs outside of everything else is `label` from now on."""
        if not self._stack:
            self.switch(label)
        else:
            self._stack[0] = label

    @property
    def base(self) -> int:
        """The label outside of everything else."""
        return self._stack[0] if self._stack else self.current

    @property
    def depth(self) -> int:
        """How many labels are interrupted."""
        return len(self._stack)

    def unwind(self, depth: int) -> None:
        """Leaves what was entered past `depth` and never left, because of an exception."""
        while len(self._stack) > depth:
            self.leave()

    def relabel(self, old: int, new: int) -> None:
        """What `old` has taken in this step was `new`."""
        self.spent[new] += self.spent[old]
        self.spent[old] = 0

    def account(self) -> None:
        """Adds the time until now to the running label."""
        self.switch(self.current)

    def end_step(self) -> None:
        """A step ends here."""
        self.account()
        self.steps.add(self.spent)
        self._forget()

    def end(self) -> None:
        """What came after the last step is in `totals` alone."""
        self.account()
        self.after_s = self.spent[OTHER] * 1e-9 if self.steps.steps else 0.0
        self._forget()

    def _forget(self) -> None:
        totals = self.totals
        for i, value in enumerate(self.spent):
            if value:
                totals[i] += value
        self.spent = [0] * WIDTH
