"""What a rerun script answers when a trial asks for steps."""

from __future__ import annotations

import functools
import math
import random
import sys
import threading
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from perfdoctor.collect.rerun.device import Device
from perfdoctor.collect.rerun.functions import Place
from perfdoctor.collect.rerun.gate import StepGate
from perfdoctor.collect.rerun.habits import Habit, Habits
from perfdoctor.collect.rerun.loaders import Switches, length_of
from perfdoctor.collect.rerun.losses import Losses
from perfdoctor.collect.rerun.modes import (
    LATER,
    LOADING,
    SUPPORTED,
    Mode,
    Rerun,
    batches_compared,
    close,
)
from perfdoctor.collect.rerun.reporting import FIGURES, LINES, Reporting
from perfdoctor.collect.rerun.searching import Searching
from perfdoctor.collect.rerun.validating import Validating
from perfdoctor.collect.script.imports import after_import
from perfdoctor.collect.script.observer import Observer
from perfdoctor.collect.script.optimizers import Optimizers
from perfdoctor.collect.script.patches import Patches
from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.script_run import holds
from perfdoctor.collect.script.settings_used import arch_every
from perfdoctor.collect.script.state import State
from perfdoctor.ending import Ending
from perfdoctor.errors import PerfdoctorError

#: Steps after a mode was switched on or off that are not counted: caches are cold.
_UNCOUNTED = 1
_SEED = 0


