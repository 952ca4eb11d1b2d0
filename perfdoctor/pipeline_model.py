"""What a DataLoader would do with other settings: a simulation, and the step time it predicts.

The simulation follows `torch.utils.data.dataloader._MultiProcessingDataLoaderIter`: worker w makes
batches w, w + W, w + 2W, …; W × prefetch_factor batches are asked for ahead; batches are handed
over in order; the next one is asked for when one is taken. All times are seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from perfdoctor.record import Floats

#: torch's default where workers are used (`DataLoader(prefetch_factor=None)`).
DEFAULT_PREFETCH = 2
#: Taking a finished batch out of the queue. Measured with torch 2.13 on two cores, two tensors a
#: batch: 0.5 ms for 1 KB, 1.3 ms for 1.5 MB, 7 ms for 20 MB; the allowances below span these.
HANDOVER_S = 1e-3
#: Steps that are simulated; long enough for 64 workers to take eight turns.
_STEPS = 512


@dataclass(frozen=True)
class _Allowance:
    """Factors for what the model cannot know.

    `in_worker` is for batches that were timed in the loop; `barriers` weighs what parallel
    computing loses when it shares its cores, None standing for no loss of any kind.
    """

    in_worker: float
    handover: float
    barriers: float | None


#: Optimistic, likely, pessimistic. Chosen on sweeps of 0–2 workers over sixteen small trainings on
#: two cores, where batches took up to 16 % longer in a worker, and threads that filled the cores
#: computed three to five times as long beside busy workers.
_ALLOWANCES = (
    _Allowance(in_worker=1.0, handover=0.2, barriers=None),
    _Allowance(in_worker=1.05, handover=1.0, barriers=1.0),
    _Allowance(in_worker=1.2, handover=5.0, barriers=2.0),
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
        cores: cores this training may use, fractions of a quota included.
        workers: how many workers there were when the times were measured.
        handover_s: taking a finished batch from a worker.
        steps_per_epoch: the pipeline is empty again after so many steps; None: never.
        start_s: making the workers, paid once an epoch unless they persist.
    """

    batch_s: Floats = field(repr=False)
    consume_s: Floats = field(repr=False)
    batch_cpu_s: float
    compute_cpu_s: float
    cores: float
    workers: int
    handover_s: float = HANDOVER_S
    steps_per_epoch: int | None = None
    start_s: float = 0.0


@dataclass(frozen=True)
class StepPrediction:
    """Mean step time of a configuration, and the ends that it should lie between."""

    estimate_s: float
    optimistic_s: float
    pessimistic_s: float


def simulate(
    batch_s: Iterable[float],
    consume_s: Iterable[float],
    workers: int,
    prefetch_factor: int = DEFAULT_PREFETCH,
    start_s: float = 0.0,
) -> Floats:
    """How long each step waits for its batch; both series have one element a step.

    Without workers a batch is made when it is asked for, so the wait is `batch_s` itself.
    `start_s` passes before the first worker begins.
    """
    made, used = [float(v) for v in batch_s], [float(v) for v in consume_s]
    if len(made) != len(used):
        raise ValueError(f"{len(made)} batches but {len(used)} steps")
    waits = made if workers == 0 else _waits(made, used, workers, prefetch_factor, start_s)
    return np.array(waits, dtype=np.float64)


def _waits(
    made: list[float], used: list[float], workers: int, prefetch_factor: int, start_s: float
) -> list[float]:
    ahead = workers * prefetch_factor
    ready: list[float] = []
    taken: list[float] = []
    waits: list[float] = []
    now = 0.0
    for k, seconds in enumerate(made):
        idle_from = ready[k - workers] if k >= workers else start_s
        asked_at = taken[k - ahead] if k >= ahead else 0.0
        ready.append(max(idle_from, asked_at) + seconds)
        waits.append(max(0.0, ready[k] - now))
        taken.append(max(now, ready[k]))
        now = taken[k] + used[k]
    return waits


def predict(
    model: LoaderModel,
    workers: int,
    prefetch_factor: int = DEFAULT_PREFETCH,
    persistent: bool = True,
) -> StepPrediction:
    """Mean step time with `workers`, whose start is paid every epoch unless `persistent`.

    The step is what the simulation says, or longer where workers and training have to share the
    cores. Optimistic: they share them without loss. Estimate: they take turns in fair shares,
    and parallel computing loses at its barriers. Pessimistic: it loses twice as much there, and
    every allowance is at its worst.
    """
    if workers == 0:
        step_s = float(model.batch_s.mean() + model.consume_s.mean())
        return StepPrediction(step_s, step_s, step_s)
    setting = (workers, prefetch_factor, 0.0 if persistent else model.start_s)
    best_s, likely_s, worst_s = (_mean_step_s(model, setting, a) for a in _ALLOWANCES)
    return StepPrediction(likely_s, min(best_s, likely_s), max(worst_s, likely_s))


