"""Which parameters stand still: an optimizer has them, but only at a learning rate of 0.

As where layer-wise rates freeze an encoder with a 0. Its gradients are computed all the same, and
the optimizer reads and writes them, their state and the parameters in every step, for nothing.

A group stands still while its rate was 0 at every look and another group of its optimizer had a
rate above 0 at one: a warm-up that begins with 0 begins so for all of them. Nor does one count
whose rate a schedule has made 0, as of layers that are to be trained later. A rate that is a tensor
is not asked for its value: that would wait for a GPU.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class _Looked:
    """One optimizer as the looks found it: `moved` are the positions of groups that were trained at
    one of them, or may have been; `above`: one had a rate that is known to be above 0."""

    reference: weakref.ref[Any]
    moved: set[int] = field(default_factory=set)
    above: bool = False
    sizes: tuple[int, ...] = ()


class ZeroRates:
    """What stands still. `raised`: something stood still at first and was trained later."""

    def __init__(self) -> None:
        self._looked: dict[int, _Looked] = {}
        self._moved: set[int] = set()
        self._still: set[int] = set()
        self._stood: set[int] = set()
        self.raised = False

    def look(self, optimizers: Iterable[Any]) -> bool:
        """Looks at the rates of now; whether something else stands still than before."""
        changed = [self._look_at(optimizer) for optimizer in optimizers]
        return any(changed) and self._changed()

    def has(self, parameter: Any) -> bool:
        """Whether this one stands still."""
        return id(parameter) in self._still

    def part_of(self, optimizer: Any) -> float | None:
        """The part by number (0–1) of what an optimizer updates that stands still; None: nothing,
        or not any more."""
        updated = [p for group in optimizer.param_groups for p in group["params"]]
        updated = [p for p in updated if p.requires_grad]
        still = sum(p.numel() for p in updated if self.has(p))
        return still / sum(p.numel() for p in updated) if still and not self.raised else None

    def _look_at(self, optimizer: Any) -> bool:
        looked, groups = self._of(optimizer), optimizer.param_groups
        filled = [(at, group) for at, group in enumerate(groups) if group["params"]]
        moved = looked.moved | {at for at, group in filled if not _is_zero(group)}
        above = looked.above or any(_is_above(group) for _, group in filled)
        sizes = tuple(len(group["params"]) for group in groups)
        if (moved, above, sizes) == (looked.moved, looked.above, looked.sizes):
            return False
        looked.moved, looked.above, looked.sizes = moved, above, sizes
        return True

    def _of(self, optimizer: Any) -> _Looked:
        looked = self._looked.get(id(optimizer))
        if looked is None or looked.reference() is not optimizer:
            alive = self._looked.items()
            self._looked = {key: one for key, one in alive if one.reference() is not None}
            looked = self._looked[id(optimizer)] = _Looked(weakref.ref(optimizer))
        return looked

    def _changed(self) -> bool:
        """Finds anew what stands still: of what has a gradient now, since there may be none."""
        at_zero: set[int] = set()
        for looked in self._looked.values():
            optimizer = looked.reference()
            for at, group in enumerate(() if optimizer is None else optimizer.param_groups):
                if at in looked.moved:
                    self._moved.update(map(id, group["params"]))
                elif looked.above:
                    at_zero.update(id(p) for p in group["params"] if p.grad is not None)
        before, self._still = self._still, at_zero - self._moved
        self._stood |= self._still
        self.raised = self.raised or bool(self._stood & self._moved)
        return self._still != before


def _is_zero(group: dict[str, Any]) -> bool:
    """Whether its rate is 0, and no schedule has made it so (it keeps where it began)."""
    rates = group.get("lr"), group.get("initial_lr", 0)
    return all(isinstance(rate, int | float) and rate == 0 for rate in rates)


def _is_above(group: dict[str, Any]) -> bool:
    rate = group.get("lr")
    return isinstance(rate, int | float) and rate > 0
