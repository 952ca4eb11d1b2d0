"""The first losses of a script, and the norms of their gradients."""

from __future__ import annotations

import functools
import weakref
from typing import Any

#: Steps whose losses and gradients are noted, from the first one on.
FIRST_STEPS = 10


class Losses:
    """The losses that the first steps go backward from, and the norms of their gradients."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.gradient_norms: list[float] = []
        self._pending: float | None = None
        self._scaled: tuple[weakref.ref[Any], Any] | None = None

    def install(self, torch: Any) -> None:
        """Notes what `Tensor.backward` is called on, without the scale of a `GradScaler`."""
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        backward = torch.Tensor.backward

        def noted(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            if len(self.losses) < FIRST_STEPS and tensor.numel() == 1:
                loss = float(tensor.detach()) / self._scale_of(tensor)
                self._pending = (self._pending or 0.0) + loss
            return backward(tensor, *args, **kwargs)

        torch.Tensor.backward = noted
        register_optimizer_step_pre_hook(
            lambda optimizer, args, kwargs: self._note_gradients(torch, optimizer)
        )

    def note_scaling(self, kind: Any) -> None:
        """The scale changes from step to step, and not alike with a change and without it.

        Args:
            kind: the class of the script's `GradScaler`.
        """
        scale = kind.scale

        @functools.wraps(scale)
        def noted(scaler: Any, outputs: Any) -> Any:
            result = scale(scaler, outputs)
            if len(self.losses) < FIRST_STEPS and hasattr(result, "backward"):
                self._scaled = weakref.ref(result), scaler
            return result

        kind.scale = noted

    def _scale_of(self, tensor: Any) -> float:
        if self._scaled is None or self._scaled[0]() is not tensor:
            return 1.0
        return float(self._scaled[1].get_scale())

    def _note_gradients(self, torch: Any, optimizer: Any) -> None:
        if len(self.gradient_norms) >= FIRST_STEPS:
            return
        found = [p.grad for group in optimizer.param_groups for p in group["params"]]
        squares = [g.detach().float().square().sum() for g in found if _dense(g)]
        if squares:
            self.gradient_norms.append(float(torch.stack(squares).sum().sqrt()))

    def step_ends(self) -> None:
        """What was noted was this step's."""
        if self._pending is not None and len(self.losses) < FIRST_STEPS:
            self.losses.append(self._pending)
        self._pending = None


def _dense(gradient: Any) -> bool:
    return gradient is not None and not gradient.is_sparse
