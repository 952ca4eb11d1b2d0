"""How many workers and cores keep a GPU busy, whatever this machine has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from perfdoctor.pipeline_model import LoaderModel, Setting, predict_all

#: A GPU that is busy for so much of the time is fed well enough: MLPerf Storage passes a system
#: from 90 % on.
WELL_FED = 0.90
#: Gains below this cannot be told from noise: the median of identical blocks varied by 2.1 %.
NOTHING = 1.03
#: Workers for each GPU beyond which nobody looks.
_MOST_WORKERS = 64
#: Cores that mean: as many as anything could use.
_PLENTY = 1e6


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What keeps one GPU busy for 90 % of the time, with `batch_size` and as many `gpus`.

    Epochs are taken to be long: the wait for the first batch of each is not counted.

    Attributes:
        workers: of each GPU; None: no number of them does. cores: likewise, the training's own
            process included. busy_cores: what is used of them then.
        step_s: the step that nothing is waited for in.
        handed_s: the step whose batches cost nothing but being handed over by a worker.
        here_workers, here_speedup: the fewest workers within 3 % of the best of those that
            `here_cores` in all allow, and its samples per second ÷ the measured settings'.
    """

    gpus: int
    batch_size: int
    workers: int | None
    cores: int | None
    busy_cores: float | None
    step_s: float
    handed_s: float
    here_cores: float
    here_workers: int
    here_speedup: float


def needed(
    model: LoaderModel,
    asked: Setting,
    size: tuple[int, int, float],
    before: tuple[int, float],
) -> Needs:
    """Workers first, with as many cores as they want; then the fewest cores that do as well.

    `size`: batch size of each GPU, GPUs and cores. `before`: samples and seconds of a step as
    measured.
    """
    base = replace(asked, persistent=True, steps_per_epoch=0)
    batch_size, gpus, cores = size
    handed = replace(fed(base), workers=1, prefetch_factor=2)
    fed_s, handed_s = (one.estimate_s for one in predict_all(model, [fed(base), handed]))
    steps = _step_s(model, base, range(_MOST_WORKERS + 1), _PLENTY)
    workers = next((n for n, step_s in enumerate(steps) if fed_s >= WELL_FED * step_s), None)
    most = max(1, math.floor(cores / gpus))
    found = _step_s(model, asked, range(most + 1), asked.cores)
    best = next(n for n, step_s in enumerate(found) if step_s <= min(found) * NOTHING)
    return Needs(
        gpus=gpus,
        batch_size=batch_size,
        workers=workers,
        cores=None if workers is None else _cores_for(model, base, workers, fed_s),
        busy_cores=None if workers is None else _busy(model, base, steps[workers]),
        step_s=fed_s,
        handed_s=handed_s,
        here_cores=cores,
        here_workers=best,
        here_speedup=before[1] / found[best] * batch_size * gpus / before[0],
    )


def fed(setting: Setting) -> Setting:
    """The same where batches cost nothing and are there, on cores of its own: what the step
    computes. A worker would have to hand its batches over, which is waited for too."""
    return replace(setting, workers=0, load=0.0, cores=_PLENTY, persistent=True)


def _step_s(
    model: LoaderModel, base: Setting, workers: Sequence[int], cores: float | None
) -> list[float]:
    asked = [replace(base, workers=n, cores=cores) for n in workers]
    return [one.estimate_s for one in predict_all(model, asked)]


def _cores_for(model: LoaderModel, base: Setting, workers: int, fed_s: float) -> int | None:
    """The fewest whole cores of one GPU with which so many workers, or two more, do."""
    work = model.work
    most = math.ceil(workers * work.worker_share + work.threads) + 1
    counts, more = range(1, most + 1), (workers, min(_MOST_WORKERS, workers + 2))
    asked = [
        replace(base, workers=n, cores=float(c * (base.ranks or 1))) for c in counts for n in more
    ]
    steps = np.array([one.estimate_s for one in predict_all(model, asked)])
    best = steps.reshape(len(counts), len(more)).min(axis=1)
    return next((c for c, s in zip(counts, best, strict=True) if fed_s >= WELL_FED * s), None)


def _busy(model: LoaderModel, base: Setting, step_s: float) -> float:
    """Cores in use on average: processor time of a step ÷ its time."""
    work = model.work
    loading_s = float(model.batch_s.mean()) * work.batch * work.worker_share * base.batch
    computing_s = float(model.consume_s.mean()) * work.step * work.threads
    growth = float(base.batch ** model.growth[0])
    return (loading_s + computing_s * growth) / step_s if step_s > 0 else 0.0
