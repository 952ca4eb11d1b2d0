"""A training loop that is watched from a few lines in it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.assembly import UNEXPLAINED, Observed, assemble
from perfdoctor.collect.script.ending import ending_of
from perfdoctor.collect.script.machine import PERIOD_S, MachineWatch
from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.sampler import StackSampler
from perfdoctor.collect.script.step_rows import MOST_LABELS
from perfdoctor.ending import Ending
from perfdoctor.errors import PerfdoctorError, tell
from perfdoctor.output import Output
from perfdoctor.record import Environment, Run, Source
from perfdoctor.report import Report

_NS = 1e9


class TrainingMonitor:
    """Watches a loop that tells it of each step; writes the same report as every other way in.

        monitor = perfdoctor.TrainingMonitor("resnet", batch_size=64)
        monitor.start_monitoring()
        for images, target in loader:
            start = time.perf_counter()
            with monitor.stage("forward"):
                loss = criterion(model(images), target)
            ...
            monitor.log_iteration(time.perf_counter() - start, loss=loss.item())
        monitor.stop_monitoring()

    As a context manager it starts and stops by itself. Everything happens in the thread that
    starts it; its memory does not grow with the number of steps.

    Args:
        name: how the report calls the training.
        batch_size: samples in a step, where `log_iteration` is not told.
        output_dir: where the report and its pictures are written; None writes nothing.
        configuration: settings that the rules should know (`num_workers`, `precision`, ...).
    """

    def __init__(
        self,
        name: str = "training",
        *,
        batch_size: int | None = None,
        output_dir: str | Path | None = ".",
        configuration: dict[str, Any] | None = None,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.name = name
        self.report: Report | None = None
        self._batch_size = batch_size
        self._folder = None if output_dir is None else Path(output_dir)
        self._configuration = dict(configuration or {})
        self._clock = clock
        self._recorder: Recorder | None = None
        self._output: Output | None = None
        self._metrics: dict[str, Any] = {}
        self._epoch: float | None = None

    def start_monitoring(self) -> TrainingMonitor:
        """The training begins now.

        Raises:
            PerfdoctorError: it is being watched already, or `output_dir` cannot be written.
        """
        if self._recorder is not None:
            raise PerfdoctorError(
                f"{self.name} is monitored already: call stop_monitoring() first",
                slug="monitor-started-twice",
            )
        if self._folder is not None:
            self._output = Output(self._folder, None, quiet=True, plots=True).anchored()
            self._output.check()
        self._recorder = recorder = Recorder(self._clock)
        recorder.switch(r.OTHER)
        self.report, self._metrics, self._epoch = None, {}, None
        self._started_at = time.time()
        self._machine = MachineWatch(lambda: recorder.count, list)
        self._sampler = StackSampler(
            lambda: recorder.current,
            _this_thread(),
            on_tick=[(PERIOD_S, self._look_at_machine)],
        )
        self._sampler.start()
        return self

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The block belongs to this stage: data_loading, forward, ..., or a name of your own."""
        recorder = self._running()
        recorder.enter(recorder.label(name))
        try:
            yield
        finally:
            recorder.leave()

    def log_iteration(
        self, seconds: float | None = None, *, samples: int | None = None, **metrics: float
    ) -> None:
        """A step has ended.

        Args:
            seconds: what it took; without, all the time since the last one. What the time since
                then is longer lies between the steps.
            samples: in this step; default: the batch size.
            metrics: numbers such as `loss`. `epoch` marks the first step of each epoch.
        """
        recorder = self._running()
        recorder.samples = int(samples or self._batch_size or 0)
        if seconds is not None:
            self._outside(recorder, int(seconds * _NS))
        epoch = metrics.pop("epoch", None)
        if epoch is not None and epoch != self._epoch:
            recorder.epochs = 1
            self._epoch = epoch
        for name, value in metrics.items():  # a tensor would keep the whole graph of its step
            self._metrics[name] = value.detach() if hasattr(value, "detach") else value
        recorder.end_step()

    def stop_monitoring(self) -> Report:
        """The training has ended: diagnoses, writes the report, and returns it.

        What cannot be written now is one line on stderr.
        """
        return self._stop(Ending(how="finished"))

    def _stop(self, ending: Ending) -> Report:
        recorder = self._running()
        self._sampler.stop()
        recorder.end()
        self._recorder = None
        from perfdoctor import pipeline, settings

        run = self._run(recorder, ending)
        self.report = pipeline.conclude(run, settings.load(Path.cwd()))
        if self._output is not None:
            try:
                self._output.write_beside_script(self.report)
            except (OSError, PerfdoctorError) as failure:
                tell(f"the report of {self.name} is not written: {failure}")
        return self.report

    def get_summary(self) -> dict[str, Any]:
        """The numbers so far, or of the whole training once it has been stopped.

        `steps`, `seconds`, `mean_step_s`, `p50_step_s`, `p95_step_s`, `p99_step_s`,
        `samples_per_s`, `stages` (name → share), the last `metrics`; then also `verdict`.
        """
        from perfdoctor.summarise import summarise

        if self.report is not None:
            return _numbers(self.report, self._metrics)
        run = self._run(self._running(), Ending(how="running"))
        return _numbers(summarise(run), self._metrics)

    def __enter__(self) -> TrainingMonitor:
        return self.start_monitoring()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._recorder is not None:  # not stopped within
            self._stop(replace(ending_of(error), code=None))  # the process may go on

    def _running(self) -> Recorder:
        if self._recorder is None:
            raise PerfdoctorError(
                f"{self.name} is not monitored: call start_monitoring() first",
                slug="monitor-not-started",
            )
        return self._recorder

    def _outside(self, recorder: Recorder, step_ns: int) -> None:
        """Time since the last step that is not of this one: it is taken from `other`."""
        spent = recorder.spent
        outside = sum(spent[:MOST_LABELS]) - step_ns
        outside = max(0, min(outside, spent[r.OTHER]))
        spent[r.OTHER] -= outside
        spent[recorder.label(UNEXPLAINED)] += outside

    def _look_at_machine(self) -> None:
        if "torch" in sys.modules:
            self._machine.tick()

    def _run(self, recorder: Recorder, ending: Ending) -> Run:
        names = [name if name != "after_forward" else "other" for name in recorder.names]
        configuration = {"batch_size": self._batch_size} | self._configuration
        seen = Observed(
            name=self.name,
            source=Source(kind="monitor"),
            environment=_environment(),
            configuration={k: v for k, v in configuration.items() if v is not None},
            ending=ending,
            utilisation=self._machine.utilisation(),
            started_at=self._started_at,
        )
        return replace(assemble(recorder, names, seen), counters=self._machine.counters())


def _this_thread() -> int:
    import threading

    return threading.get_ident()


def _environment() -> Environment:
    if "torch" not in sys.modules:
        return Environment()
    import torch

    from perfdoctor.collect.environment import describe_environment

    return describe_environment(torch.device("cuda" if torch.cuda.is_initialized() else "cpu"))


def _numbers(report: Report, metrics: dict[str, Any]) -> dict[str, Any]:
    time_s = None if report.steps is None else report.steps.time
    rate = report.throughput
    found: dict[str, Any] = {
        "steps": 0 if time_s is None else time_s.count,
        "seconds": None if report.wall is None else report.wall.total_s,
        "mean_step_s": None if time_s is None else time_s.mean_s,
        "p50_step_s": None if time_s is None else time_s.p50_s,
        "p95_step_s": None if time_s is None else time_s.p95_s,
        "p99_step_s": None if time_s is None else time_s.p99_s,
        "samples_per_s": None if rate is None else rate.samples_per_s,
        "stages": {name: stage.share for name, stage in report.stages.items()},
        "metrics": {name: float(value) for name, value in metrics.items()},
    }
    if report.diagnosis is not None:
        found["verdict"] = report.diagnosis.verdict
        found["bottleneck"] = report.diagnosis.bottleneck
    return found
