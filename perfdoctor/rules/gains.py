"""What a change would bring: predictions from probes, and from the pipeline model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from perfdoctor.pipeline_model import (
    DEFAULT_PREFETCH,
    HANDOVER_S,
    LoaderModel,
    StepPrediction,
    predict,
)
from perfdoctor.record import Floats
from perfdoctor.report import Evidence, Prediction
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.logs import training_share
from perfdoctor.rules.observed import beside_steps, is_run, of_training
from perfdoctor.rules.steadiness import median_half_width
from perfdoctor.stats import amdahl, relative_half_width

#: Room left above what the loader was seen to deliver, for the upper end of an interval.
_CAPACITY_ERROR = 1.1
#: Less than half a core is never assumed, however busy others are: the scheduler is fair.
_FEWEST_CORES = 0.5
#: Where a median has no interval of its own, and the most that one may add to a prediction.
_UNKNOWN_HALF_WIDTH = 0.25


@dataclass(frozen=True)
class ProbeFacts:
    """A probe and the share of the step that it affects."""

    speedup: float
    low: float
    high: float
    share: float
    stage: str


def probe(facts: Facts, name: str) -> ProbeFacts:
    """The probe `name`. Raises `Missing` if it, or every stage it affects, was not measured."""
    path = f"probes.{name}"
    speedup = facts.number(f"{path}.speedup")
    affected = facts.get(f"{path}.affects")
    shares = {s: facts.number(f"stages.{s}.share") for s in affected if facts.has(f"stages.{s}")}
    if not shares:
        raise Missing(f"stages.{affected[0] if affected else 'forward'}.share")
    low, high = facts.number(f"{path}.low"), facts.number(f"{path}.high")
    total = min(1.0, sum(shares.values()))
    return ProbeFacts(speedup, low, high, total, max(shares, key=lambda s: shares[s]))


def probe_evidence(facts: Facts, measured: ProbeFacts, metric: str) -> Evidence:
    """The probe's ratio beside the threshold that its lower end must pass."""
    limit = facts.threshold("probe_low")
    return Evidence(metric=metric, value=measured.speedup, unit="×", threshold=limit)


def from_probe(facts: Facts, measured: ProbeFacts) -> Prediction:
    """Amdahl's law over the affected stages, with the intervals of the probe and of the share."""
    error = min(_UNKNOWN_HALF_WIDTH, median_half_width(facts))
    shares = (measured.share * (1 - error), min(1.0, measured.share * (1 + error)))
    ends = [amdahl(share, s) for share in shares for s in (measured.low, measured.high)]
    likely = amdahl(measured.share, measured.speedup)
    return _within_loader(facts, _prediction([likely, *ends], "amdahl-probe"))


def from_less_work(facts: Facts, stage: str, left: float) -> Prediction:
    """Only `left` (a share) of a stage's work remains; exact but for the stage's own share."""
    share = facts.number(f"stages.{stage}.share") * training_share(facts)
    error = share * _half_width(facts, f"stages.{stage}")
    shares = (share, max(0.0, share - error), min(1.0, share + error))
    speedups = [1 / (1 - s * (1 - left)) for s in shares]
    return _within_loader(facts, _prediction(speedups, "amdahl-exact"))


def loader_model(facts: Facts) -> LoaderModel:
    """The pipeline model of this run. Raises `Missing` where the loader was not measured.

    Of an observed script without workers, or without a DataLoader, the waits are the batches.
    """
    in_loop = is_run(facts) and not facts.known("configuration.num_workers")
    workers = 0 if in_loop else int(facts.number("configuration.num_workers"))
    wait_s = np.nan_to_num(facts.series("data_loading_s"))
    batch_s = wait_s if in_loop else _batch_s(facts)
    consume_s = np.maximum(0.0, facts.series("step_s") - wait_s)
    compute_cpu_s, cores = _compute_cpu_s(facts, float(consume_s.mean())), free_cores(facts)
    if is_run(facts) and consume_s.mean() > 0:  # what it was seen to use, it has
        seen = min(compute_cpu_s / float(consume_s.mean()), _usable(facts))
        cores = max(cores, seen)
    return LoaderModel(
        batch_s=batch_s,
        consume_s=consume_s,
        batch_cpu_s=_batch_cpu_s(facts, batch_s, in_loop),
        compute_cpu_s=compute_cpu_s,
        cores=cores,
        workers=workers,
        handover_s=_handover_s(wait_s) if workers else HANDOVER_S,
        steps_per_epoch=_steps_per_epoch(facts),
        start_s=_worker_start_s(facts, float(np.median(batch_s))) if workers else 0.0,
    )


