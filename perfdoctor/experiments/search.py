"""Experiments on differentiable architecture search."""

from __future__ import annotations

from typing import Any

from perfdoctor.experiments import Experiment, Situation

_NO_SEARCH = "no architecture is searched"


class ArchEvery(Experiment):
    """An architecture step every few training steps."""

    name = "arch-every"
    keys = ("arch_every",)
    safety = "semantics"

    def why_not(self, situation: Situation) -> str | None:
        """Needs a search."""
        return None if "search" in situation.traits else _NO_SEARCH

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`arch_every`: as recommended, or twice as rarely."""
        now = int(situation.configuration.get("arch_every") or 1)
        return {"arch_every": int(situation.wanted.get("arch_every", 2 * now))}


class ArchOrder(Experiment):
    """A first-order architecture step."""

    name = "arch-order"
    keys = ("arch_order",)
    safety = "semantics"

    def why_not(self, situation: Situation) -> str | None:
        """Needs a second-order search."""
        if "search" not in situation.traits:
            return _NO_SEARCH
        second = situation.configuration.get("arch_order") == 2
        return None if second else "the architecture step is of first order already"

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`arch_order`."""
        return {"arch_order": 1}
