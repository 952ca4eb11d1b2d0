"""Changes that make something rarer which comes often: with all of it and without any is compared.

Stretches in which it comes as rarely as advised would be long, and few of them fit into a budget.
What a stretch takes without any, and as much of the difference as is left with the change, tells
the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from perfdoctor.experiments import events
from perfdoctor.experiments.turns import ChunkPlan

if TYPE_CHECKING:
    from perfdoctor.experiments.trials import Laboratory

_ARCH = "arch_every"


@dataclass(frozen=True)
class Often:
    """How one kind is measured.

    Attributes:
        key: the change. period: steps from one to the next. factor: how many times as rarely.
    """

    key: str
    period: int
    factor: float

    @property
    def none(self) -> dict[str, Any]:
        """The change that leaves out all of it."""
        return {self.key: 0}

    @property
    def half(self) -> dict[str, Any]:
        """The change that makes it half as often: only that shows that it can be left out whole."""
        return {self.key: 2 * self.period if self.key == _ARCH else 2}

    def chunks(self, plan: ChunkPlan) -> ChunkPlan:
        """The same chunks, of which is told what the change brings."""
        return _WithoutAny(**asdict(plan), factor=self.factor)


@dataclass(frozen=True)
class _WithoutAny(ChunkPlan):
    factor: float = 1.0

    def gain(self, difference: float) -> float:
        """Of the difference that leaving out all of it makes."""
        without = math.exp(-difference)
        return -math.log(without + (1 - without) / self.factor)


def often(laboratory: Laboratory, changes: Mapping[str, Any]) -> Often | None:
    """How this change is measured so; None: it is not."""
    if len(changes) != 1 or events.occasions(laboratory, changes) is not None:
        return None
    ((key, value),) = changes.items()
    if key == _ARCH:
        period = max(1, int(laboratory.facts.configuration.get(_ARCH) or 1))
        return Often(key, period, max(1.0, int(value) / period))
    period = laboratory.period(key) or 0
    if key not in events.KEYS or not period:
        return None
    return Often(key, period, max(1.0, float(value)))
