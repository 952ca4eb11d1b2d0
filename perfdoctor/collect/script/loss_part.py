"""How much of a backward pass goes through the loss, and how much through the model.

Autograd works on the newest operations first, so all of the loss before any of the model. In the
few steps that are looked into, the operations that are newer than the model's call are walked, and
those of the model that they rest on tell when their gradients are asked for: the time until the
first of them is the loss's. Nothing is changed by such a hook (`Node.register_prehook`).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

#: Operations of a loss that are walked at most, about 20 ms.
_MOST_NODES = 20_000
#: A median of fewer says nothing; more need not be kept.
_FEWEST, _MOST = 3, 200


class LossPart:
    """Parts (0–1) of the backward passes that were looked into.

    Only for a device whose work is done when the call returns: on a GPU the host runs ahead.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._parts: list[float] = []
        self._hooks: list[Any] = []
        self._began = self._reached = 0

    def begins(self, outputs: Any, first_of_loss: int | None) -> None:
        """A backward pass from `outputs` begins; the loss's operations have numbers from
        `first_of_loss` on."""
        self._reached = 0
        if first_of_loss is None or len(self._parts) >= _MOST:
            return
        tensors = outputs if isinstance(outputs, list | tuple) else (outputs,)
        if not all(getattr(tensor, "is_cpu", False) for tensor in tensors):
            return
        nodes = _reached_from(tensors, first_of_loss)
        self._hooks = [node.register_prehook(self._note) for node in nodes]
        self._began = self._clock()

    def ends(self) -> None:
        """It is done."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        whole = self._clock() - self._began
        if self._reached and whole > 0:
            self._parts.append((self._reached - self._began) / whole)
        self._reached = 0

    @property
    def median(self) -> float | None:
        """None where too few were seen."""
        return statistics.median(self._parts) if len(self._parts) >= _FEWEST else None

    def _note(self, _: Any) -> None:
        self._reached = self._reached or self._clock()


def _reached_from(tensors: Sequence[Any], first_of_loss: int) -> list[Any]:
    """The model's operations that the loss rests on."""
    waiting = [tensor.grad_fn for tensor in tensors if getattr(tensor, "grad_fn", None) is not None]
    waiting = [node for node in waiting if node._sequence_nr() >= first_of_loss]
    seen, found = set(waiting), set()
    while waiting and len(seen) < _MOST_NODES:
        for node, _ in waiting.pop().next_functions:
            if node is None or node in seen:
                continue
            if node._sequence_nr() < first_of_loss:
                found.add(node)
            else:
                seen.add(node)
                waiting.append(node)
    return list(found)
