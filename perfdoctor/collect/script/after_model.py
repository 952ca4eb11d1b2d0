"""Where the operations of a step's model end and those of its loss begin.

The loss is what comes after the last module that was called. A loss may call modules too, though:
one that goes over time steps or pairs in a loop and applies a head of the model to each. Such
parts of a model that has been called already are not its forward pass.
"""

from __future__ import annotations

from typing import Any

#: Calls of parts after the whole. Models have fewer heads than this that a training calls by
#: itself (our own choice; the largest multi-task models have some dozen); loops call more.
_LOOP = 16


class AfterModel:
    """Numbers are those that autograd gives to operations (`Node._sequence_nr`).

    Attributes:
        first: the first one of the loss, so far; None before any module was called, or unknown.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self._after_whole: int | None = None
        self._parts: set[int] = set()
        self._calls_of_parts = 0

    def forward_ends(self, module: Any, following: int | None) -> None:
        """An outermost module has returned; `following` is the next operation's number."""
        if id(module) not in self._parts:
            self._parts.update(id(part) for part in module.modules() if part is not module)
            self._after_whole, self._calls_of_parts = following, 0
        else:
            self._calls_of_parts += 1
        looped = self._calls_of_parts >= _LOOP
        self.first = self._after_whole if looped else following

    def backward_ends(self) -> None:
        """What is called from now on belongs to another pass."""
        self._parts.clear()
        self._after_whole, self._calls_of_parts = None, 0
