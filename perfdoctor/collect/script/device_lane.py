"""The labels of a training on a device's clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from typing import Any

from perfdoctor.collect.script.step_rows import SAMPLES, WIDTH
from perfdoctor.stages import Clock

#: The label of what no mark explains.
_OTHER = 0


class DeviceLane:
    """The same labels on a device's clock, for a device whose queue lags behind the host.

    Each mark is an event on the device's queue, asked later whether the device has passed it;
    nothing is ever waited for. The time from one mark to the next is what the queue spent there,
    waiting for the host included, so the times of a step add up as on the host.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.marks: list[tuple[int, Any]] = []
        self._ended: deque[tuple[list[tuple[int, Any]], Any, list[int]]] = deque()

    def mark(self, label: int) -> None:
        """`label` begins."""
        self.marks.append((label, self._clock.now()))

    def relabel(self, old: Collection[int], new: int, since: int = 0) -> None:
        """Marks of these labels, from the one at `since` on, are of `new`."""
        for i in range(since, len(self.marks)):
            label, moment = self.marks[i]
            if label in old:
                self.marks[i] = new, moment

    def end_step(self, host_row: list[int]) -> None:
        """The step ends; the mark that began last goes on in the next one."""
        now = self._clock.now()
        self._ended.append((self.marks, now, host_row))
        self.marks = [(self.marks[-1][0] if self.marks else _OTHER, now)]

    def resolved(self) -> Iterator[list[int]]:
        """Rows of the steps that the device has finished, oldest first."""
        while self._ended:
            marks, end, host_row = self._ended[0]
            row = self._row(marks, end)
            if row is None:
                return
            self._ended.popleft()
            row[SAMPLES:] = host_row[SAMPLES:]
            yield row

    def _row(self, marks: list[tuple[int, Any]], end: Any) -> list[int] | None:
        row = [0] * WIDTH
        stops = [moment for _, moment in marks[1:]] + [end]
        for (label, start), stop in zip(marks, stops, strict=True):
            seconds = self._clock.seconds(start, stop)
            if seconds is None:
                return None
            row[label] += int(seconds * 1e9)
        return row
