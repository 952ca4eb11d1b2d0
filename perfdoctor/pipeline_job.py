"""A measured training and the settings to predict, as the pipeline model takes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from perfdoctor.pipeline_events import Demand, run
from perfdoctor.pipeline_series import drawn
from perfdoctor.record import Floats

#: torch's default where workers are used (`DataLoader(prefetch_factor=None)`).
DEFAULT_PREFETCH = 2
#: Taking a finished batch out of the queue. Measured with torch 2.13 on two cores, two tensors a
#: batch: 0.5 ms for 1 KB, 1.3 ms for 1.5 MB, 7 ms for 20 MB; so a start and a time for each byte.
#: Where the size is not known it is between, and the allowances below span these.
HANDOVER_S = 1e-3
_HANDOVER_LEAST_S, _HANDOVER_S_PER_BYTE = 0.5e-3, 0.35e-9
#: A step's time ∝ batch size to this power, likely, least and most, where it was not measured: as
#: much longer as the batch is larger, or no longer at all, as on a GPU that is not full.
UNKNOWN_GROWTH = (1.0, 0.0, 1.0)
#: Turns in which the times without sharing are found; on the tests' cases it settles in three.
_TURNS = 4
#: From this part of their time on the cores are what is waited for (gpuprof and loadtune call
#: workers bound by the processor from 80 %).
_BUSY = 0.8
#: Steps in which they are found.
_STEPS = 192


def handover_s(batch_bytes: float | None) -> float:
    """Seconds for taking a batch of that size, or of an unknown one, from a worker."""
    if batch_bytes is None:
        return HANDOVER_S
    return _HANDOVER_LEAST_S + _HANDOVER_S_PER_BYTE * batch_bytes


@dataclass(frozen=True)
class Allowance:
    """Factors for what the model cannot know.

    `in_worker` is for batches that were timed in the loop; `barriers` weighs what parallel
    computing loses when it shares its cores; `start` is for starts that were not measured;
    `growth` is which end of `LoaderModel.growth` counts (−1 fast, 0 likely, 1 slow).
    """

    in_worker: float
    handover: float
    barriers: float
    start: float
    growth: int


#: Likely, optimistic, pessimistic. Chosen on sweeps of 0–2 workers over sixteen small trainings on
#: two cores, where batches took up to 16 % longer in a worker, and threads that filled the cores
#: computed three to five times as long beside busy workers. A start: see `_START_S`.
LIKELY = Allowance(in_worker=1.05, handover=1.0, barriers=1.0, start=1.0, growth=0)
ENDS = (
    Allowance(in_worker=1.0, handover=0.2, barriers=0.0, start=0.5, growth=-1),
    Allowance(in_worker=1.2, handover=5.0, barriers=2.0, start=3.0, growth=1),
)


@dataclass(frozen=True)
class LoaderModel:
    """One training as the simulation sees it.

    Attributes:
        batch_s: one worker's time for a batch, one element a batch.
        consume_s: the rest of the step, one element a step; as long as `batch_s` or not.
        batch_cpu_s: processor time in `batch_s`.
        compute_cpu_s: processor time of the main process per step, all threads. Threads that spin
            while they wait inflate it, so it is an upper bound.
        cores: cores this training may use, fractions of a quota included; of all ranks together.
        workers: how many workers (of each rank) there were when the times were measured.
        handover_s: taking a finished batch from a worker. handover_known: it was measured.
        steps_per_epoch: the pipeline is empty again after so many steps; None: never.
        start_s: making the workers, paid once an epoch unless they persist; None: not measured.
        create_s: what the training's own process spends on each of them, one after the other.
        end_s: waiting for them to end, paid as often; None: not measured.
        fresh_s: what a start as a new interpreter takes where starts were not measured; None: the
            workers are forked.
        steps_in_all: of the whole run, in which workers that persist are started once; None: not
            known, so many that it does not count.
        prefetch_factor, ranks: as when the times were measured.
        sample_spread: see `pipeline_series.rebatched`.
        growth: the step's time ∝ batch size to this power: likely, least, most.
    """

    batch_s: Floats = field(repr=False)
    consume_s: Floats = field(repr=False)
    batch_cpu_s: float
    compute_cpu_s: float
    cores: float
    workers: int
    handover_s: float = HANDOVER_S
    handover_known: bool = False
    steps_per_epoch: int | None = None
    start_s: float | None = None
    create_s: float | None = None
    end_s: float | None = None
    fresh_s: float | None = None
    steps_in_all: int | None = None
    prefetch_factor: int = DEFAULT_PREFETCH
    ranks: int = 1
    sample_spread: float = 0.0
    growth: tuple[float, float, float] = UNKNOWN_GROWTH

    @cached_property
    def work(self) -> Work:
        """What there is to do, had everything the cores that it wants to itself."""
        return _work(self)


@dataclass(frozen=True)
class Work:
    """Factors on the measured series, and what the work asks of the cores (see `Demand`)."""

    batch: float
    step: float
    worker_share: float
    threads: float


@dataclass(frozen=True)
class Setting:
    """A configuration to predict.

    Attributes:
        workers: of each rank. batch: batch size of each rank ÷ the measured one.
        cores: of all ranks together; None: as measured. ranks: likewise.
        steps_per_epoch: None: as measured; 0: in the middle of an epoch that does not end.
        load, compute: factors on making a batch and on the rest of the step.
    """

    workers: int
    prefetch_factor: int = DEFAULT_PREFETCH
    persistent: bool = True
    batch: float = 1.0
    cores: float | None = None
    ranks: int | None = None
    steps_per_epoch: int | None = None
    load: float = 1.0
    compute: float = 1.0

    @property
    def ahead(self) -> int:
        """How many batches are made ahead."""
        return self.workers * self.prefetch_factor


def _work(model: LoaderModel) -> Work:
    """Times without sharing, of which the simulation makes the measured ones again.

    What a batch takes beyond its processor time is waiting: for a disk, or for a core, and the
    second is as much as the simulation says.
    """
    batch_s, consume_s = float(model.batch_s.mean()), float(model.consume_s.mean())
    cores = model.cores / model.ranks
    of_batch = of_step = 1.0
    if _cores_busy(model, cores) >= _BUSY:  # then nothing but a core is waited for
        of_batch = min(1.0, _ratio(model.batch_cpu_s, batch_s))
    work = Work(1.0, 1.0, 0.0, 0.0)
    for _ in range(_TURNS):
        share = _ratio(model.batch_cpu_s, batch_s * of_batch)
        threads = _ratio(model.compute_cpu_s, consume_s * of_step)
        work = Work(of_batch, of_step, min(1.0, share), min(cores, threads))
        stretch = _stretch(model, work, cores)
        if max(abs(of_batch * stretch[0] - 1), abs(of_step * stretch[1] - 1)) < 1e-3:
            break
        of_batch = max(1 / stretch[0], min(1.0, _ratio(model.batch_cpu_s, batch_s)))
        of_step = 1 / stretch[1]
    return work


def _cores_busy(model: LoaderModel, cores: float) -> float:
    """Processor time of a step beside workers ÷ what the cores had in that time."""
    if model.workers == 0:
        return 0.0
    step_s = max(float(model.consume_s.mean()), float(model.batch_s.mean()) / model.workers)
    return _ratio(model.batch_cpu_s + model.compute_cpu_s, step_s * cores)


def _stretch(model: LoaderModel, work: Work, cores: float) -> tuple[float, float]:
    """Time ÷ work of workers and training, as they were measured."""
    one = (np.array([v]) for v in (work.worker_share, work.threads, cores, LIKELY.barriers))
    demand, workers = Demand(*one), np.array([model.workers])
    if model.workers == 0:
        sharing = demand.sharing(1)
        return 1 / float(sharing.worker[0, 1, 0]), 1 / float(sharing.main[0, 0, 1])
    if not demand.crowded(workers)[0]:
        return 1.0, 1.0
    made_s = drawn(model.batch_s * work.batch, 1, _STEPS)
    used_s = drawn(model.consume_s * work.step, 1, _STEPS) + model.handover_s
    course = run(
        made_s, used_s, workers, workers * model.prefetch_factor, demand.sharing(model.workers)
    )
    return float(course.worker_stretch[0]), float(course.main_stretch[0])


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
