"""The architecture step of differentiable search (DARTS, arXiv:1806.09055)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

LossOf = Callable[[Any], torch.Tensor]

#: Step of the finite difference is this over the gradient's norm (DARTS, section 2.3).
_EPSILON = 0.01


class ArchitectureStep:
    """One update of the architecture parameters on a validation batch.

    First order (ξ = 0): the gradient of the validation loss at the current weights. Second order
    (equation 7): at the weights after one virtual SGD step, minus ξ times the Hessian-vector
    product, by finite differences (equation 8); three more forward and backward passes.

    Args:
        loss_of: the training loss of a batch, as the training loop computes it.
        weights, parameters: the model's weights and its architecture parameters.
        optimizer: updates `parameters`.
        weight_optimizer: its learning rate is ξ.
    """

    def __init__(
        self,
        loss_of: LossOf,
        weights: Sequence[nn.Parameter],
        parameters: Sequence[nn.Parameter],
        optimizer: Optimizer,
        weight_optimizer: Optimizer,
    ) -> None:
        self._loss_of = loss_of
        self._weights = list(weights)
        self._parameters = list(parameters)
        self._optimizer = optimizer
        self._weight_optimizer = weight_optimizer

    def step(self, train_batch: Any, val_batch: Any, order: int) -> None:
        """Updates the architecture; the weights are as before."""
        if order == 2:
            gradients = self._second_order(train_batch, val_batch)
        else:
            gradients = self._gradients(val_batch, self._parameters)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _second_order(self, train_batch: Any, val_batch: Any) -> list[torch.Tensor]:
        rate = float(self._weight_optimizer.param_groups[0]["lr"])
        before = [w.detach().clone() for w in self._weights]
        self._shift(self._gradients(train_batch, self._weights), -rate)
        both = self._gradients(val_batch, [*self._parameters, *self._weights])
        direct, vector = both[: len(self._parameters)], both[len(self._parameters) :]
        self._restore(before)
        implicit = self._hessian_vector(train_batch, vector, before)
        return [d - rate * i for d, i in zip(direct, implicit, strict=True)]

    def _hessian_vector(
        self, batch: Any, vector: list[torch.Tensor], before: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        norm = torch.linalg.vector_norm(torch.stack([v.norm() for v in vector]))
        epsilon = _EPSILON / norm.clamp_min(1e-12)
        self._shift(vector, epsilon)
        above = self._gradients(batch, self._parameters)
        self._restore(before)
        self._shift(vector, -epsilon)
        below = self._gradients(batch, self._parameters)
        self._restore(before)
        return [(a - b) / (2 * epsilon) for a, b in zip(above, below, strict=True)]

    def _gradients(self, batch: Any, of: Sequence[nn.Parameter]) -> list[torch.Tensor]:
        found = torch.autograd.grad(self._loss_of(batch), list(of), allow_unused=True)
        return [
            torch.zeros_like(p) if g is None else g.detach() for p, g in zip(of, found, strict=True)
        ]

    @torch.no_grad()
    def _shift(self, direction: list[torch.Tensor], by: float | torch.Tensor) -> None:
        for weight, change in zip(self._weights, direction, strict=True):
            weight.add_(change * by)

    @torch.no_grad()
    def _restore(self, before: list[torch.Tensor]) -> None:
        for weight, old in zip(self._weights, before, strict=True):
            weight.copy_(old)
