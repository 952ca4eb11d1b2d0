"""Whether steps of the architecture also compute gradients of the weights, which nobody uses.

As with `loss.backward()` for the architecture's optimizer: autograd computes the gradients of all
that the loss rests on, and those of the weights are cleared before the weights' own step. Seen in
the steps that are looked into, by a few of the weights that the main optimizer has.
"""

from __future__ import annotations

import statistics
from typing import Any

from perfdoctor.collect.script.gradients import is_cleared, state_of
from perfdoctor.collect.script.optimizers import ARCHITECTURE, Optimizers
from perfdoctor.collect.script.recorder import Recorder

#: Weights that tell it for all, the smallest ones: a search leaves some operations out.
_WEIGHTS = 3
#: Steps of the architecture in which it was so: fewer may be the exception.
_FEWEST = 3


class SearchGradients:
    """Looks for it. Told of each backward pass and each optimizer's step that is looked into."""

    def __init__(self, optimizers: Optimizers, recorder: Recorder) -> None:
        self._optimizers, self._recorder = optimizers, recorder
        self._before: list[tuple[Any, object]] = []  # weights, and what their gradients were
        self._given: list[Any] = []  # weights that a step of the architecture gave gradients
        self._began = self._took = 0
        self._thrown_away: list[int] = []  # nanoseconds of backward passes of such steps
        self._used = False

    def backward_begins(self) -> None:
        """A backward pass is about to begin."""
        if len(self._optimizers) < 2:
            return
        self._judge()
        self._before = self._before or [(w, _gradient(w)) for w in self._weights()]
        self._began = self._recorder.clock()

    def backward_ends(self) -> None:
        """It is done, or failed."""
        if self._began:
            self._took += self._recorder.clock() - self._began
            self._began = 0

    def stepped(self, kind: str | None) -> None:
        """An optimizer of this kind has made its step."""
        if kind == ARCHITECTURE:
            self._given = [w for w, before in self._before if _gradient(w) not in (None, before)]
        if not self._given:
            self._took = 0
        self._before = []

    def settings(self) -> dict[str, Any]:
        """As configuration: whether it is so, and seconds of the backward passes of one such step,
        if the clock of the host tells them; nothing of too few."""
        if len(self._thrown_away) < _FEWEST or self._used:
            return {}
        found: dict[str, Any] = {"search_gives_weights_gradients": True}
        if not self._recorder.on_device:
            found["search_backward_s"] = statistics.median(self._thrown_away) * 1e-9
        return found

    def _judge(self) -> None:
        """Whether what the last step of the architecture gave the weights is gone by now."""
        if not self._given:
            return
        if all(is_cleared(weight) for weight in self._given):
            self._thrown_away.append(self._took)
        else:
            self._used = True
        self._given, self._took = [], 0

    def _weights(self) -> list[Any]:
        main = self._optimizers.main()
        groups = [] if main is None else main.param_groups
        weights = [w for group in groups for w in group["params"] if w.requires_grad]
        return sorted(weights, key=lambda w: int(w.numel()))[:_WEIGHTS]


def _gradient(weight: Any) -> object:
    return None if weight.grad is None else (id(weight.grad), state_of(weight.grad))
