"""A script as an arm: when it has come to its end, it is begun again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perfdoctor.collect.arm import Arm, ArmSpec
from perfdoctor.collect.script.main_module import Script
from perfdoctor.errors import PerfdoctorError

#: Steps of a script that was begun again, before they count: its first ones fill caches.
_WARM_STEPS = 5
_PROCESS = "perfdoctor.collect.rerun.process"


def spec_of(script: Script, scratch: Path, **fields: Any) -> ScriptSpec:
    """The arm that runs a script, every file of which it finds, and none of which it changes.

    Args:
        scratch: a folder; each process makes one of its own in it.
        fields: other fields of `ArmSpec`.
    """
    workload = {
        "script": script.target,
        "arguments": list(script.arguments),
        "is_module": script.is_module,
        "scratch": str(scratch),
    }
    return ScriptSpec(workload=workload, process=_PROCESS, **fields)


@dataclass(frozen=True, kw_only=True)
class ScriptSpec(ArmSpec):
    """An arm that runs a script. Its options are changes that hold from the first step's end on."""

    def start(self) -> Arm:
        """A process of it, see `Arm.start`."""
        return ScriptArm.start(self)


class ScriptArm(Arm):
    """The script may be shorter than the trials: then it is begun again, in a new process."""

    def __init__(self, spec: ArmSpec) -> None:
        super().__init__(spec)
        self._added: dict[str, Mapping[str, Any]] = dict(spec.modes)

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """As `Arm.ask`, of a script begun again where it has ended.

        Raises:
            PerfdoctorError: it ends before it has made as many steps.
        """
        try:
            return super().ask(what, **arguments)
        except PerfdoctorError as error:
            if error.slug != "script-ended" or what == "set_up":
                raise
        try:
            self._begin_again(arguments.get("mode"))
            return super().ask(what, **arguments)
        except PerfdoctorError as error:
            if error.slug != "script-ended":
                raise
            steps = arguments.get("steps", 0) + 2 * _WARM_STEPS
            raise PerfdoctorError(
                f"the script ends before it has made {steps} steps", slug="script-too-short"
            ) from None

    def first_losses(
        self, steps: int, mode: str | None = None
    ) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
        """(losses, gradient norms) of a run in this mode, by a process of its own."""
        changes = {} if mode is None else self._added[mode]
        with Arm.start(self.spec.changed(changes)) as other:
            other.warm(steps)
            facts = other.facts()
        return facts.losses[:steps], facts.gradient_norms[:steps]

    def add_mode(self, name: str, changes: Mapping[str, Any]) -> None:
        """As `Arm.add_mode`."""
        self._added[name] = changes
        super().add_mode(name, changes)

    def forget(self, mode: str) -> None:
        """As `Arm.forget`."""
        self._added.pop(mode, None)
        super().forget(mode)

    def _begin_again(self, mode: str | None) -> None:
        self.close()
        super().__init__(replace(self.spec, modes=self._added))
        super().ask("set_up", **self.description())
        super().ask("warm", steps=_WARM_STEPS, mode=None)
        if mode is not None:
            super().ask("warm", steps=_WARM_STEPS, mode=mode)
