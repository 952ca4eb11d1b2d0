"""Wrappers that are taken out of torch for a while and put back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

MISSING = object()
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

        `entered` is called meanwhile with the frame of what enters `torch.no_grad()` or
        `inference_mode()`.
        """
        import torch

        if any(vars(owner).get(name) is not ours for owner, name, ours, _ in wrappers):
            return False
        for owner, name, _, before in wrappers:
            put(owner, name, before)
        self._wrappers = list(wrappers)
        for context in (torch.no_grad, torch.inference_mode):
            original = vars(context)["__enter__"]
            ours = _entering(original, entered)
            put(context, "__enter__", ours)
            self._contexts.append((context, "__enter__", ours, original))
        return True

    def put_back(self) -> None:
        """Puts them back, where nobody has put anything else."""
        for owner, name, ours, before in self._wrappers:
            if vars(owner).get(name, MISSING) is before:
                put(owner, name, ours)
        for owner, name, ours, before in self._contexts:
            if vars(owner).get(name) is ours:
                put(owner, name, before)
        self._wrappers, self._contexts = [], []


def put(owner: Any, name: str, what: Any) -> None:
    """Makes it the attribute of that name, or takes that away."""
    if what is MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, what)


def _entering(original: Callable[..., Any], entered: Entered) -> Callable[..., Any]:
    def __enter__(self: Any) -> Any:  # noqa: N807
        entered(sys._getframe(1))
        return original(self)

    return __enter__
