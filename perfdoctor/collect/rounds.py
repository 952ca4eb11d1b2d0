"""Several configurations measured side by side, in interleaved blocks.

One configuration after the other would compare the machine's moods: on a loaded two-core machine
sequential means called "5 % faster" in 45 % of identical pairs. So every round steps each
configuration for a while, in turns forwards and backwards.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from perfdoctor.collect import interrupts, memory
from perfdoctor.collect.bench import Measurement, begin
from perfdoctor.collect.failures import worker_died, worker_failure
from perfdoctor.collect.hardware import HardwareSampler
from perfdoctor.collect.options import BenchOptions, Progress
from perfdoctor.collect.sampling import TARGET_SHARE
from perfdoctor.collect.training import TrainingLoop
from perfdoctor.compare.runs import block_rates
from perfdoctor.errors import PerfdoctorError
from perfdoctor.record import Run, Sampling, Source
from perfdoctor.workload import WorkloadFactory

#: The fewest pairs whose median has a 95 % interval without assuming a distribution.
ROUNDS = 6
_MIN_BLOCK_STEPS = 5
_LOOP_PART = 0.7


@dataclass(frozen=True)
class Case:
    """One configuration of a comparison and how tables call it."""

    label: str
    factory: WorkloadFactory
    options: BenchOptions


@dataclass(frozen=True)
class Outcome:
    """A case with what was measured, or with the reason why there is nothing."""

    case: Case
    run: Run | None = None
    error: str | None = None


def measure_rounds(cases: Sequence[Case], source: Source, progress: Progress) -> list[Outcome]:
    """Measures all cases in turns, then the stages alone of the best. Ctrl-C keeps what is made.

    Raises:
        PerfdoctorError: every case failed; the error is the first one's.
        KeyboardInterrupt: before the first round was complete.
    """
    idle = _memory_in_use()
    with interrupts.heeded():
        entries = [_set_up(case, source, progress, idle) for case in cases]
        interrupted = _rounds(entries, progress)
    alive = [e.measurement for e in entries if e.measurement is not None]
    if not alive and entries[0].error is not None:
        raise entries[0].error
    if not interrupted:
        _complete_best(alive, progress)
    return [
        Outcome(e.case, error=str(e.error))
        if e.measurement is None
        else Outcome(e.case, e.measurement.run())
        for e in entries
    ]


@dataclass
class _Entry:
    """A case in the making, or the error that ended it."""

    case: Case
    measurement: Measurement | None = None
    error: PerfdoctorError | None = None

    def attempt(self, work: Callable[[], None]) -> None:
        """Does `work`; what goes wrong ends this case and no other."""
        try:
            work()
        except PerfdoctorError as error:
            self._fail(error)
        except RuntimeError as error:
            if not worker_died(error):
                raise
            self._fail(worker_failure(error))

    def _fail(self, error: PerfdoctorError) -> None:
        """Keeps the error, but nothing that would keep the model and its activations alive."""
        error.__traceback__ = error.__cause__ = error.__context__ = None
        self.error, self.measurement = error, None


def _rounds(entries: list[_Entry], progress: Progress) -> bool:
    """Every round; whether Ctrl-C cut them short."""
    done = 0
    try:
        for number in range(ROUNDS):
            for position, entry in enumerate(entries[:: -1 if number % 2 else 1]):
                total, at = ROUNDS * len(entries), number * len(entries) + position
                progress(f"round {number + 1} of {ROUNDS}: {entry.case.label}", at, total)
                if entry.measurement is not None:
                    entry.attempt(partial(_block, entry.measurement, number))
            done += 1
    except KeyboardInterrupt:
        if done == 0:
            raise
    for entry in entries:
        if entry.measurement is not None:
            _seal(entry.measurement, done)
    return done < ROUNDS


def _complete_best(alive: list[Measurement], progress: Progress) -> None:
    """Ends the others' workers, and measures what is left to measure of the best."""
    columns = [m.loop.steps for m in alive]
    rates = [block_rates(c.step_s(), c.samples(), c.block_numbers()) for c in columns]
    best = max(range(len(alive)), key=lambda index: float(np.median(rates[index])))
    for index, measurement in enumerate(alive):
        if index != best:
            measurement.loop.close()
    alive[best].stages_alone(alive[best].loop.options.max_seconds, progress)
    alive[best].loop.close()


def _memory_in_use() -> dict[str, int]:
    gc.collect()
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        devices.append(torch.device("cuda"))
    for device in devices:
        memory.reset_peak(device)
    return {device.type: memory.current_bytes(device) for device in devices}


def _set_up(case: Case, source: Source, progress: Progress, idle: dict[str, int]) -> _Entry:
    """Builds the case and makes its first steps, which also tell its own share of the memory."""
    entry = _Entry(case)
    before = _memory_in_use()

    def build() -> None:
        measurement = begin(case.factory, case.options, source, progress)
        loop = measurement.loop
        loop.run_steps(_MIN_BLOCK_STEPS)
        loop.finish().drop_after(0)
        own = memory.peak_bytes(loop.device) - before.get(loop.device.type, 0)
        measurement.training_peak_bytes = own + idle.get(loop.device.type, 0)
        measurement.hardware = HardwareSampler(loop.device, loop.worker_pids)
        entry.measurement = measurement

    entry.attempt(build)
    return entry


def _block(measurement: Measurement, number: int) -> None:
    """Steps one configuration for its share of the time.

    While the others ran, its workers have filled their queues: those batches, and one step more,
    are trained on but not counted.
    """
    loop = measurement.loop
    loop.block = number
    kept = len(loop.steps.times)
    loop.run_steps(loop.queue_length + 1)
    loop.finish().drop_after(kept)
    cpu = time.process_time()
    assert measurement.hardware is not None
    with measurement.hardware:
        if loop.options.iterations is not None:
            loop.run_steps(math.ceil(loop.options.iterations / ROUNDS))
        else:
            _run_for(loop, _LOOP_PART * loop.options.max_seconds / ROUNDS)
    loop.finish()
    measurement.cpu_s += time.process_time() - cpu


def _run_for(loop: TrainingLoop, seconds: float) -> None:
    deadline = time.perf_counter() + seconds
    loop.run_steps(_MIN_BLOCK_STEPS)
    while time.perf_counter() < deadline:
        loop.run_steps(1)


def _seal(measurement: Measurement, rounds: int) -> None:
    """Keeps the complete rounds."""
    steps = measurement.loop.abandon()
    steps.drop_after(sum(block < rounds for block in steps.blocks))
    measurement.note_cpu(measurement.cpu_s)
    assert measurement.hardware is not None
    measurement.counters |= measurement.hardware.counters()
    complete = "budget" if measurement.loop.options.iterations is None else "iterations"
    measurement.sampling = Sampling(
        stop=complete if rounds == ROUNDS else "interrupted",
        target_share=TARGET_SHARE,
        seconds=float(steps.step_s().sum()),
    )
