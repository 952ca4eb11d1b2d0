"""One observed script, from its first line to its Run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfdoctor.collect.pauses import CollectionWatch
from perfdoctor.collect.script import same_calls
from perfdoctor.collect.script.ddp import DdpWatch
from perfdoctor.collect.script.imports import after_import, took_s
from perfdoctor.collect.script.launch import look_for_signals
from perfdoctor.collect.script.live import PERIOD_S as LIVE_PERIOD_S
from perfdoctor.collect.script.live import Live, LiveWatch
from perfdoctor.collect.script.machine import PERIOD_S, MachineWatch
from perfdoctor.collect.script.observer import Observer
from perfdoctor.collect.script.optimizers import Optimizers
from perfdoctor.collect.script.patches import Patches
from perfdoctor.collect.script.piled_hooks import PiledHooks
from perfdoctor.collect.script.printed import Printed
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

#: The configuration is read once the training runs: at its end, models and loaders are gone.
_SETTLED_STEPS = (3, 20)
#: How often a report is written while the script runs, for the case that it is killed: so many
#: seconds after training began, at the first of these moments and then every so many; more often
#: where somebody watches. One costs the training 0.1 s.
_PARTIAL_S, _PARTIAL_FIRST, _PARTIAL_EVERY, _SHOWN_EVERY = 3.0, (1, 4), 20, 5
#: Time between looks at the training's line. One costs the training about 0.4 ms on two cores,
#: since it has to give up the interpreter's lock and get it back: 1 %, and 20 looks a second.
_LOOK_S = 0.05
#: How often a signal is looked for that the main thread does not answer.
_SIGNALS_S = 0.25
#: Steps in which the lines of the loop are noted: the first, and then one now and then.
_NOTED_FIRST, _NOTED_EVERY = 30, 1000
#: Python looks for threads when a process is forked.
_WARNS_OF_THREADS = sys.version_info >= (3, 12)
#: Later something may be due after every so many steps, and after the step that follows (`ddp`);
#: before the first of these somewhat more often, and much later less often.
_LOOKED_EVERY, _LOOKED_EARLY, _LOOKED_LATE = 100, 20, 1000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When the observation ends: after so many steps or seconds of training, if at all.

    `stop_after`: the script ends with it.
    """

    steps: int | None = None
    max_seconds: float | None = None
    stop_after: bool = False


