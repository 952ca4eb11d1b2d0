"""How large the samples of a training are, in its first epochs and in its last.

Images that become larger from stage to stage, or texts that become longer, take longer, and are
no fall of the speed. Only the first batch of each epoch is looked at; without a loader, what the
model is called with now and then.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection
from typing import Any

from perfdoctor.collect.script.saved_tensors import tensors_in

#: Looks that are remembered: of more, every second one.
_MOST = 4096
#: Steps from one to the next, without a loader; and the number that such a training has for one.
EVERY, _NO_LOADER = 50, -1
#: The median of this part of them, at either end: as trends compare.
_PART = 10


class SampleSizes:
    """Numbers (elements of tensors) of a sample, epoch by epoch."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, int, float]] = []
        self._looks, self._every = 0, 1

    def note(self, step: int, loader: int, batch: Any, samples: int) -> None:
        """The first batch of an iterator of this loader, after so many steps."""
        self._looks += 1
        if self._looks % self._every:
            return
        if len(self._seen) >= _MOST:
            del self._seen[1::2]
            self._every *= 2
        whole = sum(one.tensor.numel() for one in tensors_in(batch))
        self._seen.append((step, loader, whole / samples))

    def note_call(self, step: int, given: Any, samples: int) -> None:
        """What a model is called with for gradients: of several in a step, the largest counts."""
        self.note(step, _NO_LOADER, given, samples)
        if len(self._seen) > 1 and self._seen[-2][:2] == (step, _NO_LOADER):
            self._seen[-2:] = [max(self._seen[-2:])]

    def settings(
        self, loaders: Collection[int], steps: tuple[int, int | None] | None
    ) -> dict[str, float]:
        """As configuration: of these loaders (none: of calls) within these steps (None: all).
        Nothing of a single look, or where samples have no numbers."""
        first, last = steps or (0, None)
        loaders = loaders or (_NO_LOADER,)
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
