"""How small the batches of validation are: beside the training's, and how many there are.

Of what models are called with in the first validations only the sizes are kept. Images or series
that differ in more than their length cannot be put together, and tell nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from perfdoctor.collect.script.given_shapes import Given, numbers_in
from perfdoctor.collect.script.loaders_seen import LoaderFacts


class CallSizes:
    """The numbers that calls in validation are given, of modules that the training calls too."""

    def __init__(self) -> None:
        self._parts: list[float] = []
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._fits = True

    def add(self, module: int, given: Given, of_training: int) -> None:
        """A call, of a module that a call of the training gives so many numbers."""
        shape, before = given.shape, self._shapes.get(module, given.shape)
        self._shapes[module] = shape
        if len(shape) != len(before):
            self._fits = False
        else:
            pairs = zip(before[1:], shape[1:], strict=True)
            self._fits &= sum(a != b for a, b in pairs) <= 1
        self._parts.append(numbers_in(shape) / max(1, of_training))

    def settings(self) -> dict[str, Any]:
        """`validation_call_part`: numbers of a call of validation, as a part of those of a call of
        the training; the median. Nothing of samples that do not fit together."""
        parts = list(self._parts)
        return {"validation_call_part": statistics.median(parts)} if parts and self._fits else {}


def loader_of_validation(loaders: Iterable[LoaderFacts]) -> dict[str, int]:
    """The batch size and the batches each time of the loader that gave most batches to it."""
    used = [f for f in loaders if f.role == "validation" and f.iterators]
    most = max(used, key=lambda f: f.batches, default=None)
    if most is None or not isinstance(most.batch_size, int):
        return {}
    return {
        "validation_batch_size": most.batch_size,
        "validation_batches": round(most.batches / most.iterators),
    }