def _mean_step_s(model: LoaderModel, setting: tuple[int, int, float], allow: _Allowance) -> float:
    workers, undisturbed = setting[0], _undisturbed(model)
    in_worker = 1.0 if model.workers else allow.in_worker
    batch_s = model.batch_s * (in_worker * _among_workers(model, workers))
    consume_s = model.consume_s * undisturbed + model.handover_s * allow.handover
    batch_cpu_s = model.batch_cpu_s * in_worker
    by_cores_s = (model.compute_cpu_s * undisturbed + batch_cpu_s) / model.cores
    step_s = max(by_cores_s, _simulated_s(model, batch_s, consume_s, setting))
    if allow.barriers is None:
        return step_s
    sharing = _Sharing.of(model, workers, allow.barriers)
    return max(step_s, sharing.step_s(float(consume_s.mean()), batch_cpu_s))


def _simulated_s(
    model: LoaderModel, batch_s: Floats, consume_s: Floats, setting: tuple[int, int, float]
) -> float:
    """Simulated mean over an epoch; without epochs, after the pipeline has filled."""
    workers, prefetch_factor, start_s = setting
    steps = _simulated_steps(model, workers * prefetch_factor)
    repeated = np.resize(batch_s, steps), np.resize(consume_s, steps)
    waits = simulate(*repeated, workers, prefetch_factor)
    if model.steps_per_epoch is None:
        settled = min(workers * prefetch_factor, steps // 2)
        return float(consume_s.mean() + waits[settled:].mean())
    first_s = (waits[0] + start_s) / model.steps_per_epoch
    rest_s = waits[1:].mean() * (1 - 1 / model.steps_per_epoch) if steps > 1 else 0.0
    return float(consume_s.mean() + first_s + rest_s)


def _among_workers(model: LoaderModel, workers: int) -> float:
    """How much slower than measured a batch is because more workers share the cores."""
    now = max(1.0, _busy_cores(model, model.workers) / model.cores)
    return max(1.0, _busy_cores(model, workers) / model.cores / now)


def _busy_cores(model: LoaderModel, workers: int) -> float:
    batch_s = float(model.batch_s.mean())
    return workers * min(1.0, model.batch_cpu_s / batch_s) if batch_s > 0 else 0.0


@dataclass(frozen=True)
class _Sharing:
    """How training and workers run at the same time.

    Attributes:
        slowdown: of the training, while workers are busy.
        rate: processor seconds that workers get per second, while the training computes.
        rate_alone: and while it does not.
    """

    slowdown: float
    rate: float
    rate_alone: float

    @classmethod
    def of(cls, model: LoaderModel, workers: int, barriers: float) -> _Sharing:
        """With fair shares of the cores.

        Parallel work goes on when all its threads have reached the barrier, and each of them may
        be off its core, where a worker runs, while the others spin. Hence the loss on top of the
        fair share; the more of the cores the training fills, the larger.
        """
        consume_s = float(model.consume_s.mean())
        used = min(model.cores, model.compute_cpu_s / consume_s) if consume_s > 0 else 0.0
        active = max(1.0, _busy_cores(model, workers))  # workers that wait still come one by one
        crowd = (active + used) / model.cores
        rate_alone = min(active, model.cores)
        if crowd <= 1:
            return cls(1.0, rate_alone, rate_alone)
        parallel = max(0.0, used - 1) / (model.cores - 1) if model.cores > 1 else 0.0
        return cls(crowd * (1 + barriers * parallel), active / crowd, rate_alone)

    def step_s(self, consume_s: float, batch_cpu_s: float) -> float:
        """A step in which `batch_cpu_s` of work is done by workers beside the training."""
        overlap_s, longest_s = batch_cpu_s / self.rate, consume_s * self.slowdown
        if overlap_s <= longest_s:
            return consume_s + overlap_s * (1 - 1 / self.slowdown)
        return longest_s + (batch_cpu_s - longest_s * self.rate) / self.rate_alone

    def undisturbed_s(self, consume_s: float, batch_cpu_s: float) -> float:
        """What a training measured beside workers would take without them."""
        overlap_s = batch_cpu_s / self.rate
        partly_s = consume_s - overlap_s * (1 - 1 / self.slowdown)
        return max(partly_s, consume_s / self.slowdown)


def _undisturbed(model: LoaderModel) -> float:
    """The training's time without workers ÷ as measured."""
    consume_s = float(model.consume_s.mean())
    if model.workers == 0 or consume_s <= 0:
        return 1.0
    now = _Sharing.of(model, model.workers, barriers=1.0)
    return now.undisturbed_s(consume_s, model.batch_cpu_s) / consume_s


def _simulated_steps(model: LoaderModel, ahead: int) -> int:
    longest = max(_STEPS, 4 * ahead)
    return min(longest, model.steps_per_epoch or longest)


def best_workers(
    model: LoaderModel,
    candidates: Iterable[int],
    prefetch_factor: int = DEFAULT_PREFETCH,
    persistent: bool = True,
    tolerance: float = 0.03,
) -> int:
    """The fewest of `candidates` whose estimate is within `tolerance` of the best.

    3 %: the median of identical blocks varied by 2.1 % on a loaded two-core machine, so a smaller
    difference does not pay for another process and its memory.
    """
    step_s = {w: predict(model, w, prefetch_factor, persistent).estimate_s for w in candidates}
    limit = min(step_s.values()) * (1 + tolerance)
    return min(w for w, seconds in step_s.items() if seconds <= limit)
