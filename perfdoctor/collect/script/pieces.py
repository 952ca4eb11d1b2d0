"""Layers that a step calls on one piece of the batch after the other: frames, samples, moments.

Told from the graph that a backward pass goes through: many operations with the same weights and of
the same shape, none of whose inputs come from what they gave for another piece. All pieces at once
are one operation of more samples.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from typing import Any

from perfdoctor.collect.script.arithmetic import UntoldError, output_shape
from perfdoctor.collect.script.layer_calls import (
    LayerCalls,
    Repeated,
    Ways,
    by_kind,
    by_weight,
    calls_of,
    comes_from,
    given_to,
    timed_ways,
    told,
)

#: Fewer calls are views, crops or networks that are compared.
_LEAST_PIECES = 8
#: Layers that are looked into, the largest first; the others go the same way.
_MOST_LAYERS = 4


class LayersOnPieces:
    """Those of one step."""

    def __init__(self) -> None:
        self._found: list[LayerCalls] | None = None
        self._repeated = Repeated()
        self._took: Ways | None = None

    def note(self, functions: Collection[Any]) -> None:
        """The operations that a backward pass goes through."""
        try:
            found, in_order = _found(functions)
        except UntoldError:
            return
        self._found = [*(self._found or []), *found]
        if found:
            self._repeated = max(self._repeated, _repeated(functions, found, in_order=in_order))

    def measure(self) -> None:
        """Sees how long the largest takes, and on all pieces at once; for when the training is
        over, and on the host only."""
        one = self._largest
        if one is not None and one.timed >= _LEAST_PIECES:
            self._took = timed_ways(one)

    def settings(self) -> dict[str, Any]:
        """As configuration; empty where no step was looked into, or it was not timed."""
        one, took = self._largest, self._took
        if self._found is None or (one is not None and took is None):
            return {}
        if one is None or took is None:
            return {"pieces_calls": 0}
        return told("pieces", one, self._repeated, took)

    @property
    def _largest(self) -> LayerCalls | None:
        return max(self._found or (), key=lambda one: one.calls * one.numbers, default=None)


def _repeated(
    functions: Collection[Any], found: Collection[LayerCalls], *, in_order: bool
) -> Repeated:
    """By their kinds; where others have to go one after the other, of the layers found only."""
    if in_order:
        own = sum(one.calls for one in found) / len(functions)
        return Repeated(own, own)
    calls = max(one.calls for one in found)
    kinds = Counter(type(function).__name__ for function in functions)
    return by_kind(functions, (kind for kind, n in kinds.items() if n >= calls - 1))


def _found(functions: Collection[Any]) -> tuple[list[LayerCalls], bool]:
    """The largest layers that are called on pieces; and whether others are called one after the
    other because each needs what the one before gave."""
    recurrent = sum("Rnn" in type(function).__name__ for function in functions)
    many = [group for group in by_weight(functions) if len(group) >= _LEAST_PIECES]
    many.sort(key=lambda group: len(group) * math.prod(output_shape(group[0])), reverse=True)
    free = [group for group in many[:_MOST_LAYERS] if not _fed_back(group)]
    in_order = recurrent >= _LEAST_PIECES or len(free) < len(many[:_MOST_LAYERS])
    return [one for one in map(calls_of, free) if one is not None], in_order


def _fed_back(group: Collection[Any]) -> bool:
    """Whether an input comes from what the layer gave for another piece."""
    return comes_from(map(given_to, group), group)
