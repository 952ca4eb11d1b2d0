"""Experiments on differentiable architecture search."""

from __future__ import annotations

from typing import Any, ClassVar

from perfdoctor.experiments import Situation

_NO_SEARCH = "no architecture is searched"


class ArchEvery:
    """An architecture step every few training steps."""

    name: ClassVar[str] = "arch-every"
    keys: ClassVar[tuple[str, ...]] = ("arch_every",)
    safety: ClassVar[str] = "semantics"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """Needs a search."""
        return None if "search" in situation.traits else _NO_SEARCH

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`arch_every`: as recommended, or twice as rarely."""
        now = int(situation.configuration.get("arch_every") or 1)
        return {"arch_every": int(situation.wanted.get("arch_every", 2 * now))}


class ArchOrder:
    """A first-order architecture step."""

    name: ClassVar[str] = "arch-order"
    keys: ClassVar[tuple[str, ...]] = ("arch_order",)
    safety: ClassVar[str] = "semantics"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """Needs a second-order search."""
        if "search" not in situation.traits:
            return _NO_SEARCH
        second = situation.configuration.get("arch_order") == 2
        return None if second else "the architecture step is of first order already"

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`arch_order`."""
        return {"arch_order": 1}
