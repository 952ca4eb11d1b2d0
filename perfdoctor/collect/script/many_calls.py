"""Tells pictures drawn by a model now and then from a teacher that is called in every step.

Both are calls without gradients of what no optimizer has, or of the model in training mode. A
teacher, a target network or an average of the weights is called once or a few times in each step;
who draws samples, generates text or plays an episode calls a model again and again, in few steps.
"""

from __future__ import annotations

#: Calls in one step from which on they are many: a perceptual loss on a dozen crops is a dozen.
_MANY = 16
#: Steps without many calls before one that has: where each step has them, they train.
_WITHOUT = 3


class ManyCalls:
    """Counts calls without gradients in each step."""

    def __init__(self) -> None:
        self._step, self._calls = -1, 0
        self._last = -1  # step that had many

    def again(self, step: int) -> bool:
        """Another one, after so many steps; whether it is one of many, which few steps have."""
        if step != self._step:
            self._step, self._calls = step, 0
        self._calls += 1
        if self._calls != _MANY:
            return False
        rare = step - self._last > _WITHOUT
        self._last = step
        return rare
