"""Experiments on the optimizer."""

from __future__ import annotations

from typing import Any, ClassVar

from perfdoctor.experiments import Situation


class Fused:
    """One kernel for all parameters."""

    name: ClassVar[str] = "optimizer-fused"
    keys: ClassVar[tuple[str, ...]] = ("optimizer_fused",)
    safety: ClassVar[str] = "numerics"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """Not twice."""
        on = situation.configuration.get("optimizer_fused")
        return "the optimizer is fused already" if on else None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`optimizer_fused`."""
        return {"optimizer_fused": True}


class Foreach:
    """Lists of parameters updated together."""

    name: ClassVar[str] = "optimizer-foreach"
    keys: ClassVar[tuple[str, ...]] = ("optimizer_foreach",)
    safety: ClassVar[str] = "numerics"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """Not twice."""
        on = situation.configuration.get("optimizer_foreach")
        return "the optimizer updates parameters together already" if on else None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`optimizer_foreach`."""
        return {"optimizer_foreach": True}
