"""Architecture steps written by hand: gradients of a few parameters that no optimizer has, which
then change in place.

    gradients = torch.autograd.grad(loss(model(x), y), model.alphas)
    for alpha, gradient in zip(model.alphas, gradients):
        alpha.data -= rate * gradient
"""

from __future__ import annotations

import weakref
from typing import Any

from perfdoctor.collect.script.optimizers import Optimizers

#: Sets of tensors whose kind is remembered; a new one each step would be another thing altogether.
_MOST_KNOWN = 64
#: Elements by which a change is seen that goes past the tensor's counter of versions.
_COMPARED = 16


class Searches:
    """Looks for them. `count`: architecture steps so far."""

    def __init__(self, optimizers: Optimizers) -> None:
        self.count = 0
        self._optimizers = optimizers
        self._kinds: dict[tuple[int, ...], bool] = {}
        self._version = -1
        self._waiting: list[tuple[weakref.ref[Any], object]] = []

    @property
    def waiting(self) -> bool:
        """Whether gradients were taken and nothing has changed by them yet."""
        return bool(self._waiting)

    def taken(self, inputs: Any) -> bool:
        """Gradients of these were asked for; whether they may be of an architecture."""
        tensors = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        if not tensors or not self._are_architecture(tensors):
            return False
        if not self._waiting:
            self._waiting = [(weakref.ref(t), state_of(t)) for t in tensors]
        return True

    def updated(self) -> bool:
        """Whether they have changed since: an architecture step was made."""
        held = [(reference(), before) for reference, before in self._waiting]
        changed = any(t is not None and state_of(t) != before for t, before in held)
        if changed:
            self.count += 1
            self._waiting = []
        return changed

    def forget(self) -> None:
        """A step of the training has ended, and gradients that waited were for something else."""
        self._waiting = []

    def _are_architecture(self, tensors: list[Any]) -> bool:
        if self._version != self._optimizers.version or len(self._kinds) > _MOST_KNOWN:
            self._kinds.clear()
            self._version = self._optimizers.version
        key = tuple(id(t) for t in tensors)
        if key not in self._kinds:
            leaves = all(t.is_leaf and t.requires_grad for t in tensors)
            self._kinds[key] = leaves and self._optimizers.leave_out_a_few(tensors)
        return self._kinds[key]


def state_of(tensor: Any) -> object:
    """Differs after a change. Through `data` it does not count as a version: on the host the first
    elements tell, on a device nobody asks, since that would wait for it."""
    values = ()
    if tensor.is_cpu:
        values = tuple(tensor.data.flatten()[:_COMPARED].tolist())
    return tensor._version, tensor.data_ptr(), values


def is_cleared(parameter: Any) -> bool:
    """Whether it has no gradient, or none but zeros; of a device's values nobody asks."""
    gradient = parameter.grad
    if gradient is None:
        return True
    return bool(gradient.is_cpu and not gradient.is_sparse and not gradient.detach().any())
