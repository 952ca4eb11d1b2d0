"""A script as an arm: when it has come to its end, it is begun again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from perfdoctor.collect.arm import Arm, ArmFacts, ArmSpec, Chunk
from perfdoctor.collect.script.main_module import Script
from perfdoctor.errors import PerfdoctorError
from perfdoctor.record import Floats

#: Steps of a script that was begun again, before they count: its first ones fill caches.
_WARM_STEPS = 5
_PROCESS = "perfdoctor.collect.rerun.process"


def spec_of(
    script: Script, scratch: Path, changes: Mapping[str, Any] | None = None, **options: Any
) -> ArmSpec:
    """The arm that runs a script, every file of which it finds, and none of which it changes.

    Args:
        scratch: an empty folder; each process makes one of its own in it.
        changes: hold from the first step's end on.
        options: other fields of `ArmSpec`.
    """
    workload = {
        "script": script.target,
        "arguments": list(script.arguments),
        "is_module": script.is_module,
        "scratch": str(scratch),
    }
    return ArmSpec(
        workload=workload, options={"changes": dict(changes or {})}, process=_PROCESS, **options
    )


@dataclass
class ScriptArm:
    """As `Arm`, for a script that may be shorter than the trials."""

    spec: ArmSpec
    modes: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._arm = Arm.start(self.spec)

    def __enter__(self) -> ScriptArm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process that runs it now."""
        return self._arm.pid

    def warm(self, steps: int, mode: str | None = None) -> Floats:
        """As `Arm.warm`."""
        try:
            return self._arm.warm(steps, mode)
        except PerfdoctorError as error:
            self._begin_again(error)
        return self._arm.warm(steps, mode)

    def chunk(self, steps: int, mode: str | None = None) -> Chunk:
        """As `Arm.chunk`; of a script begun again where it ends within them.

        Raises:
            PerfdoctorError: it is too short for so many steps.
        """
        try:
            return self._arm.chunk(steps, mode)
        except PerfdoctorError as error:
            self._begin_again(error)
        try:
            self._arm.warm(_WARM_STEPS)
            if mode is not None:
                self._arm.warm(_WARM_STEPS, mode)
            return self._arm.chunk(steps, mode)
        except PerfdoctorError as error:
            if error.slug != "script-ended":
                raise
            raise PerfdoctorError(
                f"the script ends before it has made {steps + 2 * _WARM_STEPS} steps",
                slug="script-too-short",
            ) from None

    def facts(self, mode: str | None = None) -> ArmFacts:
        """As `Arm.facts`."""
        try:
            return self._arm.facts(mode)
        except PerfdoctorError as error:
            self._begin_again(error)
        return self._arm.facts(mode)

    def first_losses(
        self, steps: int, mode: str | None = None
    ) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
        """(losses, gradient norms) of a run in this mode, by a process of its own."""
        changes = {} if mode is None else dict(self.modes[mode])
        changed = replace(self.spec, options={"changes": changes})
        with Arm.start(changed) as other:
            other.warm(steps)
            facts = other.facts()
        return facts.losses[:steps], facts.gradient_norms[:steps]

    def add_mode(self, name: str, changes: Mapping[str, Any]) -> None:
        """As `Arm.add_mode`."""
        self.modes[name] = changes
        self._arm.add_mode(name, changes)

    def forget(self, mode: str) -> None:
        """As `Arm.forget`."""
        self.modes.pop(mode, None)
        try:
            self._arm.forget(mode)
        except PerfdoctorError as error:
            self._begin_again(error)

    def close(self) -> None:
        """As `Arm.close`."""
        self._arm.close()

    def _begin_again(self, error: PerfdoctorError) -> None:
        if error.slug != "script-ended":
            raise error
        self._arm.close()
        self._arm = Arm.start(self.spec)
        for name, changes in self.modes.items():
            self._arm.add_mode(name, changes)
