"""Experiments that only a script can be changed by: on what it does now and then."""

from __future__ import annotations

from typing import Any

from perfdoctor.experiments import Experiment, Situation

ONLY_SCRIPTS = "a workload does nothing of that kind"
_FACTOR = 10


class _Rarely(Experiment):
    """Something that a script does beside the training only every so manieth time."""

    def why_not(self, situation: Situation) -> str | None:
        """Only in scripts."""
        return None if situation.is_script else ONLY_SCRIPTS

    def changes(self, situation: Situation) -> dict[str, Any]:
        """How many times as rarely."""
        return {self.keys[0]: situation.wanted.get(self.keys[0], _FACTOR)}


class CheckpointLess(_Rarely):
    """Of the script's calls of `torch.save` only every so manieth one."""

    name = "checkpoint-less"
    keys = ("checkpoint_every_times",)


class ValidateLess(_Rarely):
    """Of its validations only every so manieth one; which epoch was the best is known later."""

    name = "validate-less"
    keys = ("validate_every_times",)
    safety = "semantics"


class LogLess(_Rarely):
    """What writes its log lines; what is computed for them stays."""

    name = "log-less"
    keys = ("log_every_times",)
    floor = True


class FiguresLess(_Rarely):
    """What saves its figures; what draws them stays where it is no function of its own."""

    name = "figures-less"
    keys = ("figures_every_times",)
    floor = True


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
