"""Batches whose gradients are accumulated before one update, and what one larger would take.

Several backward passes before the optimizer's step, each through a graph of its own with the same
layers, are one batch in parts: the gradients are those of all together. Small parts pay the fixed
cost of every operation each.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from perfdoctor.collect.script.arithmetic import UntoldError
from perfdoctor.collect.script.layer_calls import (
    LayerCalls,
    Repeated,
    Ways,
    by_kind,
    calls_of,
    timed_ways,
    told,
    weight_of,
)

#: Two may be the losses of two batches, as of a discriminator.
_LEAST = 3


class MicroBatches:
    """Those of one step."""

    def __init__(self) -> None:
        self._seen = False
        self._layers: frozenset[int] = frozenset()
        self._passes: list[LayerCalls] = []
        self._firsts: set[int] = set()
        self._repeated = Repeated()
        self._found: LayerCalls | None = None
        self._took: Ways | None = None

    def note(self, functions: Collection[Any]) -> None:
        """The operations that a backward pass goes through."""
        layers = {id(weight): f for f in functions if (weight := weight_of(f)) is not None}
        if not layers:
            return
        self._seen = True
        first = min(function._sequence_nr() for function in layers.values())
        if self._layers != layers.keys():
            self._layers, self._passes, self._firsts = frozenset(layers), [], set()
        if first in self._firsts:  # the same forward again
            return
        self._firsts.add(first)
        try:
            calls = [one for f in layers.values() if (one := calls_of([f])) is not None]
        except UntoldError:
            self._seen = False
            return
        if calls:
            self._passes.append(max(calls, key=lambda one: (one.numbers, one.weight)))
            self._repeated = by_kind(functions, {type(f).__name__ for f in functions})

    def update_begins(self) -> None:
        """An optimizer uses the gradients."""
        if len(self._passes) >= _LEAST and len({one.weight for one in self._passes}) == 1:
            # texts are of other lengths in each
            usual = sorted(self._passes, key=lambda one: one.numbers)[len(self._passes) // 2]
            self._found = replace(usual, calls=len(self._passes))
        self._layers, self._passes, self._firsts = frozenset(), [], set()

    def measure(self) -> None:
        """Sees how long the largest layer takes, and on all parts at once; for when the training
        is over, and on the host only."""
        if self._found is not None and self._found.timed >= _LEAST:
            self._took = timed_ways(self._found)

    def settings(self) -> dict[str, Any]:
        """As configuration; empty where no step was looked into, or it was not timed."""
        if not self._seen or (self._found is not None and self._took is None):
            return {}
        if self._found is None or self._took is None:
            return {"micro_batch_calls": 0}
        return told("micro_batch", self._found, self._repeated, self._took)