def from_loader(facts: Facts, model: LoaderModel, workers: int, prefetch: int) -> Prediction:
    """The pipeline model's step now ÷ with this setting, workers kept between epochs if possible.

    The estimate starts from the model or the measurement, whichever promises less. The interval
    holds the model's own ends, how far it is from what was measured, and how well that is known.
    """
    modelled_s = step_now(facts, model).estimate_s
    measured_s = facts.number("steps.time.mean_s")
    now_s = min(modelled_s, measured_s)
    then = predict(model, workers, prefetch, persistent=persistent(facts) or not model.workers)
    known = 1 + min(_UNKNOWN_HALF_WIDTH, median_half_width(facts))
    predicted = Prediction(
        speedup=now_s / then.estimate_s,
        low=now_s / then.pessimistic_s / known,
        high=max(modelled_s, measured_s) / then.optimistic_s * known,
        model="pipeline",
    )
    return of_training(predicted, beside_steps(facts))


def step_now(facts: Facts, model: LoaderModel) -> StepPrediction:
    """What the pipeline model makes of the settings that were measured."""
    return predict(model, model.workers, prefetch_factor(facts), persistent(facts))


def prefetch_factor(facts: Facts) -> int:
    """Batches that each worker makes ahead."""
    path = "configuration.prefetch_factor"
    return int(facts.number(path)) if facts.has(path) else DEFAULT_PREFETCH


def persistent(facts: Facts) -> bool:
    """Whether the workers outlive an epoch; torch's default is that they do not."""
    path = "configuration.persistent_workers"
    return facts.has(path) and facts.flag(path)


def whole_cores(facts: Facts) -> int:
    """Cores this training may use, whole ones, at least one."""
    return max(1, math.floor(facts.number("environment.cores_usable")))


def free_cores(facts: Facts) -> float:
    """Usable cores less what other processes took of them while this was measured."""
    taken = 0.0
    if facts.has("utilisation.cpu_foreign.mean"):
        taken = facts.number("utilisation.cpu_foreign.mean") / 100
    return max(_FEWEST_CORES, facts.number("environment.cores_usable") - taken)


def _usable(facts: Facts) -> float:
    return facts.number("environment.cores_usable")


def _prediction(speedups: list[float], model: str) -> Prediction:
    """The first is the estimate, the others are the ends."""
    return Prediction(speedup=speedups[0], low=min(speedups), high=max(speedups), model=model)


def _within_loader(facts: Facts, predicted: Prediction) -> Prediction:
    """No faster than the workers make batches: time they hid would come to light."""
    if not (facts.has("loader.batch.mean_s") and facts.has("configuration.num_workers")):
        return predicted
    workers = facts.number("configuration.num_workers")
    most = workers * facts.number("steps.time.mean_s") / facts.number("loader.batch.mean_s")
    if workers == 0 or most >= predicted.high:
        return predicted
    ceiling = max(1.0, most)
    return Prediction(
        speedup=min(predicted.speedup, ceiling),
        low=min(predicted.low, ceiling),
        high=min(predicted.high, ceiling * _CAPACITY_ERROR),
        model=predicted.model,
    )


def _half_width(facts: Facts, path: str) -> float:
    """Half the interval of a median, as a share of it."""
    if not facts.has(f"{path}.p50_ci"):
        return _UNKNOWN_HALF_WIDTH
    low, high = facts.get(f"{path}.p50_ci")
    width = relative_half_width((low, high), facts.number(f"{path}.p50_s"))
    return min(_UNKNOWN_HALF_WIDTH, width)


def _batch_s(facts: Facts) -> Floats:
    if not facts.has("series.loader_batch_s"):
        return np.array([facts.number("loader.batch.p50_s")])
    batch_s = facts.series("loader_batch_s")
    return batch_s[np.isfinite(batch_s)]


def _batch_cpu_s(facts: Facts, batch_s: Floats, in_loop: bool) -> float:
    """A script's own batches count as computed where that was not measured.

    The part of the usual batch that is computing is taken for all of them.
    """
    if not in_loop:
        return facts.number("loader.batch_cpu_s")
    mean_s = float(batch_s.mean())
    cpu_s, usual_s = facts.known("loader.batch_cpu_s"), facts.known("loader.batch.p50_s")
    if cpu_s is None or not usual_s:
        return mean_s
    return mean_s * min(1.0, cpu_s / usual_s)


def _compute_cpu_s(facts: Facts, consume_s: float) -> float:
    """Without what idle threads spin away while the loop waits for data.

    Where an observed script's processor time is not known, all its threads count as busy.
    """
    if is_run(facts) and not facts.has("steps.cpu_s"):
        return facts.number("configuration.threads") * consume_s
    cpu_s = facts.number("steps.cpu_s")
    if not facts.has("configuration.threads"):
        return cpu_s
    return min(cpu_s, facts.number("configuration.threads") * consume_s)


def _handover_s(wait_s: Floats) -> float:
    """The shortest waits are for batches that were ready, unless every step has to wait."""
    return min(HANDOVER_S, float(np.percentile(wait_s, 5)))


def _steps_per_epoch(facts: Facts) -> int | None:
    path = "epochs.steps_per_epoch"
    return max(1, int(facts.number(path))) if facts.has(path) else None


def _worker_start_s(facts: Facts, batch_s: float) -> float:
    if persistent(facts) or not facts.has("epochs.start.p50_s"):
        return 0.0
    return max(0.0, facts.number("epochs.start.p50_s") - batch_s)
