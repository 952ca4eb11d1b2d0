"""Whether a change leaves the training what it was: the first losses with the same seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Losses = Sequence[float | None]

EXACT, WITHIN, DIVERGES = "exact", "within tolerance", "diverges"
RANDOM, SEMANTICS = "other random numbers", "not comparable: another training"
NOT_FINITE = "not finite"

_NOT_COMPARABLE, _NOT_COMPARED = "not comparable", "not compared"
#: How the first batches compare (`Arm.batches`) → what is said of it.
_BATCHES = {
    "same": "the same batches from the same seed",
    "redrawn": "the same samples from the same seed, other random augmentations",
    "other": "other samples from the same seed",
}

#: Relative tolerance of the first loss, before anything was learnt: ten roundings of a result
#: (torch.testing.assert_close: 1.3e-6 for float32, 1e-3 for float16, 1.6e-2 for bfloat16).
_TOLERANCES = {"fp32": 1.3e-5, "tf32": 1e-2, "fp16": 1e-2, "bf16": 1.6e-1}
#: Roundings grow from step to step; so much further apart may the losses be after a few. [own]
_GROWTH = 10.0
_MOST = 0.25
#: Another order of random numbers moves the mean of the first losses by less than this. [own]
_SAME_DATA = 0.25


@dataclass(frozen=True)
class Parity:
    """How the losses compare; `relative` is the largest difference as a share of the loss.

    `batches` is what is known of what they were computed from.
    """

    label: str
    relative: float | None = None
    batches: str | None = None

    @property
    def acceptable(self) -> bool:
        """Whether the change may be recommended as far as this goes."""
        return self.label not in (DIVERGES, NOT_FINITE)

    @property
    def text(self) -> str:
        """The label, with the difference where there is one; equal losses say all by themselves."""
        if self.label == EXACT:
            return self.label
        batches = f"; {self.batches}" if self.batches else ""
        if self.relative is None:
            return f"{self.label}{batches}"
        return f"{self.label} (differs by up to {100 * self.relative:.2g} %){batches}"


def of_batches(same: Parity, relation: str | None) -> Parity:
    """With how the first batches compare; where losses were not compared, that says more."""
    if relation is None:
        return same
    label = _NOT_COMPARED if same.label.startswith(_NOT_COMPARABLE) else same.label
    return replace(same, label=label, batches=_BATCHES[relation])


def parity(
    before: Losses, after: Losses, norms: Losses, *, safety: str, change: Mapping[str, Any]
) -> Parity:
    """Compares the losses of the first steps without and with the change.

    Args:
        norms: of the gradients with the change; each must be finite.
        safety: as the experiment says. change: what was changed, for the precision in it.
    """
    if not _finite(before):
        return Parity(SEMANTICS if safety == "semantics" else "not comparable: not finite before")
    if not _finite(after) or not _finite(norms):
        return Parity(NOT_FINITE)
    if safety == "semantics":
        return Parity(SEMANTICS)
    a, b = (np.array(side, dtype=np.float64) for side in (before, after))
    count = min(a.size, b.size)
    if count == 0:
        return Parity("not measured")
    differences = np.abs(b[:count] - a[:count]) / np.maximum(np.abs(a[:count]), 1e-12)
    largest = float(differences.max())
    if largest == 0.0:
        return Parity(EXACT, 0.0)
    tolerance = _TOLERANCES.get(str(change.get("precision")), _TOLERANCES["fp32"])
    later = max(tolerance, min(_MOST, _GROWTH * tolerance * count))
    if differences[0] <= tolerance and largest <= later:
        return Parity(WITHIN, largest)
    near = abs(float(b.mean()) / float(a.mean()) - 1) <= _SAME_DATA if a.mean() else False
    if safety == "random" and near:
        return Parity(RANDOM, largest)
    return Parity(DIVERGES, largest)


def _finite(losses: Losses) -> bool:
    return all(loss is not None for loss in losses)
