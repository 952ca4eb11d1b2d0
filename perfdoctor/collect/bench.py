"""`perfdoctor bench`: one training, measured in the overlapped loop and stage by stage."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from perfdoctor.collect import alone, interrupts, memory
from perfdoctor.collect.batches import bytes_in, tensors
from perfdoctor.collect.environment import describe_environment
from perfdoctor.collect.failures import OutOfMemoryError, worker_died, worker_failure
from perfdoctor.collect.hardware import HardwareSampler
from perfdoctor.collect.limits import compute_limit, pinned_copy_peak, sequential_read_peak
from perfdoctor.collect.loader import BatchInfo, is_iterable
from perfdoctor.collect.memory_search import largest_batch
from perfdoctor.collect.options import BenchOptions, Progress, no_progress
from perfdoctor.collect.precision import effective_precision
from perfdoctor.collect.probes import COMPUTE, probe_all
from perfdoctor.collect.sampling import sample
from perfdoctor.collect.training import Steps, TrainingLoop
from perfdoctor.errors import PerfdoctorError, first_line
from perfdoctor.record import (
    Floats,
    Limit,
    LoaderRecord,
    Memory,
    Probe,
    Run,
    Sampling,
    SkippedFile,
    Source,
    StageSeries,
)
from perfdoctor.stages import DATA_LOADING, H2D_COPY, in_order
from perfdoctor.workload import WorkloadFactory

#: Parts of the time budget. What the loop does not need is not spent.
_LOOP, _LOADER, _COMPUTE, _LATENCY, _PROBE = 0.5, 0.12, 0.08, 0.03, 0.04


@dataclass
class Measurement:
    """What has been measured of one configuration so far; `run()` makes the record of it."""

    loop: TrainingLoop
    source: Source
    sampling: Sampling | None = None
    first_s: float | None = None
    step_cpu_s: float | None = None
    cpu_s: float = 0.0
    hardware: HardwareSampler | None = None
    training_peak_bytes: int | None = None
    inference_peak_bytes: int | None = None
    loader_alone: tuple[Floats, list[BatchInfo]] | None = None
    compute_alone: tuple[StageSeries, ...] = ()
    latency_s: Floats | None = None
    limits: list[Limit] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def first_step(self) -> None:
        """The very first step, kept apart: workers start, kernels are chosen and compiled."""
        self.loop.run_steps(1)
        steps = self.loop.finish()
        self.first_s = steps.times[0].total_s
        steps.drop_after(0)

    def overlapped(self, budget_s: float, progress: Progress) -> None:
        """Pass one: the real loop, with everything running as it does in training."""
        self.hardware = HardwareSampler(self.loop.device, self.loop.worker_pids)
        memory.reset_peak(self.loop.device)
        cpu = time.process_time()
        with self.hardware:
            self.sampling = sample(self.loop, budget_s, progress)
        self.note_cpu(time.process_time() - cpu)
        self.training_peak_bytes = memory.peak_bytes(self.loop.device)

    def note_cpu(self, cpu_s: float) -> None:
        """Takes this process's CPU seconds of the loop, and leaves out those spent on loading."""
        infos = self.loop.steps.infos
        loading = sum(info.cpu_ns for info in infos if info.worker is None) * 1e-9
        self.step_cpu_s = max(0.0, cpu_s - loading) / max(1, len(infos))

    def stages_alone(self, budget_s: float, progress: Progress) -> None:
        """Pass two and everything after it. Ctrl-C ends it with what is there."""
        try:
            for label, work in self._rest(budget_s):
                progress(label, 0, 0)
                self._attempt(label, work)
        except KeyboardInterrupt:
            if self.sampling is not None:
                self.sampling = replace(self.sampling, stop="interrupted")

    def _rest(self, budget_s: float) -> list[tuple[str, Callable[[], None]]]:
        return [
            ("measuring the loader alone", lambda: self._measure_loader(_LOADER * budget_s)),
            ("measuring compute alone", lambda: self._measure_compute(_COMPUTE * budget_s)),
            ("measuring inference", lambda: self._measure_inference(_LATENCY * budget_s)),
            ("measuring this machine's limits", self._measure_limits),
            ("trying changes on captured batches", lambda: self._probe(_PROBE * budget_s)),
        ]

    def _attempt(self, label: str, work: Callable[[], None]) -> None:
        try:
            work()
        except PerfdoctorError as error:
            self.warnings.append(f"{label} failed: {error}")
        except Exception as error:  # one thing that cannot be measured here must not cost the rest
            self.warnings.append(f"{label} failed: {first_line(error)}")

    def _measure_loader(self, budget_s: float) -> None:
        self.loader_alone = alone.loader_alone(self.loop, budget_s)

    def _measure_compute(self, budget_s: float) -> None:
        self.compute_alone = alone.compute_alone(self.loop, budget_s)

    def _measure_inference(self, budget_s: float) -> None:
        self.latency_s = alone.inference_latency(self.loop, budget_s)
        memory.reset_peak(self.loop.device)
        if alone.inference_batch(self.loop):
            self.inference_peak_bytes = memory.peak_bytes(self.loop.device)

    def _probe(self, budget_s: float) -> None:
        precision = effective_precision(self.loop.device, self.loop.options.precision)
        self.probes.extend(probe_all(self.loop, budget_s, precision))

    # -- limits ----------------------------------------------------------------------------

    def _measure_limits(self) -> None:
        loop = self.loop
        precision = effective_precision(loop.device, loop.options.precision)
        seconds = sum(_median(self._alone(name)) or 0.0 for name in COMPUTE)
        limits = [compute_limit(loop, loop.captured[0], seconds, precision), self._read_limit()]
        if loop.device.type == "cuda":
            limits.append(self._copy_limit())
        self.limits.extend(limit for limit in limits if limit is not None)

    def _copy_limit(self) -> Limit:
        seconds = _median(self._alone(H2D_COPY))
        size = bytes_in(self.loop.captured[0])
        achieved = size / seconds if seconds else None
        peak = pinned_copy_peak(self.loop.device)
        return Limit(name="h2d", achieved=achieved, peak=peak, unit="bytes/s")

    def _read_limit(self) -> Limit | None:
        rate = self._read_rate(lambda info: info.read_bytes)
        if not rate:
            return None
        peak = sequential_read_peak()
        if peak is None:
            return None
        return Limit(name="loader_read", achieved=rate, peak=peak, unit="bytes/s")

    def _read_rate(self, of: Callable[[BatchInfo], int]) -> float | None:
        if self.loader_alone is None:
            return None
        seconds, infos = self.loader_alone
        total = float(seconds.sum())
        return sum(of(info) for info in infos) / total if total else None

    def _alone(self, name: str) -> Floats | None:
        return next((s.exposed_s for s in self.compute_alone if s.name == name), None)

    # -- the record ------------------------------------------------------------------------

    def run(self) -> Run:
        """Everything measured so far as a Run."""
        loop, steps = self.loop, self.loop.steps
        hardware = self.hardware
        return Run(
            name=str(loop.workload.name or type(loop.eager_model).__name__),
            source=self.source,
            environment=describe_environment(loop.device),
            configuration=configuration(loop),
            notes=tuple(map(str, loop.workload.notes)),
            step_s=steps.step_s(),
            samples=steps.samples(),
            stages=stage_series(steps),
            epoch_start=steps.starts(),
            block=steps.block_numbers(),
            host_s=_host_s(steps) if loop.device.type == "cuda" else None,
            warmup=loop.options.warmup,
            first_s=self.first_s,
            alone=(*self._loader_series(), *self.compute_alone),
            steps_per_epoch=loop.steps_per_epoch,
            loader=self._loader_record(),
            probes=tuple(self.probes),
            limits=tuple(self.limits),
            memory=self._memory(),
            utilisation={} if hardware is None else hardware.utilisation(),
            latency_s=self.latency_s,
            step_cpu_s=self.step_cpu_s,
            tokens_per_sample=_tokens_per_sample(loop),
            sampling=self.sampling,
            skipped=tuple(SkippedFile(path=p, reason=r) for p, r in _skipped(loop).items()),
            warnings=(*self.warnings, *self._observations()),
        )

    def _memory(self) -> Memory:
        hardware = self.hardware
        workers = (hardware.workers_pss_bytes or None) if hardware else None
        training = self.training_peak_bytes
        if training is not None and self.loop.device.type == "cpu":
            training += workers or 0  # they share the host's memory with the training
        return Memory(
            total_bytes=memory.total_bytes(self.loop.device),
            training_peak_bytes=training,
            inference_peak_bytes=self.inference_peak_bytes,
            workers_peak_bytes=workers,
            host_used_share=(hardware.host_used_share or None) if hardware else None,
        )

    def _loader_series(self) -> tuple[StageSeries, ...]:
        if self.loader_alone is None:
            return ()
        return (StageSeries(name=DATA_LOADING, exposed_s=self.loader_alone[0]),)

    def _loader_record(self) -> LoaderRecord:
        infos = self.loop.steps.infos
        alone_s, alone_infos = self.loader_alone or (None, [])
        return LoaderRecord(
            batch_s=np.array([info.batch_s for info in infos]),
            collate_s=np.array([info.collate_s for info in infos]),
            cpu_s=np.array([info.cpu_ns * 1e-9 for info in infos]),
            first_batch_s=np.array(self.loop.steps.first_batch_s),
            alone_s=alone_s,
            alone_samples=sum(info.samples for info in alone_infos) or None,
            read_bytes_per_s=self._read_rate(lambda info: info.read_bytes),
            disk_bytes_per_s=self._read_rate(lambda info: info.disk_bytes),
        )

    def _observations(self) -> list[str]:
        found = []
        loss = self.loop.last_loss
        if loss is not None and not bool(torch.isfinite(loss).all()):
            found.append("the loss became NaN or infinite while measuring; times may be affected")
        if self.hardware is not None and self.hardware.problem:
            found.append(self.hardware.problem)
        if self.loop.device.type not in ("cpu", "cuda"):
            found.append(
                f"stages on {self.loop.device.type} are the host's wall times: work that the "
                "device does later counts for the stage that waits for it"
            )
        if self.loop.options.prefetch_factor and not self.loop.num_workers:
            found.append("prefetch_factor has no effect without workers")
        return found


