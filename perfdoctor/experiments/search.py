"""Experiments on differentiable architecture search."""

from __future__ import annotations

from typing import Any

from perfdoctor.experiments import Experiment, Situation

_NO_SEARCH = "no architecture is searched"


def _searches(situation: Situation) -> bool:
    """A workload tells it by a trait, an observed script by how often it does."""
    return "search" in situation.traits or bool(situation.configuration.get("arch_every"))


class ArchEvery(Experiment):
    """An architecture step every few training steps."""

    name = "arch-every"
    keys = ("arch_every",)
    safety = "semantics"

    def why_not(self, situation: Situation) -> str | None:
        """Needs a search."""
        return None if _searches(situation) else _NO_SEARCH

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
        if not _searches(situation):
            return _NO_SEARCH
        if situation.is_script:
            return "how a script's architecture step is made cannot be changed from outside"
        second = situation.configuration.get("arch_order") == 2
        return None if second else "the architecture step is of first order already"

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`arch_order`."""
        return {"arch_order": 1}
