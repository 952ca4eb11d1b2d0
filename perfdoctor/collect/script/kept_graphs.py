"""How often a step keeps the graph of a batch after a backward pass (`retain_graph=True`), and
whether gradients are differentiated themselves (`create_graph=True`)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

#: Steps of which it is remembered: a median needs no more.
_MOST_STEPS = 200


class KeptGraphs:
    """Counts the calls of `torch.autograd.backward` in the steps that are looked into.

    Attributes:
        differentiates: whether the gradients of any call were to be differentiated.
    """

    def __init__(self) -> None:
        self._most: dict[int, int] = {}  # step → calls for the batch with the most
        self._of: tuple[int, int | None] | None = None
        self._now = 0
        self.differentiates = False

    def note(
        self, step: int, batch: int | None, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """One call in this step, with the batch of that number; None where no loader makes them."""
        if len(self._most) >= _MOST_STEPS and step not in self._most:
            return
        keeps, differentiates = (
            args[i] if len(args) > i else kwargs.get(name)
            for i, name in ((2, "retain_graph"), (3, "create_graph"))
        )
        self.differentiates |= bool(differentiates)
        if (step, batch) != self._of:  # gradients of several batches add up over graphs apart
            self._of, self._now = (step, batch), 0
        self._now += bool(keeps and not differentiates)
        self._most[step] = max(self._most.get(step, 0), self._now)

    def note_gradients(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """One call of `torch.autograd.grad`, in any step."""
        create_graph = args[4] if len(args) > 4 else kwargs.get("create_graph")
        self.differentiates |= bool(create_graph)

    @property
    def per_step(self) -> int | None:
        """The median of graphs that are kept and not differentiated; None where no step was
        looked into."""
        return round(statistics.median(self._most.values())) if self._most else None
