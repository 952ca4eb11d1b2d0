"""Experiments that only a script can be changed by: on what it does now and then."""

from __future__ import annotations

from typing import Any, ClassVar

from perfdoctor.experiments import Situation

ONLY_SCRIPTS = "a workload does nothing of that kind"
_FACTOR = 10


class CheckpointLess:
    """Of the script's calls of `torch.save` only every so manieth one."""

    name: ClassVar[str] = "checkpoint-less"
    keys: ClassVar[tuple[str, ...]] = ("checkpoint_every_times",)
    safety: ClassVar[str] = "exact"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """Only in scripts."""
        return None if situation.supported is not None else ONLY_SCRIPTS

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`checkpoint_every_times`."""
        return {self.keys[0]: situation.wanted.get(self.keys[0], _FACTOR)}


class CollectsOff:
    """Calls of `gc.collect()` that do nothing; Python's own collections stay."""

    name: ClassVar[str] = "collects-off"
    keys: ClassVar[tuple[str, ...]] = ("collect_each_step",)
    safety: ClassVar[str] = "exact"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """Only in scripts."""
        return None if situation.supported is not None else ONLY_SCRIPTS

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`collect_each_step`."""
        return {self.keys[0]: False}
