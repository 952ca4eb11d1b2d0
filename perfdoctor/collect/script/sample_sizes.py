"""How large the samples of a training are, in its first epochs and in its last.

Images that become larger from stage to stage, or texts that become longer, take longer, and are
no fall of the speed. Only the first batch of each epoch is looked at.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection
from typing import Any

from perfdoctor.collect.script.saved_tensors import tensors_in

#: Epochs that are remembered.
_MOST = 4096
#: The median of this part of them, at either end: as trends compare.
_PART = 10


class SampleSizes:
    """Numbers (elements of tensors) of a sample, epoch by epoch."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, int, float]] = []

    def note(self, step: int, loader: int, batch: Any, samples: int) -> None:
        """The first batch of an iterator of this loader, after so many steps."""
        if len(self._seen) < _MOST:
            whole = sum(one.tensor.numel() for one in tensors_in(batch))
            self._seen.append((step, loader, whole / samples))

    def settings(
        self, loaders: Collection[int], steps: tuple[int, int | None] | None
    ) -> dict[str, float]:
        """As configuration: of these loaders within these steps (None: all). Nothing where there
        is one epoch only, or samples have no numbers."""
        first, last = steps or (0, None)
        sizes = [
            size
            for step, loader, size in self._seen
            if loader in loaders and step >= first and (last is None or step < last)
        ]
        if len(sizes) < 2 or min(sizes) <= 0:
            return {}
        part = max(1, len(sizes) // _PART)
        return {
            "sample_elements_at_first": statistics.median(sizes[:part]),
            "sample_elements_at_last": statistics.median(sizes[-part:]),
        }
