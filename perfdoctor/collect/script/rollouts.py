"""Tells calls of the model that make its data, as in reinforcement learning, from validation.

Both are calls without gradients between the steps. Validation puts the model into evaluation mode
or has a loader of its own; where it does neither, its functions are called so. Who acts in order to
learn does so between most steps, or in a function that says so.
"""

from __future__ import annotations

import re
import sys
from types import FrameType

#: Phases in which the names of the functions are looked at.
_LOOKED = 50
#: Frames of ours between here and the script; as many of the script are looked at.
_OURS, _SCRIPTS = 5, 6
_MAKES_DATA = (
    r"roll_?out|collect|explor|(?<![a-z])act(?:s|ion|ions)?(?![a-z])|self_?play|episode|interact"
    r"|generat|experience|trajector"
)
_VALIDATES = r"valid|eval|test|score|accura|metric|dev_"
#: A call on this part of a batch is one on a whole batch: a critic is given as many real samples.
_OF_A_BATCH = 0.5


class Rollouts:
    """Counts phases of calls without gradients, in training mode and on no loader's batches."""

    def __init__(self) -> None:
        self._count = self._making = self._validating = self._batch = 0

    def began(self) -> None:
        """One began; called by the observer, see `_OURS`."""
        self._count += 1
        if self._count <= _LOOKED:
            names = " ".join(_names())
            self._validating += bool(re.search(_VALIDATES, names))
            self._making += bool(re.search(_MAKES_DATA, names))

    def trained_on(self, samples: int) -> None:
        """A step on so many has ended; 0 where a loader made them, or nobody counted."""
        self._batch = samples

    def fills_a_batch(self, samples: int) -> bool:
        """Whether a call on so many samples is as large as the training's own."""
        return 0 < _OF_A_BATCH * self._batch <= samples

    def are_told(self, steps: int) -> bool:
        """Whether they make the data of `steps` steps."""
        looked = min(self._count, _LOOKED)
        if not looked or not steps or self._validating > looked / 2:
            return False
        return self._making > looked / 2 or self._count >= steps / 2


def _names() -> list[str]:
    """Of the script's innermost functions, in lower case."""
    frame: FrameType | None = sys._getframe(_OURS + 1)
    names: list[str] = []
    for _ in range(_SCRIPTS):
        if frame is None:
            break
        names.append(frame.f_code.co_name.lower())
        frame = frame.f_back
    return names
