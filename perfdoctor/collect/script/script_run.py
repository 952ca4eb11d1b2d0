"""Everything that is watched of one script, and the Run that it becomes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfdoctor.collect.pauses import CollectionWatch
from perfdoctor.collect.script.ddp import DdpWatch
from perfdoctor.collect.script.imports import took_s
from perfdoctor.collect.script.machine import PERIOD_S, MachineWatch
from perfdoctor.collect.script.observer import Observer
from perfdoctor.collect.script.optimizers import Optimizers
from perfdoctor.collect.script.patches import Patches
from perfdoctor.collect.script.piled_hooks import PiledHooks
from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.sampler import StackSampler
from perfdoctor.collect.script.state import State, guarded
from perfdoctor.collect.script.worker_records import COLLATING, FETCHING
from perfdoctor.ending import IN_PART, Ending
from perfdoctor.errors import first_line, tell

if TYPE_CHECKING:  # nothing that imports numpy before the script's first line, see `running`
    from perfdoctor.collect.script.worker_totals import LoaderObserved
    from perfdoctor.collect.script.workers import WorkerWatch
    from perfdoctor.record import Environment, Hotspot, LoaderRecord, Run

#: Steps from one look at learning rates to the next, and at what wants gradients.
RATES_EVERY, GRADIENTS_EVERY = 100, 20
#: Time between looks at the training's line. One costs the training about 0.4 ms on two cores,
#: since it has to give up the interpreter's lock and get it back: 1 %, and 20 looks a second.
_LOOK_S = 0.05


class ScriptRun:
    """What is watched: steps, lines, workers, the machine.

    `in_part`: not all of the training was. `problems`: lines that a report is to repeat.
    """

    def __init__(
        self, path: str, kind: str, command: str | None, on_step: Callable[[int], int]
    ) -> None:
        self.path, self.kind, self.command = path, kind, command
        self.problems: list[str] = []
        self.in_part = False
        self.recorder = Recorder()
        self.observer = Observer(
            self.recorder, Optimizers(self._share_a_module), on_step=on_step, skims=True
        )
        self.state = State(self.observer, on_failure=self._failed)
        self.patches = Patches(self.state)
        self.machine = MachineWatch(lambda: self.recorder.count, self.observer.worker_pids)
        self.sampler = StackSampler(
            lambda: self.recorder.current,
            self.state.thread,
            interval_s=_LOOK_S,
            on_tick=[(PERIOD_S, self.machine.tick)],
            by_processor_time=True,
            warn=self.problems.append,
        )
        self._started_at = time.time()
        self._workers: WorkerWatch | None = None
        self._loaders: dict[int, LoaderObserved] = {}
        self._ddp = DdpWatch()
        self._hooks = PiledHooks()
        self._pauses = CollectionWatch()
        self._written: dict[str, float] = {}
        self._environment: Environment | None = None
        self._device: Any = None
        self._cpu_from: tuple[int, float] | None = None
        self._cpu_to: float | None = None

    # -- while it runs -----------------------------------------------------------------------

    def torch_is_there(self) -> None:
        """From here on what the training calls is seen."""
        from perfdoctor.collect.script.workers import WorkerWatch

        self._workers = WorkerWatch(warn=self.problems.append)
        self._workers.install()
        self.patches.install(self._workers.note_iterator)

    def stepped(self, count: int) -> None:
        """After step `count`, of those after which something is due."""
        self.sampler.go_on()
        self._ddp.step(count, self.observer.modules.trained)
        self._hooks.step(count, self._with_parameters)
        if count % RATES_EVERY == 0:
            guarded(self.state, self.observer.optimizers.look_at_rates)
        if count % GRADIENTS_EVERY == 0:
            guarded(self.state, self.observer.look_at_gradients)
        if self.observer.looks.now.settles(count):
            self._settle(count)
        if count == 1:
            self._pauses.start()

    def _settle(self, count: int) -> None:
        """The configuration is read once a training runs."""
        now = self.observer.looks.now
        now.used = self._settings_now()
        self._use_the_device_s_clock(now.used)
        if not self.observer.optimizers.trainings:
            self._cpu_from = (count, time.process_time())

    def end(self) -> None:
        """From here on nothing is observed; what was is kept."""
        self._pauses.stop()
        self._cpu_to = time.process_time()
        self.patches.remove()
        self.sampler.stop()
        if self._workers is not None:
            self._loaders = self._workers.collect()
            self._workers.close()
        self.recorder.end()

    def _settings_now(self) -> dict[str, Any]:
        from perfdoctor.collect.script.settings_used import settings_used

        try:
            return settings_used(self.observer)
        except Exception as error:  # objects of anyone's making
            self.problems.append(f"the configuration could not be read: {first_line(error)}")
            return {}

    def _use_the_device_s_clock(self, used: Mapping[str, Any]) -> None:
        """A GPU works behind the host's back: only events on its queue tell what it does when."""
        device = str(used.get("device", "cpu"))
        if device.startswith("cuda") and self._device is None:
            import torch

            from perfdoctor.collect.clocks import clock_for

            self._device = torch.device(device)
            self.recorder.use_device(clock_for(self._device))
            self.observer.steady = None
            self.patches.watch_copies()

    # -- what it becomes ---------------------------------------------------------------------

    def so_far(self) -> Run:
        """Without lines and workers, which take long to explain."""
        return self._assembled(Ending("running"), {}, (), None)

    def ended(self, ending: Ending) -> Run:
        """All of it, after `end`."""
        from perfdoctor.collect.script.assembly import seconds_by_stage, stages_of
        from perfdoctor.collect.script.evidence import explained
        from perfdoctor.collect.script.made_models import constructors
        from perfdoctor.collect.script.written_stacks import stacks_of_forward

        stage_of = stages_of(self.observer)
        samples = self.sampler.snapshot()
        self._written = stacks_of_forward(samples)
        seen = explained(
            samples,
            stage_of,
            self.state.loop.loops(),
            seconds_by_stage(self.recorder, stage_of),
            self.state.search_lines.found(),
            self.state.same_calls.found(),
            constructors(),
        )
        loader, workers = self._loader()
        self._measure()
        return self._assembled(ending, seen.split, (*seen.hotspots, *workers), loader)

    def _measure(self) -> None:
        """What rules would have to guess, on the host, once the training is over."""
        guarded(self.state, self.observer.optimizers.look_at_rates)
        self._hooks.at_end(self._with_parameters)
        if not self.recorder.on_device:
            guarded(self.state, self.observer.looks.measure)

    def _assembled(
        self,
        ending: Ending,
        split: Mapping[str, Mapping[str, float]],
        hotspots: tuple[Hotspot, ...],
        loader: LoaderRecord | None,
    ) -> Run:
        import torch

        from perfdoctor.collect.script.assembly import Observed, assemble, stages_of
        from perfdoctor.collect.script.settings_used import (
            acts_for_data,
            remade_elsewhere,
            sample_sizes,
            searches,
            steps_per_iterator,
            validation_waits,
            with_unused_part,
        )
        from perfdoctor.collect.script.validation_batches import loader_of_validation
        from perfdoctor.record import Source

        used = self.observer.looks.longest().used or self._settings_now()
        used = used | self._ddp.settings() | self._hooks.settings() | self.patches.settings()
        used |= self.observer.looks.settings() | self.state.settings()
        used |= steps_per_iterator(self.observer) | remade_elsewhere(self.observer)
        longest = self.observer.looks.longest_steps
        used |= sample_sizes(self.observer) | self.observer.passes.settings(longest)
        used |= acts_for_data(self.observer)
        used |= validation_waits(self.observer)
        used |= searches(self.observer, self.state.search_lines.most_backwards)
        used |= self._written | ({IN_PART: True} if self.in_part else {})
        used = with_unused_part(used, self.observer)
        loops = self.state.loop.loops()
        used |= self.observer.looks.validation_calls.settings(loops)
        used |= self.observer.looks.repeated.settings(loops)
        used |= loader_of_validation(self.observer.loaders.values())
        if self._environment is None:
            from perfdoctor.collect.environment import describe_environment

            self._environment = describe_environment(torch.device(used.get("device", "cpu")))
        run = assemble(
            self.recorder,
            stages_of(self.observer),
            Observed(
                name=Path(self.path).name,
                source=Source(kind=self.kind, command=self.command, path=self.path),
                environment=self._environment,
                configuration=used,
                ending=ending,
                split=split,
                hotspots=hotspots,
                loader=loader,
                step_cpu_s=self._step_cpu_s(loader, used),
                memory=self.machine.memory(),
                utilisation=self.machine.utilisation(),
                started_at=self._started_at,
                notes=self.observer.skimming.notes(),
                longest=self.observer.looks.longest_steps,
                warnings=tuple(self.problems),
            ),
        )
        return replace(run, counters=self._counters(torch.device(used.get("device", "cpu"))))

    def _counters(self, device: Any) -> dict[str, float]:
        from perfdoctor.collect.counters import disk_counters, processor_counters, torch_counters

        found = self._pauses.counters() | torch_counters(device)
        utilisation = self.machine.utilisation()
        found |= disk_counters(utilisation) | processor_counters(utilisation)
        found |= self.machine.counters()
        if "torch" in took_s:
            found["import_torch_s"] = took_s["torch"]
        growth = self.machine.workers_growth()
        return found if growth is None else found | {"workers_bytes_per_step": growth}

    def _loader(self) -> tuple[LoaderRecord | None, tuple[Hotspot, ...]]:
        """The training's loader from inside, and the lines of its workers."""
        from perfdoctor.collect.script.evidence import loader_record, worker_hotspots
        from perfdoctor.collect.script.made_models import constructors
        from perfdoctor.collect.script.settings_used import training_loader

        facts = training_loader(self.observer)
        if facts is None or self._workers is None or facts.number not in self._loaders:
            return None, ()
        busy = [
            s
            for s in self._workers.sampled().get(facts.number, [])
            if s.label in (FETCHING, COLLATING)
        ]
        spots = worker_hotspots(busy, COLLATING + 1, constructors())
        return loader_record(facts, self._loaders[facts.number]), spots

    def _step_cpu_s(self, loader: LoaderRecord | None, used: Mapping[str, Any]) -> float | None:
        """Processor seconds of this process per step, loading in this process taken out."""
        if self._cpu_from is None or self._cpu_to is None:
            return None
        first, before_s = self._cpu_from
        steps = self.recorder.steps.steps - first
        if steps <= 0:
            return None
        each_s = (self._cpu_to - before_s) / steps
        if loader is not None and not used.get("num_workers"):
            each_s -= float(loader.cpu_s.mean())
        return max(0.0, each_s)

    def _share_a_module(self, few: set[int], many: set[int]) -> bool:
        return any(holds(module, few, many) for module in self.observer.modules.trained())

    def _with_parameters(self) -> list[Any]:
        return [module for module, _ in self.observer.modules.with_parameters()]

    def _failed(self, error: Exception) -> None:
        """Steps aside: the training goes on without being watched."""
        self.in_part = True
        text = f"observing failed and has ended ({type(error).__name__}: {error})"
        self.problems.append(text)
        tell(f"{text}; the training goes on")


def holds(module: Any, few: set[int], many: set[int]) -> bool:
    """Whether a module has all of `few` and some of `many`, registered or as plain attributes."""
    held = {id(p) for p in module.parameters()}
    for inner in module.modules():
        for value in vars(inner).values():
            values = value if isinstance(value, list | tuple) else (value,)
            held.update(id(v) for v in values)
    return few <= held and bool(many & held)
