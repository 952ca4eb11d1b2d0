"""Layers that validation calls one by one, in a method that is not `forward`: `model.predict(x)`.

Each layer's call is an outermost one then. What is known of their model's calls in training, and
what is done between two of them in one call of that method, belongs to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from perfdoctor.collect.script.call_places import Path
from perfdoctor.collect.script.source import compiled_loops, line_of

#: Layers of a model that are remembered.
_MOST_LAYERS = 2000


class ModelParts:
    """The layers of the models that are trained."""

    def __init__(self) -> None:
        self._layers: set[int] = set()

    def add(self, model: Any) -> None:
        """A model that is trained."""
        layers = islice(model.modules(), 1, _MOST_LAYERS)
        self._layers.update(map(id, layers))

    def __contains__(self, module: int) -> bool:
        return module in self._layers


def goes_on(before: Path, now: Path) -> bool:
    """Whether one call is made later than another in the same call of one function, as far as
    where they are tells: further down, or in one loop."""
    if not before or not now or before[0][0] is not now[0][0] or before[1:] != now[1:]:
        return False
    (code, first), (_, second) = before[0], now[0]
    if second > first:
        return True
    lines = line_of(code, first), line_of(code, second)
    return any(
        all(line is not None and start <= line <= end for line in lines)
        for start, end in compiled_loops(code)
    )


def times_in_all(counts: Sequence[int]) -> int:
    """How often a model was called, whose layers were called so often: some may be called twice."""
    return max(1, sorted(counts)[(len(counts) - 1) // 2]) if counts else 1
