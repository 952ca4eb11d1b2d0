"""A loader whose epochs end early: their start can be measured without all of their steps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

#: The change that asks for it: a loader's epochs end after so many batches.
START_EVERY = "start_every"


class Shortened:
    """The first `steps` that a sampler gives in each epoch."""

    def __init__(self, inner: Any, steps: int) -> None:
        self._inner, self._steps = inner, steps

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self._inner, self._steps)

    def __len__(self) -> int:
        return min(len(self._inner), self._steps)


def shorten(loader: Any, steps: int) -> Any:
    """The DataLoader itself, of a map-style dataset, with shorter epochs from its next one on.

    Its workers see their end as that of any epoch: none has anything left to do.
    """
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    vars(loader)[name] = Shortened(getattr(loader, name), steps)  # a plain assignment is refused
    return loader
