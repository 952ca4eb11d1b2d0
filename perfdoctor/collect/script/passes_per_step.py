"""How many backward passes a step has, at the beginning of a training and at its end.

A training may do more from some step on: attack its own batches, search its architecture after a
warm-up, add a loss of its own. Its steps take longer then, and that is no fall of the speed.
"""

from __future__ import annotations

import statistics
from itertools import pairwise

#: Looks that are remembered.
_MOST = 4096
#: The median of this part of them, at either end: as trends compare.
_PART = 10
#: Of neighbouring looks so many tell of equally many passes: what grows from look to look was not
#: decided once (our own choice).
_SETTLED = 0.5


class PassesPerStep:
    """Steps and backward passes so far, look by look."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, int]] = []

    def note(self, steps: int, passes: int) -> None:
        """After so many steps."""
        if len(self._seen) < _MOST and (not self._seen or steps > self._seen[-1][0]):
            self._seen.append((steps, passes))

    def settings(self, within: tuple[int, int | None] | None = None) -> dict[str, float]:
        """As configuration, of these steps (None: of all); nothing where there are too few looks,
        or the number never settles."""
        first, last = within or (0, None)
        seen = [one for one in self._seen if one[0] >= first and (last is None or one[0] <= last)]
        each = [
            round((passes - before) / (steps - earlier), 1)
            for (earlier, before), (steps, passes) in pairwise(seen)
        ]
        alike = [one == other for one, other in pairwise(each)]
        if not alike or sum(alike) < _SETTLED * len(alike):
            return {}
        part = max(1, len(each) // _PART)
        return {
            "passes_at_first": statistics.median(each[:part]),
            "passes_at_last": statistics.median(each[-part:]),
        }
