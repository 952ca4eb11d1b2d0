"""Experiments on the optimizer."""

from __future__ import annotations

from perfdoctor.experiments import Switch


class Fused(Switch):
    """One kernel for all parameters."""

    name = "optimizer-fused"
    keys = ("optimizer_fused",)
    safety = "numerics"
    already = "the optimizer is fused already"


class Foreach(Switch):
    """Lists of parameters updated together."""

    name = "optimizer-foreach"
    keys = ("optimizer_foreach",)
    safety = "numerics"
    already = "the optimizer updates parameters together already"