def measure(
    factory: WorkloadFactory,
    options: BenchOptions,
    source: Source,
    progress: Progress = no_progress,
) -> Run:
    """Measures one configuration.

    Raises:
        PerfdoctorError: bad input, user code that fails, or memory that does not suffice.
        KeyboardInterrupt: Ctrl-C before a single step was made.
    """
    progress("setting up", 0, 0)
    try:
        with interrupts.heeded():
            return _measured(factory, options, source, progress)
    except OutOfMemoryError as error:
        reason = str(error)
    except RuntimeError as error:  # a worker's end can be raised anywhere, by a signal handler
        if worker_died(error):
            raise worker_failure(error) from None
        raise
    # outside the handler: its traceback would keep the model and its activations in memory
    raise largest_batch(factory, options, reason, progress)


def _measured(
    factory: WorkloadFactory, options: BenchOptions, source: Source, progress: Progress
) -> Run:
    measurement = begin(factory, options, source, progress)
    measurement.overlapped(_LOOP * options.max_seconds, progress)
    interrupted = measurement.sampling is not None and measurement.sampling.stop == "interrupted"
    if not interrupted:
        measurement.stages_alone(options.max_seconds, progress)
    run = measurement.run()
    measurement.loop.close()
    return run


def begin(
    factory: WorkloadFactory, options: BenchOptions, source: Source, progress: Progress
) -> Measurement:
    """Sets a configuration up and makes its first step."""
    loop = TrainingLoop(factory, options)
    measurement = Measurement(loop=loop, source=source)
    progress("first step" if options.compile == "off" else "first step: compiling", 0, 0)
    measurement.first_step()
    return measurement


