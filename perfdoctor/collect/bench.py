"""`perfdoctor bench`: one training, measured in the overlapped loop and stage by stage."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from perfdoctor.collect import alone, interrupts, memory
from perfdoctor.collect.assembly import (
    configuration,
    host_s,
    skipped_files,
    stage_series,
    tokens_per_sample,
)
from perfdoctor.collect.batches import bytes_in
from perfdoctor.collect.counters import disk_counters, torch_counters
from perfdoctor.collect.environment import describe_environment
from perfdoctor.collect.failures import OutOfMemoryError, worker_died, worker_failure
from perfdoctor.collect.hardware import HardwareSampler
from perfdoctor.collect.limits import compute_limit, pinned_copy_peak, sequential_read_peak
from perfdoctor.collect.loader import BatchInfo
from perfdoctor.collect.memory_search import largest_batch
from perfdoctor.collect.options import BenchOptions, Progress, no_progress
from perfdoctor.collect.pauses import CollectionWatch
from perfdoctor.collect.precision import effective_precision
from perfdoctor.collect.probes import COMPUTE, probe_all
from perfdoctor.collect.sampling import sample
from perfdoctor.collect.training import TrainingLoop
from perfdoctor.errors import PerfdoctorError, first_line
from perfdoctor.interrupts import undisturbed
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
from perfdoctor.stages import DATA_LOADING, H2D_COPY
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
    pauses: CollectionWatch = field(default_factory=CollectionWatch)
    counters: dict[str, float] = field(default_factory=dict)

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
        self.pauses.start()
        with self.hardware:
            self.sampling = sample(self.loop, budget_s, progress)
        self.pauses.stop()
        self.counters = self.pauses.counters() | torch_counters(self.loop.device)
        self.counters |= disk_counters(self.hardware.utilisation()) | self.hardware.counters()
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
            host_s=host_s(steps) if loop.device.type == "cuda" else None,
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
            tokens_per_sample=tokens_per_sample(loop),
            sampling=self.sampling,
            counters=self.counters,
            skipped=tuple(SkippedFile(path=p, reason=r) for p, r in skipped_files(loop).items()),
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
            create_s=self._create_s(),
            batch_bytes=bytes_in(self.loop.captured[0]) if self.loop.captured else None,
            alone_s=alone_s,
            alone_samples=sum(info.samples for info in alone_infos) or None,
            read_bytes_per_s=self._read_rate(lambda info: info.read_bytes),
            disk_bytes_per_s=self._read_rate(lambda info: info.disk_bytes),
        )

    def _create_s(self) -> Floats | None:
        """Only where every epoch creates its workers anew."""
        restarted = self.loop.num_workers and not self.loop.loader_arguments.get(
            "persistent_workers"
        )
        return np.array(self.loop.steps.create_s) if restarted else None

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
    with undisturbed() if interrupted else nullcontext():  # people press Ctrl-C twice
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


def _median(values: Floats | None) -> float | None:
    return None if values is None or values.size == 0 else float(np.nanmedian(values))