class Session:
    """Observes this process's main thread from `start` until `finish`.

    A forked child never observes: it has none of this object's threads, and its time is not the
    training's. `printed` is for who wants what the script prints, and started by them.
    """

    def __init__(
        self, path: str, limits: Limits, *, kind: str = "run", command: str | None = None
    ) -> None:
        self.path = path
        self.kind = kind
        self.command = command
        self.limits = limits
        self.problems: list[str] = []
        self.started_at = time.time()
        self.recorder = Recorder()
        self.printed = Printed(lambda: self.recorder.count)
        self.observer = Observer(
            self.recorder, Optimizers(self._share_a_module), on_step=self._on_step, skims=True
        )
        self.state = State(self.observer, on_failure=self._failed)
        self.patches = Patches(self.state)
        self._watch: WorkerWatch | None = None
        self._settings: dict[str, Any] = {}
        self._written: dict[str, float] = {}
        self._ddp = DdpWatch()
        self._hooks = PiledHooks()
        self._pauses = CollectionWatch()
        self._device: Any = None
        self._cpu_from: tuple[int, float] | None = None
        self._cpu_to: float | None = None
        self._ended = self._in_part = False
        self._moments = 0
        self._environment: Environment | None = None
        self._loaders: dict[int, LoaderObserved] = {}
        self._machine = MachineWatch(lambda: self.recorder.count, self.observer.worker_pids)
        self._sampler = StackSampler(
            lambda: self.recorder.current,
            self.state.thread,
            interval_s=_LOOK_S,
            on_tick=[(PERIOD_S, self._machine.tick)],
            by_processor_time=True,
            warn=self.problems.append,
        )
        self._deadline: float | None = None
        self._live: Live | None = None
        self._live_watch: LiveWatch | None = None
        self._prepare: Callable[[], None] = lambda: None

    def start(
        self,
        on_partial: Callable[[Run], None] | None = None,
        live: Live | None = None,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        """The script's first line comes next.

        `on_partial` gets what was seen so far now and then, `live` what is to be shown every
        second, both in another thread. `live` is closed when the observation ends. `prepare` is
        called once torch has been imported.
        """
        self._prepare = prepare
        if live is not None:
            self._show_on(live)
        if on_partial is not None:
            self._sampler.add_tick(_PARTIAL_S, lambda: self._partial(on_partial))
        self._sampler.add_tick(_SIGNALS_S, look_for_signals)
        os.register_at_fork(after_in_child=self._forget)
        if _WARNS_OF_THREADS:
            os.register_at_fork(before=self._forks)
        after_import("torch", self._torch_is_there)
        self._sampler.start()

    def finish(self, ending: Ending) -> Run | None:
        """What was observed; None where the script did not use torch."""
        self._end_observation()
        if "torch" not in sys.modules:
            return None
        return self._run(ending)

    def _run(self, ending: Ending) -> Run:
        from perfdoctor.collect.script.assembly import seconds_by_stage, stages_of
        from perfdoctor.collect.script.evidence import explained
        from perfdoctor.collect.script.made_models import constructors
        from perfdoctor.collect.script.written_stacks import stacks_of_forward

        stage_of = stages_of(self.observer)
        samples = self._sampler.snapshot()
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
            searches,
            steps_per_iterator,
            with_unused_part,
        )
        from perfdoctor.collect.script.validation_batches import loader_of_validation
        from perfdoctor.record import Source

        used = self._settings or self._settings_now()
        used = used | self._ddp.settings() | self._hooks.settings() | self.patches.settings()
        used |= self.observer.looks.settings() | self.state.settings()
        used |= steps_per_iterator(self.observer) | remade_elsewhere(self.observer)
        used |= acts_for_data(self.observer)
        used |= searches(self.observer, self.state.search_lines.most_backwards)
        used |= self._written | ({IN_PART: True} if self._in_part else {})
        used = with_unused_part(used, self.observer)
        used |= self.observer.looks.validation_calls.settings(self.state.loop.loops())
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
                memory=self._machine.memory(),
                utilisation=self._machine.utilisation(),
                started_at=self.started_at,
                notes=self.observer.skimming.notes(),
                warnings=tuple(self.problems),
            ),
        )
        return replace(run, counters=self._counters(torch.device(used.get("device", "cpu"))))

    def _counters(self, device: Any) -> dict[str, float]:
        from perfdoctor.collect.counters import disk_counters, processor_counters, torch_counters

        found = self._pauses.counters() | torch_counters(device)
        utilisation = self._machine.utilisation()
        found |= disk_counters(utilisation) | processor_counters(utilisation)
        found |= self._machine.counters()
        if "torch" in took_s:
            found["import_torch_s"] = took_s["torch"]
        growth = self._machine.workers_growth()
        return found if growth is None else found | {"workers_bytes_per_step": growth}

    def _loader(self) -> tuple[LoaderRecord | None, tuple[Hotspot, ...]]:
        """The training's loader from inside, and the lines of its workers."""
        from perfdoctor.collect.script.evidence import loader_record, worker_hotspots
        from perfdoctor.collect.script.made_models import constructors
        from perfdoctor.collect.script.settings_used import training_loader

        facts = training_loader(self.observer)
        if facts is None or self._watch is None or facts.number not in self._loaders:
            return None, ()
        busy = [
            s
            for s in self._watch.sampled().get(facts.number, [])
            if s.label in (FETCHING, COLLATING)
        ]
        spots = worker_hotspots(busy, COLLATING + 1, constructors())
        return loader_record(facts, self._loaders[facts.number]), spots

    def _partial(self, on_partial: Callable[[Run], None]) -> None:
        """Without lines and workers, which take long to explain."""
        if not self.recorder.steps.steps or self._ended:
            return
        self._moments += 1
        every = _PARTIAL_EVERY if self._live is None else _SHOWN_EVERY
        if self._moments in _PARTIAL_FIRST or self._moments % every == 0:
            on_partial(self._assembled(Ending("running"), {}, (), None))

    def _show_on(self, live: Live) -> None:
        def stage_of() -> list[str]:
            from perfdoctor.collect.script.assembly import stages_of

            return stages_of(self.observer)

        watch = LiveWatch(
            Path(self.path).name,
            self.recorder,
            stage_of=stage_of,
            machine=self._machine.latest,
        )
        self._live, self._live_watch = live, watch
        self._sampler.add_tick(LIVE_PERIOD_S, lambda: live.show(watch.view()))

    # -- while it runs -----------------------------------------------------------------------

    def _torch_is_there(self) -> None:
        try:
            from perfdoctor.collect.script.workers import WorkerWatch

            self._watch = WorkerWatch(warn=self.problems.append)
            self._watch.install()
            self.patches.install(self._watch.note_iterator)
            self._prepare()
        except Exception as error:
            self.state.failed(error)

    def _on_step(self, count: int) -> int:
        """After step `count`; the next step to be asked after."""
        self._sampler.go_on()
        self.state.noting = (
            count < _NOTED_FIRST or count % _NOTED_EVERY == 0 or count in same_calls.EARLY
        )
        if self._live_watch is not None:
            self._live_watch.stepped()
            self.recorder.settle()
        self._ddp.step(count, self.observer.modules.trained)
        self._hooks.step(count, self._with_parameters)
        if count % _LOOKED_EVERY == 0:
            guarded(self.state, self.observer.optimizers.look_at_rates)
        if count in _SETTLED_STEPS:
            self._settings = self._settings_now()
            self._cpu_from = (count, time.process_time())
            self._use_the_device_s_clock()
        if count == 1:
            self._pauses.start()
        if count == 1 and self.limits.max_seconds is not None:
            self._deadline = time.monotonic() + self.limits.max_seconds
        full = self.limits.steps is not None and count >= self.limits.steps
        late = self._deadline is not None and time.monotonic() >= self._deadline
        if full or late:
            self._observed_enough()
        return self._due_after(count)

    def _due_after(self, count: int) -> int:
        """Most steps need nothing, and asking each of them costs more than noting its end."""
        watched = self._live_watch is not None or self._deadline is not None
        if watched or count < _NOTED_FIRST or count % _LOOKED_EVERY == 0:
            return count + 1
        early = _LOOKED_EARLY if count < _LOOKED_EVERY else _LOOKED_EVERY
        every = early if count < _NOTED_EVERY else _LOOKED_LATE
        due = count + every - count % every
        return due if self.limits.steps is None else min(due, self.limits.steps)

    def _end_observation(self) -> None:
        """From here on nothing is observed; what was is kept. Asked twice it does it once."""
        if self._ended:
            return
        self._ended = True
        self.printed.stop()
        self._pauses.stop()
        self._cpu_to = time.process_time()
        self.patches.remove()
        self._sampler.stop()
        if self._live is not None:
            self._live.close()
        if self._watch is not None:
            self._loaders = self._watch.collect()
            self._watch.close()
        self.recorder.end()

    def _forks(self) -> None:
        """The process is about to be forked. The looks go on when the next step has ended."""
        self._sampler.before_fork()
        self.observer.ask_at_once()

    def _observed_enough(self) -> None:
        self._in_part = True
        self._end_observation()
        if self.limits.stop_after:
            from perfdoctor.collect.script.launch import stop_script

            stop_script()

    def _settings_now(self) -> dict[str, Any]:
        from perfdoctor.collect.script.settings_used import settings_used

        try:
            return settings_used(self.observer)
        except Exception as error:  # objects of anyone's making
            self.problems.append(f"the configuration could not be read: {first_line(error)}")
            return {}

    def _use_the_device_s_clock(self) -> None:
        """A GPU works behind the host's back: only events on its queue tell what it does when."""
        device = str(self._settings.get("device", "cpu"))
        if device.startswith("cuda") and self._device is None:
            import torch

            from perfdoctor.collect.clocks import clock_for

            self._device = torch.device(device)
            self.recorder.use_device(clock_for(self._device))
            self.observer.steady = None
            self.patches.watch_copies()

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
        self._in_part = True
        text = f"observing failed and has ended ({type(error).__name__}: {error})"
        self.problems.append(text)
        tell(f"{text}; the training goes on")

    def _forget(self) -> None:
        """In a forked child: nothing is observed there."""
        self.state.active = False
        self.state.thread = -1
        self.printed.stop()


def holds(module: Any, few: set[int], many: set[int]) -> bool:
    """Whether a module has all of `few` and some of `many`, registered or as plain attributes."""
    held = {id(p) for p in module.parameters()}
    for inner in module.modules():
        for value in vars(inner).values():
            values = value if isinstance(value, list | tuple) else (value,)
            held.update(id(v) for v in values)
    return few <= held and bool(many & held)
