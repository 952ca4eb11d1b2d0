"""One observed script, from its first line to its Run: what is due when."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfdoctor.collect.script import same_calls
from perfdoctor.collect.script.imports import after_import
from perfdoctor.collect.script.launch import look_for_signals
from perfdoctor.collect.script.live import PERIOD_S as LIVE_PERIOD_S
from perfdoctor.collect.script.live import Live, LiveWatch
from perfdoctor.collect.script.printed import Printed
from perfdoctor.collect.script.script_run import RATES_EVERY, ScriptRun
from perfdoctor.ending import Ending

if TYPE_CHECKING:  # nothing that imports numpy before the script's first line, see `running`
    from perfdoctor.record import Run

#: How often a report is written while the script runs, for the case that it is killed: so many
#: seconds after training began, at the first of these moments and then every so many; more often
#: where somebody watches. One costs the training 0.1 s.
_PARTIAL_S, _PARTIAL_FIRST, _PARTIAL_EVERY, _SHOWN_EVERY = 3.0, (1, 4), 20, 5
#: How often a signal is looked for that the main thread does not answer.
_SIGNALS_S = 0.25
#: Steps in which the lines of the loop are noted: the first, and then one now and then.
_NOTED_FIRST, _NOTED_EVERY = 30, 1000
#: The same after another optimizer was made, so often: a training of something else begins.
_MOST_PHASES = 5
#: Python looks for threads when a process is forked.
_WARNS_OF_THREADS = sys.version_info >= (3, 12)
#: Later something may be due after every so many steps, and after the step that follows (`ddp`);
#: before the first of these somewhat more often, and much later less often.
_LOOKED_EVERY, _LOOKED_EARLY, _LOOKED_LATE = RATES_EVERY, 20, 1000


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
        self._limits = limits
        self._seen = ScriptRun(path, kind, command, self._on_step)
        self.recorder = self._seen.recorder
        self.printed = Printed(lambda: self.recorder.count)
        self._ended = False
        self._moments = self._phases = 0
        self._noted_until = _NOTED_FIRST
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
        sampler = self._seen.sampler
        if live is not None:
            self._show_on(live)
        if on_partial is not None:
            sampler.add_tick(_PARTIAL_S, lambda: self._partial(on_partial))
        sampler.add_tick(_SIGNALS_S, look_for_signals)
        os.register_at_fork(after_in_child=self._forget)
        if _WARNS_OF_THREADS:
            os.register_at_fork(before=self._forks)
        after_import("torch", self._torch_is_there)
        sampler.start()

    def finish(self, ending: Ending) -> Run | None:
        """What was observed; None where the script did not use torch."""
        self._end_observation()
        if "torch" not in sys.modules:
            return None
        return self._seen.ended(ending)

    def _partial(self, on_partial: Callable[[Run], None]) -> None:
        if not self.recorder.steps.steps or self._ended:
            return
        self._moments += 1
        every = _PARTIAL_EVERY if self._live is None else _SHOWN_EVERY
        if self._moments in _PARTIAL_FIRST or self._moments % every == 0:
            on_partial(self._seen.so_far())

    def _show_on(self, live: Live) -> None:
        def stage_of() -> list[str]:
            from perfdoctor.collect.script.assembly import stages_of

            return stages_of(self._seen.observer)

        watch = LiveWatch(
            Path(self._seen.path).name,
            self.recorder,
            stage_of=stage_of,
            machine=self._seen.machine.latest,
        )
        self._live, self._live_watch = live, watch
        self._seen.sampler.add_tick(LIVE_PERIOD_S, lambda: live.show(watch.view()))

    # -- while it runs -----------------------------------------------------------------------

    def _torch_is_there(self) -> None:
        try:
            self._seen.torch_is_there()
            self._prepare()
        except Exception as error:
            self._seen.state.failed(error)

    def _on_step(self, count: int) -> int:
        """After step `count`; the next step to be asked after."""
        phases = min(_MOST_PHASES, self._seen.observer.optimizers.phases)
        if phases > self._phases:
            self._phases, self._noted_until = phases, count + _NOTED_FIRST
        self._seen.state.noting = (
            count < self._noted_until or count % _NOTED_EVERY == 0 or count in same_calls.EARLY
        )
        if self._live_watch is not None:
            self._live_watch.stepped()
            self.recorder.settle()
        self._seen.stepped(count)
        if count == 1 and self._limits.max_seconds is not None:
            self._deadline = time.monotonic() + self._limits.max_seconds
        full = self._limits.steps is not None and count >= self._limits.steps
        late = self._deadline is not None and time.monotonic() >= self._deadline
        if full or late:
            self._observed_enough()
        return self._due_after(count)

    def _due_after(self, count: int) -> int:
        """Most steps need nothing, and asking each of them costs more than noting its end."""
        watched = self._live_watch is not None or self._deadline is not None
        if watched or count < self._noted_until or count % _LOOKED_EVERY == 0:
            return count + 1
        early = _LOOKED_EARLY if count < _LOOKED_EVERY else _LOOKED_EVERY
        every = early if count < _NOTED_EVERY else _LOOKED_LATE
        due = count + every - count % every
        return due if self._limits.steps is None else min(due, self._limits.steps)

    def _end_observation(self) -> None:
        """From here on nothing is observed; what was is kept. Asked twice it does it once."""
        if self._ended:
            return
        self._ended = True
        self.printed.stop()
        self._seen.end()
        if self._live is not None:
            self._live.close()

    def _forks(self) -> None:
        """The process is about to be forked. The looks go on when the next step has ended."""
        self._seen.sampler.before_fork()
        self._seen.observer.ask_at_once()

    def _observed_enough(self) -> None:
        self._seen.in_part = True
        self._end_observation()
        if self._limits.stop_after:
            from perfdoctor.collect.script.launch import stop_script

            stop_script()

    def _forget(self) -> None:
        """In a forked child: nothing is observed there."""
        self._seen.state.active = False
        self._seen.state.thread = -1
        self.printed.stop()
