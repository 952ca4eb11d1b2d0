"""What the rules about the loader's throughput have in common."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perfdoctor.pipeline_model import LoaderModel, best_workers, predict
from perfdoctor.report import Evidence, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.gains import from_loader
from perfdoctor.rules.loader_facts import (
    cores_taken,
    crowding,
    waits_for_storage,
    whole_cores,
)
from perfdoctor.rules.observed import is_run
from perfdoctor.rules.wording import percent

LOADER_CAUSE = "loader-throughput"
WAIT_SHARE = "stages.data_loading.share"
WORKERS = "configuration.num_workers"

#: A batch that takes this many medians is a stall and not just a large sample (our own choice).
_STALL = 5.0
#: From this share on the stalls, and not the batches between them, are what takes the time.
_MOSTLY = 0.5
MOST_WAITING_WORKERS = 32
_REMARKABLE = 1.1


def most_workers(facts: Facts) -> int:
    """Workers that the rule may recommend, by its threshold `workers_per_core`."""
    return max(1, int(whole_cores(facts) * facts.threshold("workers_per_core")))


def predict_gain(facts: Facts, model: LoaderModel, workers: int, ahead: int) -> Prediction:
    """Of the pipeline model; with stalls, each worker may have to pay for them again."""
    predicted = from_loader(facts, model, workers, ahead)
    if _stalled_share(model) < _MOSTLY:
        return predicted
    return replace(predicted, low=min(1.0, predicted.low))


def _stalled_share(model: LoaderModel) -> float:
    """How much of the time for making batches a few very slow ones take."""
    stalls = model.batch_s[model.batch_s > _STALL * np.median(model.batch_s)]
    return float(stalls.sum() / model.batch_s.sum())


def remarks(facts: Facts, model: LoaderModel) -> str:
    """What the number of workers alone does not tell."""
    return remark_on_stalls(model) or _remark_on_waiting(facts, model)


def remark_on_stalls(model: LoaderModel) -> str:
    """Where a few slow batches take most of the time; nothing where they do not."""
    share = _stalled_share(model)
    if share < _MOSTLY:
        return ""
    return (
        f" {percent(share)} of the loading time is in a few very slow batches: look what those do "
        "(opening a file or a shard?), and do it ahead or only once."
    )


def _remark_on_waiting(facts: Facts, model: LoaderModel) -> str:
    """Workers that wait for a disk or a network do not need a core each."""
    computing, most = model.batch_cpu_s / float(model.batch_s.mean()), most_workers(facts)
    if not waits_for_storage(facts, computing) or most >= MOST_WAITING_WORKERS:
        return ""
    if cores_taken(facts):
        return ""
    many = best_workers(model, range(most, MOST_WAITING_WORKERS + 1))
    gain = predict(model, most).estimate_s / predict(model, many).estimate_s
    if gain < _REMARKABLE:
        return ""
    return (
        f" Making a batch is {percent(1 - computing)} waiting, not computing, so here more workers "
        f"than cores help: about {gain:.1f}× more with num_workers={many}."
    )


def loader_evidence(facts: Facts) -> tuple[Evidence, ...]:
    """What every rule about the loader's throughput rests on."""
    limit = facts.thresholds.get("exposed_share")
    share = facts.number(WAIT_SHARE)
    of_batch = "loader.batch.p50_s"
    if is_run(facts) and not facts.has(of_batch):  # made in the loop: the wait is the batch
        of_batch = "stages.data_loading.p50_s"
    part = crowding(facts)
    crowded = (Evidence(metric="workers, of a step's processor time", value=part, unit="share"),)
    return (
        *(crowded if part > share else ()),
        Evidence(metric="wait for data", value=share, unit="share of step", threshold=limit),
        Evidence(metric="time to make a batch", value=facts.number(of_batch), unit="s"),
        Evidence(metric="workers", value=facts.number(WORKERS), unit=""),
        Evidence(metric="usable cores", value=facts.number("environment.cores_usable"), unit=""),
    )