def stage_series(steps: Steps) -> tuple[StageSeries, ...]:
    """One series per stage that occurred, `data_loading` with its hidden time."""
    names = {name for step in steps.times for name in step.exposed_s}
    series = [_exposed(name, steps) for name in in_order(names)]
    return (*series, *_worker_stages(steps, names))


def _exposed(name: str, steps: Steps) -> StageSeries:
    exposed = np.array([step.exposed_s.get(name, np.nan) for step in steps.times])
    hidden = None
    if name == DATA_LOADING:
        host = np.array([step.host_s.get(name, 0.0) for step in steps.times])
        made = np.array([info.batch_s for info in steps.infos[: len(steps.times)]])
        hidden = np.maximum(0.0, np.maximum(made, host) - exposed)
    return StageSeries(name=name, exposed_s=exposed, hidden_s=hidden)


def _worker_stages(steps: Steps, known: set[str]) -> tuple[StageSeries, ...]:
    """Stages that the dataset names inside workers: hidden, since no step waits for them alone."""
    infos = steps.infos[: len(steps.times)]
    made_elsewhere = [info for info in infos if info.worker is not None]
    names = {name for info in made_elsewhere for name in info.stages_s} - known
    return tuple(
        StageSeries(
            name=name,
            exposed_s=np.zeros(len(infos)),
            hidden_s=np.array([info.stages_s.get(name, np.nan) for info in infos]),
        )
        for name in sorted(names)
    )


