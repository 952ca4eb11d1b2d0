"""Wrappers that are taken out of torch for a while and put back."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

MISSING = object()
_MODULE = "/torch/nn/modules/module.py"
Entered = Callable[[FrameType], object]
#: Whose attribute, its name, our wrapper, and what was there (MISSING: nothing of its own).
Replaced = tuple[Any, str, Any, Any]


class TakenOut:
    """What is taken out at the moment."""

    def __init__(self) -> None:
        self._wrappers: list[Replaced] = []
        self._contexts: list[Replaced] = []

    def take(self, wrappers: Sequence[Replaced], entered: Entered) -> bool:
        """Takes these out; False, and nothing is done, where others stand in the place of one.

        `entered` is called meanwhile with the frame of what enters a block without gradients.
        """
        # where torch keeps them, whatever a script has put in the place of `torch.no_grad`
        from torch.autograd import grad_mode

        if any(vars(owner).get(name) is not ours for owner, name, ours, _ in wrappers):
            return False
        for owner, name, _, before in wrappers:
            put(owner, name, before)
        self._wrappers = list(wrappers)
        for context in (grad_mode.no_grad, grad_mode.inference_mode, grad_mode.set_grad_enabled):
            original = vars(context)["__enter__"]
            ours = _entering(original, entered)
            put(context, "__enter__", ours)
            self._contexts.append((context, "__enter__", ours, original))
        return True

    def put_back(self) -> list[str]:
        """Puts them back; the names of those in whose place somebody has put something else."""
        lost = []
        for owner, name, ours, before in self._wrappers:
            if vars(owner).get(name, MISSING) is before:
                put(owner, name, ours)
            else:
                lost.append(f"{owner.__name__}.{name}")
        for owner, name, ours, before in self._contexts:
            if vars(owner).get(name) is ours:
                put(owner, name, before)
        self._wrappers, self._contexts = [], []
        return lost


def put(owner: Any, name: str, what: Any) -> None:
    """Makes it the attribute of that name, or takes that away."""
    if what is MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, what)


def within_module(frame: FrameType | None) -> bool:
    """Whether a module's forward is running, which only its wrapper would tell otherwise."""
    while frame is not None:
        if frame.f_code.co_filename.endswith(_MODULE):
            return True
        frame = frame.f_back
    return False


def _entering(original: Callable[..., Any], entered: Entered) -> Callable[..., Any]:
    """`original`, and `entered` where it is without gradients from there on.

    `torch.jit.script` reads the source of `original` in its place (`wraps`), and looks up what that
    names (torch) among the names of this function.
    """
    import torch

    @functools.wraps(original)
    def __enter__(self: Any) -> Any:  # noqa: N807
        result = original(self)
        if not torch.is_grad_enabled():  # `set_grad_enabled` may turn them on
            entered(sys._getframe(1))
        return result

    return __enter__
