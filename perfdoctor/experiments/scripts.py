"""Experiments that only a script can be changed by: on what it does now and then."""

from __future__ import annotations

from typing import Any

from perfdoctor.experiments import Experiment, Situation

ONLY_SCRIPTS = "a workload does nothing of that kind"
_FACTOR = 10


class CheckpointLess(Experiment):
    """Of the script's calls of `torch.save` only every so manieth one."""

    name = "checkpoint-less"
    keys = ("checkpoint_every_times",)

    def why_not(self, situation: Situation) -> str | None:
        """Only in scripts."""
        return None if situation.is_script else ONLY_SCRIPTS

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`checkpoint_every_times`."""
        return {self.keys[0]: situation.wanted.get(self.keys[0], _FACTOR)}


class CollectsOff(Experiment):
    """Calls of `gc.collect()` that do nothing; Python's own collections stay."""

    name = "collects-off"
    keys = ("collect_each_step",)

    def why_not(self, situation: Situation) -> str | None:
        """Only in scripts."""
        return None if situation.is_script else ONLY_SCRIPTS

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`collect_each_step`."""
        return {self.keys[0]: False}
