"""How long two ways to compute the same take on this host, forward and backward, in turns.

For when the training is over: a rule that knows both predicts what it would have to guess.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

#: Turns, and the seconds after which there is no more than one that counts.
_TIMES, _ENOUGH_S = 3, 0.4


@dataclass(frozen=True)
class Took:
    """Seconds of the least time: forward and backward."""

    forward_s: float = math.inf
    backward_s: float = math.inf

    @property
    def both_s(self) -> float:
        """Of the two."""
        return self.forward_s + self.backward_s

    def or_less(self, other: Took) -> Took:
        """The lesser times of two."""
        return Took(min(self.forward_s, other.forward_s), min(self.backward_s, other.backward_s))


def two_ways(
    now: Callable[[], Any],
    then: Callable[[], Any],
    inputs: Sequence[Any],
    own: tuple[Sequence[Any], Sequence[Any]] = ((), ()),
) -> tuple[Took, Took]:
    """What each takes, with the gradients of these tensors and of those that only one of them uses.

    Random streams stay as they are.
    """
    import torch

    first = second = Took()
    began = time.perf_counter()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        for turn in range(_TIMES + 1):
            one, other = _timed(now, [*inputs, *own[0]]), _timed(then, [*inputs, *own[1]])
            if turn:  # the first one finds its memory
                first, second = first.or_less(one), second.or_less(other)
                if time.perf_counter() - began > _ENOUGH_S:
                    break
    return first, second


def _timed(forward: Callable[[], Any], inputs: Sequence[Any]) -> Took:
    import torch

    began = time.perf_counter()
    output = forward()
    between = time.perf_counter()
    gradient = torch.zeros_like(output)
    again = time.perf_counter()
    torch.autograd.grad(output, inputs, gradient)
    return Took(between - began, time.perf_counter() - again)
