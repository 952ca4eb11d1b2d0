"""A script as an arm: when it has come to its end, it is begun again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perfdoctor.collect.arm import NO_TIME, Arm, ArmFacts, ArmSpec
from perfdoctor.collect.out_of_memory import NO_ROOM, OUT_OF_MEMORY, no_room, said
from perfdoctor.collect.script.main_module import Script
from perfdoctor.errors import PerfdoctorError

#: Steps of a script that was begun again, before they count: its first ones fill caches.
_WARM_STEPS = 5
#: Of a script that is too short: as it is, with prolonged epochs, and as it is once more.
_LIVES = 3
_PROCESS = "perfdoctor.collect.rerun.process"
_TWO = "two processes of the script"


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
        "prolonged": False,
    }
    return ScriptSpec(workload=workload, process=_PROCESS, **fields)


@dataclass(frozen=True, kw_only=True)
class ScriptSpec(ArmSpec):
    """An arm that runs a script. Its options are changes that hold from the first step's end on."""

    def start(self) -> Arm:
        """A process of it, see `Arm.start`."""
        return ScriptArm.start(self)

    def scratch_place(self) -> str | None:
        """As `ArmSpec.scratch_place`."""
        place: str | None = self.workload.get("scratch")
        return place

    def variables(self) -> dict[str, str]:
        """Those of the user: what a script does with its threads is part of it."""
        return self.inherited()


class ScriptArm(Arm):
    """The script may be shorter than the trials: then it is begun again, in a new process.

    There its epochs of training have no end, so that starting it takes less time than its steps do.
    """

    def __init__(self, spec: ArmSpec) -> None:
        super().__init__(spec)
        self._added: dict[str, Mapping[str, Any]] = dict(spec.modes)
        self._periods: dict[str, int] = {}
        self._prolonged: bool | None = None
        self._over = False  # the script in the process has ended

    def facts(self, mode: str | None = None) -> ArmFacts:
        """As `Arm.facts`; a habit of the script stays known when it is begun again."""
        found = super().facts(mode)
        self._periods |= found.extra["periods"]
        return replace(found, extra={**found.extra, "periods": dict(self._periods)})

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """As `Arm.ask`, of a script begun again where it has ended.

        Raises:
            PerfdoctorError: it ends before it has made as many steps.
        """
        found = self._asked(what, arguments)
        self._periods |= found.get("periods", {})
        return found

    def _asked(self, what: str, arguments: dict[str, Any]) -> dict[str, Any]:
        how, before = "", self._prolonged
        for _ in range(_LIVES):
            if self._over and what == "forget":  # there is nothing left that it could drop
                return {}
            try:
                if self._over:
                    self._check_time()
                    self._begin_again(arguments.get("mode"))
                return super().ask(what, **arguments)
            except PerfdoctorError as error:
                if error.slug != "script-ended" or what == "set_up":
                    raise
                how, self._over = str(error), True
                if self.trying is not None and said(how):
                    raise PerfdoctorError(f"with it {how}", slug=OUT_OF_MEMORY) from None
                self._prolonged = _next_life(self._prolonged, how)
        if "exception" in how and arguments.get("mode") is not None:
            self._prolonged = before  # it was the mode that the script could not bear
            raise PerfdoctorError(f"with it {how}", slug="script-failed")
        steps = arguments.get("steps", 0) + 2 * _WARM_STEPS
        raise PerfdoctorError(
            f"the script ends before it has made {steps} steps", slug="script-too-short"
        )

    def first_losses(
        self, steps: int, mode: str | None = None
    ) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
        """(losses, gradient norms) of a run in this mode, by a process of its own.

        Raises:
            PerfdoctorError: with the slug `NO_ROOM`, where memory will not do for both.
        """
        changes = {} if mode is None else self._added[mode]
        try:
            with Arm.start(self.spec.changed(changes)) as other:
                other.warm(steps)
                facts = other.facts()
        except PerfdoctorError as error:
            if not _fills_memory(error) and self.alive:
                raise
            raise no_room(_TWO) from error
        if not self.alive:  # the system has ended this one, where memory would not do for both
            raise no_room(_TWO)
        return facts.losses[:steps], facts.gradient_norms[:steps]

    def add_mode(self, name: str, changes: Mapping[str, Any]) -> None:
        """As `Arm.add_mode`."""
        self._added[name] = changes
        super().add_mode(name, changes)

    def forget(self, mode: str) -> None:
        """As `Arm.forget`."""
        self._added.pop(mode, None)
        super().forget(mode)

    def _check_time(self) -> None:
        if time.perf_counter() > self.begins_until_s:
            raise PerfdoctorError(
                "the script ended, and no time was left to begin it again", slug=NO_TIME
            )

    def _begin_again(self, mode: str | None) -> None:
        self.close()
        workload = {**self.spec.workload, "prolonged": bool(self._prolonged)}
        super().__init__(replace(self.spec, modes=self._added, workload=workload))
        self._over = False
        super().ask("set_up", **self.description())
        super().ask("warm", steps=_WARM_STEPS, mode=None)
        if mode in self._added:
            super().ask("warm", steps=_WARM_STEPS, mode=mode)


def _fills_memory(error: PerfdoctorError) -> bool:
    """Whether it is memory that ended another process: by an error, or killed by the system."""
    return error.slug in (OUT_OF_MEMORY, NO_ROOM) or said(str(error)) or "by signal 9" in str(error)


def _next_life(prolonged: bool | None, how: str) -> bool | None:
    """Whether its epochs have no end. None: not tried yet; False: the script cannot bear it."""
    if prolonged is None:
        return True
    return prolonged and "exception" not in how