def configuration(loop: TrainingLoop) -> dict[str, Any]:
    """The settings really used, for rules and readers."""
    arguments, optimizer = loop.loader_arguments, loop.optimizer
    defaults = getattr(optimizer, "defaults", {})
    workers = loop.num_workers
    found = {
        "batch_size": arguments.get("batch_size"),
        "num_workers": workers,
        "prefetch_factor": (arguments.get("prefetch_factor") or 2) if workers else None,
        "pin_memory": bool(arguments.get("pin_memory")),
        "persistent_workers": bool(arguments.get("persistent_workers")) if workers else None,
        "precision": effective_precision(loop.device, loop.options.precision),
        "compile": loop.options.compile,
        "channels_last": loop.options.channels_last,
        "device": str(loop.device),
        "seed": loop.options.seed,
        "threads": torch.get_num_threads(),
        "optimizer": type(optimizer).__name__,
        "optimizer_foreach": defaults.get("foreach"),
        "optimizer_fused": defaults.get("fused"),
        "loader_kind": "iterable" if is_iterable(loop.workload.dataset) else "map",
        "dataset_size": _length(loop.workload.dataset),
    }
    if loop.arch is not None:
        found |= {"arch_every": loop.workload.arch_every, "arch_order": loop.workload.arch_order}
    return found


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except TypeError:
        return None


def _skipped(loop: TrainingLoop) -> dict[str, str]:
    """Files skipped when the dataset was made, and those met since."""
    return dict(getattr(loop.workload.dataset, "skipped", ())) | loop.steps.skipped


def _host_s(steps: Steps) -> Floats:
    return np.array([sum(step.host_s.values()) for step in steps.times])


def _tokens_per_sample(loop: TrainingLoop) -> float | None:
    """The sequence length where the model's first input is a matrix of integers."""
    if not loop.captured:
        return None
    inputs, _ = loop.unpack(loop.captured[0])
    first = next(tensors(inputs), None)
    if first is None or first.dim() != 2 or first.is_floating_point():
        return None
    return float(first.shape[1])


def _median(values: Floats | None) -> float | None:
    return None if values is None or values.size == 0 else float(np.nanmedian(values))
