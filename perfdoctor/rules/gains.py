"""What a change would bring: predictions from probes, and from the pipeline model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfdoctor.pipeline_model import LoaderModel, Setting, StepPrediction, gains, predict_all
from perfdoctor.report import Evidence, Prediction
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.loader_facts import persistent, prefetch_factor
from perfdoctor.rules.logs import training_share
from perfdoctor.rules.observed import beside_steps, of_training
from perfdoctor.rules.steadiness import median_half_width
from perfdoctor.stats import amdahl, relative_half_width

#: The name of the model that loaders are predicted with.
PIPELINE = "pipeline model"
#: And where it only knows the most that can be gained.
PIPELINE_BOUND = "pipeline-upper-bound"
#: Room left above what the loader was seen to deliver, for the upper end of an interval.
_CAPACITY_ERROR = 1.1
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
    """Only `left` (0–1) of a stage's work remains; exact but for the stage's own share."""
    share = facts.number(f"stages.{stage}.share") * training_share(facts)
    error = share * _half_width(facts, f"stages.{stage}")
    shares = (share, max(0.0, share - error), min(1.0, share + error))
    speedups = [1 / (1 - s * (1 - left)) for s in shares]
    return _within_loader(facts, _prediction(speedups, "amdahl-exact"))


def from_loader(
    facts: Facts, model: LoaderModel, workers: int, prefetch: int, load: float = 1.0
) -> Prediction:
    """What the training gains with this setting, workers kept between epochs if possible."""
    kept = persistent(facts) or not model.workers
    return from_settings(facts, model, [Setting(workers, prefetch, kept, load=load)])[0]


def from_settings(
    facts: Facts, model: LoaderModel, settings: Sequence[Setting], *, less_work: bool = False
) -> list[Prediction]:
    """What the training gains with each of these settings, start-up of workers included.

    The interval is the model's own and how well the measured step is known. With `less_work`
    nothing can become slower, and what is not known of the step is as much of the gain.
    """
    error = min(_UNKNOWN_HALF_WIDTH, median_half_width(facts))
    found = gains(model, setting_now(facts, model), settings, facts.number("steps.time.mean_s"))
    guesses = [
        Prediction(
            speedup=gain.speedup,
            low=max(1.0, gain.low) ** (1 - error) if less_work else gain.low / (1 + error),
            high=gain.high ** (1 + error) if less_work else gain.high * (1 + error),
            model=PIPELINE,
        )
        for gain in found
    ]
    return [of_training(guess, beside_steps(facts)) for guess in guesses]


def setting_now(facts: Facts, model: LoaderModel) -> Setting:
    """The settings that were measured."""
    return Setting(model.workers, prefetch_factor(facts), persistent(facts))


def step_now(facts: Facts, model: LoaderModel) -> StepPrediction:
    """What the pipeline model makes of the settings that were measured."""
    return predict_all(model, [setting_now(facts, model)])[0]


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
