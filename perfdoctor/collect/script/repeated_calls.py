"""Whether a model that a step calls again and again is given what came of its own output.

The graph of a backward pass tells that only where gradients flow: of an environment that is moved
by actions drawn from the output, or of tokens chosen one after the other, it knows nothing. The
source of the loops around the call does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import FrameType
from typing import Any

from perfdoctor.collect.script.call_places import Path, path_of
from perfdoctor.collect.script.fed_back import loop_over_samples
from perfdoctor.collect.script.loop_finder import LoopFacts


class RepeatedCalls:
    """Notes where a step calls a module again before its backward pass."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._path: Path | None = None

    def called(self, module: Any, frame: FrameType) -> None:
        """An outermost module is called there."""
        if self._last == id(module):
            self._path = path_of(frame)
        self._last = id(module)

    def backward_begins(self) -> None:
        """What comes next is for another batch."""
        self._last = None

    def settings(self, trainings: Sequence[LoopFacts]) -> dict[str, bool]:
        """As configuration: whether each loop around the calls, of those within a step, goes on
        from what the turn before gave."""
        if self._path is None:
            return {}
        steps = [replace(one, forward_line=_end_of(one)) for one in trainings]
        return {"fed_back": loop_over_samples(self._path, steps) is None}


def _end_of(training: LoopFacts) -> int:
    """A line of the step that no loop within it holds."""
    return training.optimizer_line or training.backward_line or training.forward_line