class ScriptTraining(Rerun):
    """Implements `arm_worker.Trains` for a script. Its methods run in the asking thread."""

    def __init__(
        self,
        modes: Mapping[str, Mapping[str, Any]],
        first: Mapping[str, Any],
        *,
        prolonged: bool = False,
    ) -> None:
        self._changes = {name: dict(changes) for name, changes in modes.items()}
        self._first = dict(first)
        self._modes: dict[str, Mode] = {}
        self._on: str | None = None
        self._peaks: dict[str | None, int] = {}
        self.compiled = {}
        self.gate, self._losses = StepGate(settle=Device(self.trained).settle), Losses()
        self.recorder = Recorder()
        self.observer = Observer(self.recorder, Optimizers(self._share), on_step=self._step)
        self.loaders = Switches(lambda loader: self.observer.loaders.of(loader).number)
        self.loaders.prolonged = prolonged
        self.state = State(self.observer, on_failure=self._failed)
        self.habits = Habits(self._running)
        self.searching = Searching(
            Habit(self._running), lambda: self.state.searches, lambda: arch_every(self.observer)
        )
        self.validating = Validating(
            self.habits.validating, self._around, self._has_validation, self._running
        )
        self.observer.on_validation = self.validating.validates
        self.loaders.is_short = lambda loader: self.validating.is_short(self._role(loader))
        self.drawing = Reporting(
            self.habits.drawing, FIGURES, self._around_figures, "figures", whole=True
        )
        self.reporting = Reporting(
            self.habits.logging,
            LINES,
            lambda: self._around_figures() | self.drawing.places(),
            "log lines",
        )
        self._marks: list[tuple[int, int, int, float]] = []
        self._scales = False  # gradients, as 16-bit floats with few bits of exponent need it

    # -- in the script's thread --------------------------------------------------------------

    def install(self) -> None:
        """Before the script's first line: once torch is there, its steps are seen.

        A script that sets no seed gets one, or its first losses could not be compared.
        """
        random.seed(_SEED)
        self.drawing.install()
        self.reporting.install()
        after_import("numpy", lambda: sys.modules["numpy"].random.seed(_SEED))
        after_import("torch", self._torch_is_there)

    def _torch_is_there(self) -> None:
        self.torch = sys.modules["torch"]
        self.torch.manual_seed(_SEED)
        Patches(self.state).install()
        self.loaders.install(self.torch)
        self.habits.install(self.torch)
        self._losses.install(self.torch)
        self._note_scalers()
        self.searching.install(self.torch)
        self._note_training_steps()

    def _note_training_steps(self) -> None:
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        def noted(optimizer: Any, args: Any, kwargs: Any) -> None:
            if optimizer is self.observer.optimizers.main():
                self.searching.trains()
                self.validating.trains()

        register_optimizer_step_pre_hook(noted)

    def _around(self) -> set[Place]:
        return self.searching.around | self.habits.saved_in

    def _around_figures(self) -> set[Place]:
        return self._around() | self.validating.places()

    def _role(self, loader: Any) -> str:
        return self.observer.loaders.of(loader).role

    def _has_validation(self) -> bool:
        return any(facts.role == "validation" for facts in self.observer.loaders.values())

    def _running(self) -> int | None:
        return None if self.gate.held else self.recorder.count

    def _step(self, count: int) -> int:
        self._losses.step_ends()
        self.loaders.steps = count
        self._marks.append(self._mark())
        if count == 1:
            self._begin()
        held = self.gate.will_hold
        if held:
            self.loaders.still()
        due = self.gate.passed(count)
        if held:
            self.loaders.go()
        return due

    def _begin(self) -> None:
        loader = self.training_loader()
        if loader is not None:
            self.loaders.training = self.observer.loaders.of(loader).number
            self.loaders.loader = loader
            if self.loaders.prolonged:
                self.loaders.load_by_twins(loader)

    def ended(self, ending: Ending) -> None:
        """The script has ended; its process stays until it is told to end."""
        detail = f": {ending.detail}" if ending.detail else ""
        self.gate.end(f"{ending.how}{detail}")
        threading.Event().wait()

    def _failed(self, error: Exception) -> None:
        self.gate.end(f"it could not be watched: {error}")

    def _share(self, few: set[int], many: set[int]) -> bool:
        return any(holds(module, few, many) for module in self.trained())

    # -- what changes ask for ----------------------------------------------------------------

    def trained(self) -> list[Any]:
        """The outermost modules that are trained."""
        return self.observer.modules.trained()

    def optimizer(self) -> Any:
        """The main one."""
        main = self.observer.optimizers.main()
        if main is None:
            raise PerfdoctorError("the script has no optimizer of torch", slug="no-optimizer")
        return main

    def training_loader(self) -> Any:
        """The script's loader of the training, or None; the observer also sees the twins."""
        if self.loaders.loader is not None:
            return self.loaders.loader
        from perfdoctor.collect.script.settings_used import training_loader

        facts = training_loader(self.observer)
        return None if facts is None else facts.loader()

    # -- what trials ask for -----------------------------------------------------------------

    def ready(self) -> None:
        """Waits for the first step, and makes the changes that hold from then on."""
        self.gate.wait_until_held()
        if self._first:
            self.gate.call(self._first_mode)

    def _first_mode(self) -> None:
        self._kept = Mode(self, self._first)  # changes are taken back with the object
        self._kept.on()

    def warm(self, steps: int, mode: str | None) -> dict[str, Any]:
        """Makes these steps, and notes the peak of the memory."""
        from perfdoctor.collect import memory

        self._enter(mode)
        device = self._device()
        memory.reset_peak(device)
        step_s = self.gate.run(steps)
        self._peaks[mode] = memory.peak_bytes(device)
        return {"step_s": step_s}

    def chunk(self, steps: int, mode: str | None) -> dict[str, Any]:
        """Makes an unrecorded step where the mode changes, then these."""
        from perfdoctor.collect.run_queue import run_queue_s

        if self._enter(mode):
            self.gate.run(_UNCOUNTED)
        self._marks = [self._mark()]
        self.habits.occasions(first := self.recorder.count)
        waited, cpu, start = run_queue_s(), time.process_time(), time.perf_counter()
        step_s = self.gate.run(steps)
        self.habits.check()
        for one in (self.searching, self.validating, self.reporting, self.drawing):
            one.check()
        queued, steps_made = run_queue_s(), list(pairwise(self._marks))
        return {
            "step_s": step_s,
            "stages_s": {},
            "samples": [float(after[1] - before[1]) or 1.0 for before, after in steps_made],
            "starts": [after[0] > before[0] for before, after in steps_made],
            "own_starts": [
                (i, after[3] - before[3])
                for i, (before, after) in enumerate(steps_made)
                if after[2] > before[2]
            ],
            "wall_s": time.perf_counter() - start,
            "cpu_s": time.process_time() - cpu,
            "run_queue_s": None if waited is None or queued is None else queued - waited,
            "periods": self._periods(),
            "occasions": self.habits.occasions(first),
        }

    def _mark(self) -> tuple[int, int, int, float]:
        made = self.loaders
        return made.epochs, made.samples, made.own_epochs, made.starting_s

    def _periods(self) -> dict[str, int]:
        return {} if self.loaders.epoch_steps else self.habits.periods()

    def facts(self, mode: str | None) -> dict[str, Any]:
        """What is really done in this mode."""
        from perfdoctor.collect import memory

        self._enter(mode)
        found = self.gate.call(self._settings)
        changes = {} if mode is None else self._changes[mode]
        return {
            "configuration": found | changes,
            "device": str(found.get("device", "cpu")),
            "peak_bytes": self._peaks.get(mode),
            "total_bytes": memory.total_bytes(self._device()),
            "losses": _finite(self._losses.losses),
            "gradient_norms": _finite(self._losses.gradient_norms),
            "extra": self._extra(found | changes),
        }

    def _settings(self) -> dict[str, Any]:
        """Those of the script; what the observer knows of the loader may be a twin's."""
        from perfdoctor.collect.script.settings_used import loader_settings, settings_used

        found, loader = settings_used(self.observer), self.training_loader()
        if loader is not None:
            found |= loader_settings(loader)
        if self.searching.period:  # of the script itself
            found["arch_every"] = self.searching.period
        return {name: value for name, value in found.items() if value is not None}

    def _extra(self, used: Mapping[str, Any]) -> dict[str, Any]:
        from perfdoctor.collect.environment import usable_cores

        loader = self.training_loader()
        length = None if loader is None else length_of(loader)
        return {
            "changes": list(SUPPORTED),
            "traits": self._traits(),
            "cores": usable_cores(),
            "turn": max(1, int(used.get("num_workers") or 1)),
            "queue": 0,  # workers stand still while the script does
            "steps_per_epoch": length,
            "periods": self._periods() | ({"arch_every": 1} if "arch_every" in used else {}),
            "losses_by_process": True,  # of the first steps: they are past
            "redrawn": list(LOADING),  # a loader made anew draws another order
            "later": list(LATER),
        }

    def _traits(self) -> list[str]:
        """What `Situation.traits` can be told here; settings are in the configuration."""
        inner = (module for trained in self.trained() for module in trained.modules())
        found = ["conv"] if any(isinstance(one, self.torch.nn.Conv2d) for one in inner) else []
        return [*found, "scaler"] if self._scales else found

    def _note_scalers(self) -> None:
        kind = getattr(self.torch.amp, "GradScaler", None) or self.torch.cuda.amp.GradScaler
        made = kind.__init__

        @functools.wraps(made)
        def noted(scaler: Any, *args: Any, **kwargs: Any) -> None:
            made(scaler, *args, **kwargs)
            self._scales |= bool(scaler.is_enabled())

        kind.__init__ = noted
        self._losses.note_scaling(kind)

    def first_losses(self, steps: int, mode: str | None) -> dict[str, Any]:
        """A script cannot be made anew within its process."""
        raise PerfdoctorError("a script's first steps are past", slug="first-steps-past")

    def batches(self, mode: str, count: int) -> dict[str, Any]:
        """How the first batches with the mode compare; the next ones are what they would be."""
        changes = self._changes[mode]
        return {"relation": self.gate.call(lambda: batches_compared(self, changes, count))}

    def add_mode(self, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        """One mode more."""
        self._changes[name] = changes
        return {}

    def forget(self, mode: str) -> dict[str, Any]:
        """Drops what a mode holds."""
        if self._on == mode:
            self._enter(None)
        self._modes.pop(mode, None)
        return {}

    def close(self) -> None:
        """Its workers may stand still, and would not hear that they are to end."""
        self.loaders.go()

    def _enter(self, mode: str | None) -> bool:
        """Switches modes; whether that was needed."""
        if mode == self._on:
            return False
        self.gate.call(lambda: self._switch(mode))
        return True

    def _switch(self, mode: str | None) -> None:
        if self._on is not None:
            self._modes[self._on].off()
            self._on = None
        if mode is None:
            return
        if mode not in self._modes:
            self._modes[mode] = Mode(self, self._changes[mode])
        try:
            self._modes[mode].on()
        except BaseException:
            close(self._modes.pop(mode))
            raise
        self._on = mode

    def _device(self) -> Any:
        used = [p.device for module in self.trained() for p in module.parameters()]
        return used[0] if used else self.torch.device("cpu")


def _finite(values: list[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
