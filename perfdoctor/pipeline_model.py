"""What a DataLoader would do with other settings: a simulation, and the step time it predicts.

The events are those of `pipeline_events`, the times those that were measured, drawn again. All
times are seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from perfdoctor.pipeline_events import in_step
from perfdoctor.pipeline_job import (
    DEFAULT_PREFETCH,
    HANDOVER_S,
    UNKNOWN_GROWTH,
    LoaderModel,
    Setting,
    handover_s,
)
from perfdoctor.pipeline_rows import DRAWN, Rows
from perfdoctor.pipeline_series import mean_error
from perfdoctor.record import Floats

__all__ = [
    "DEFAULT_PREFETCH",
    "HANDOVER_S",
    "UNKNOWN_GROWTH",
    "Gain",
    "LoaderModel",
    "Setting",
    "StepPrediction",
    "best_workers",
    "gains",
    "handover_s",
    "predict",
    "predict_all",
    "simulate",
]


#: No step is shorter, so that a training that would not take any time can still be divided by.
_SHORTEST_S = 1e-9


@dataclass(frozen=True)
class Gain:
    """Old ÷ new step time, and the ends that it should lie between."""

    speedup: float
    low: float
    high: float


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
    """How long each step waits for its batch if cores are plenty; both have one element a step.

    Without workers a batch is made when it is asked for, so the wait is `batch_s` itself.
    `start_s` passes before the first worker begins.
    """
    made, used = (np.array(list(v), dtype=np.float64)[None, :] for v in (batch_s, consume_s))
    if made.size != used.size:
        raise ValueError(f"{made.size} batches but {used.size} steps")
    if workers == 0 or not made.size:
        return made.reshape(-1)
    queue = np.array([workers]), np.array([workers * prefetch_factor])
    done_s: Floats = in_step(made, used, *queue)[0]
    waits: Floats = np.maximum(np.diff(done_s, prepend=0.0) - used.reshape(-1), 0.0)
    waits[0] += start_s
    return waits


def predict(
    model: LoaderModel,
    workers: int,
    prefetch_factor: int = DEFAULT_PREFETCH,
    persistent: bool = True,
) -> StepPrediction:
    """Mean step time with `workers`, whose start is paid every epoch unless `persistent`."""
    return predict_all(model, [Setting(workers, prefetch_factor, persistent)])[0]


def predict_all(model: LoaderModel, settings: Sequence[Setting]) -> list[StepPrediction]:
    """Mean step time of each setting, from one simulation of all of them.

    Optimistic: workers and training share the cores without loss. Estimate: parallel computing
    loses at its barriers while it does. Pessimistic: twice as much, and every allowance is at its
    worst. Both ends are widened by how far series that are drawn again differ, and by how well the
    measured means are known. Beside other ranks a step takes as long as the slowest rank's, since
    they meet in every step.
    """
    if not settings:
        return []
    step_s = Rows(model, settings).mean_steps()
    drawn_s, ends = step_s[:DRAWN], step_s[DRAWN:]
    likely = drawn_s.mean(axis=0)
    safe = np.where(likely > 0, likely, 1.0)
    known = 1 + max(mean_error(model.batch_s), mean_error(model.consume_s))
    low, high = drawn_s.min(axis=0) / safe / known, drawn_s.max(axis=0) / safe * known
    best = np.minimum(np.minimum(ends.min(axis=0), likely) * low, likely)
    worst = np.maximum(np.maximum(ends.max(axis=0), likely) * high, likely)
    return [
        StepPrediction(float(e), float(o), float(p))
        for e, o, p in zip(likely, best, worst, strict=True)
    ]


def gains(
    model: LoaderModel, now: Setting, then: Sequence[Setting], measured_s: float | None = None
) -> list[Gain]:
    """Step time now ÷ then for each setting; both with the same draws and allowances.

    Where a step was `measured_s` to take longer than the model makes of `now`, the rest stays as
    it is; where it took less, it counts as measured.
    """
    step_s = Rows(model, [now, *then]).mean_steps()
    modelled_s = float(step_s[:DRAWN, 0].mean())
    from_s = modelled_s if measured_s is None else measured_s
    rest_s = max(0.0, from_s - modelled_s)
    scale = min(1.0, _ratio(from_s, modelled_s))
    likely = [_ratio(from_s, float(s) + rest_s) for s in step_s[:DRAWN, 1:].mean(axis=0)]
    ratios = (step_s[:, :1] * scale + rest_s) / np.maximum(step_s[:, 1:] + rest_s, _SHORTEST_S)
    return [
        Gain(one, min(one, float(column.min())), max(one, float(column.max())))
        for one, column in zip(likely, ratios.T, strict=True)
    ]


def _ratio(part: float, whole: float) -> float:
    return part / max(whole, _SHORTEST_S)


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
    numbers = sorted(set(candidates))
    found = predict_all(model, [Setting(w, prefetch_factor, persistent) for w in numbers])
    limit = min(one.estimate_s for one in found) * (1 + tolerance)
    return next(w for w, one in zip(numbers, found, strict=True) if one.estimate_s <= limit)
