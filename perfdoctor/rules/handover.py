"""PD115, PD118: finished batches that wait in line, or are slow to hand over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from perfdoctor.pipeline_model import LoaderModel, simulate
from perfdoctor.record import Floats
from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.gains import probe
from perfdoctor.rules.loader_advice import LOADER_CAUSE, WAIT_SHARE, WORKERS, loader_evidence
from perfdoctor.rules.loader_facts import loader_model, prefetch_factor
from perfdoctor.rules.measured import MEASURED, beside, torch_version
from perfdoctor.rules.observed import beside_steps, is_run, of_training, without
from perfdoctor.rules.wording import grouped, percent, seconds
from perfdoctor.stages import DATA_LOADING

#: DataLoader(in_order=False) came with this version.
_IN_ORDER = (2, 6)
_SIMULATED = 512
#: Of what is waited for beyond making a batch, so much goes with few tensors (our own choice).
_HANDED_OVER = (0.33, 0.8, 1.0)


class InOrderBlocking:
    """Finished batches wait behind a slow one, since batches are handed over in order.

    ## What it does
    Replays the measured times of batches and steps with and without the order of batches.

    ## Why it is slow
    A batch that takes long, with one large sample in it, holds up all that other workers have
    finished meanwhile, and the training waits with batches ready.

    ## Evidence and threshold
    The wait for data, and what the replay gains without the order.
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)
    - `gain` = 1.05 (source: twice the 2.1 % by which the median of identical blocks varied on a
      loaded two-core machine, rounded up)

    ## What to change
    `DataLoader(in_order=False)`; with samples of many lengths, batches of similar ones.

    ## How the gain is predicted
    The replay: each batch is taken by the first free worker and used when it is ready. The lower
    end is half of that gain.

    ## When not to
    Runs are then no longer the same from seed to seed, and long samples come later than short
    ones. It needs torch 2.6.
    """

    code: ClassVar[str] = "PD115"
    name: ClassVar[str] = "in-order-blocking"
    needs: ClassVar[tuple[str, ...]] = (WORKERS, WAIT_SHARE)
    verify_with: ClassVar[str | None] = "prefetch"
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"exposed_share": 0.10, "gain": 1.05}
    sources: ClassVar[tuple[str, ...]] = MEASURED

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the order alone makes the training wait."""
        workers, wait = int(facts.number(WORKERS)), facts.number(WAIT_SHARE)
        if workers < 2 or wait < facts.threshold("exposed_share"):
            return None
        if torch_version(facts) < _IN_ORDER:
            return None
        gain = _gain_without_order(loader_model(facts), prefetch_factor(facts))
        if gain < facts.threshold("gain"):
            return None
        predicted = Prediction(
            speedup=1 + 0.8 * (gain - 1), low=1 + 0.5 * (gain - 1), high=gain, model="pipeline"
        )
        return Finding(
            stage=DATA_LOADING,
            title=f"Finished batches wait behind slow ones: {percent(wait)} of each step waits",
            advice="Let the loader hand over whichever batch is ready (in_order=False), or put "
            "samples of similar length into one batch.",
            change={"in_order": False},
            snippet=f"loader = DataLoader(dataset, ..., num_workers={workers}, in_order=False)",
            evidence=(
                *loader_evidence(facts),
                beside(facts, "replayed without the order", gain, "×", "gain"),
            ),
            cause=self.cause,
            predicted=of_training(predicted, beside_steps(facts)),
            confidence=0.6,
            safety="semantics",
        )


class SlowHandover:
    """Handing batches from the workers to the training takes a visible part of making them.

    ## What it does
    Times how long one batch takes into shared memory and out of it, as it is and as one tensor.

    ## Why it is slow
    Each tensor of a batch becomes a file in shared memory and a message of its own. Batches of
    many tensors, one for each sample or field, pay for that hundreds of times.

    ## Evidence and threshold
    A probe, in pairs; the time for handing over beside that for making a batch; and the wait.
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)
    - `batch_share` = 0.1 (source: our own choice, half of the 20 % from which a stage is called
      high; PyTorch issue 24984 saw 40 to 100 ms where 5 were usual)
    - `ratio` = 1.2 (source: our own choice; the probe's lower end must pass it)

    Of an observed script, without a probe: its usual step waits longer than batches take to make,
    and the workers have nothing to do meanwhile, so that it is what lies between them.
    - `longer` = 2 (source: our own choice; times what nineteen of twenty batches take)
    - `idle` = 0.5 (source: our own choice; workers that hold the training up are busy most of the
      time)

    ## What to change
    Few, contiguous tensors: one for each field of the batch, with offsets where lengths differ.

    ## How the gain is predicted
    Amdahl's law over the wait for data, as far as handing over is a part of making a batch: what
    the probe gained of it, or half of that. Without a probe a third of what is waited for beyond
    making a batch goes, likely four fifths, at most all of it (our own choice).

    ## When not to
    Where the batch is large and already one tensor: then it is as fast as memory.
    """

    code: ClassVar[str] = "PD118"
    name: ClassVar[str] = "slow-handover"
    needs: ClassVar[tuple[str, ...]] = (WORKERS, WAIT_SHARE)
    verify_with: ClassVar[str | None] = "workers"
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {
        "exposed_share": 0.10,
        "batch_share": 0.10,
        "ratio": 1.2,
        "longer": 2.0,
        "idle": 0.5,
    }
    sources: ClassVar[tuple[str, ...]] = MEASURED

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if fewer tensors were measured to be handed over faster, and that matters."""
        workers, wait = facts.number(WORKERS), facts.number(WAIT_SHARE)
        if workers < 1 or wait < facts.threshold("exposed_share"):
            return None
        if is_run(facts):
            return _between(facts, wait)
        measured, path = probe(facts, "handover"), "probes.handover.details"
        handover_s, tensors = (facts.number(f"{path}.{n}") for n in ("handover_s", "tensors"))
        part = handover_s / (facts.number("loader.batch.p50_s") + handover_s)
        if part < facts.threshold("batch_share") or measured.low < facts.threshold("ratio"):
            return None
        gone = 1 - 1 / measured.speedup
        return Finding(
            stage=DATA_LOADING,
            title=f"Handing over a batch of {grouped(tensors)} tensors takes {seconds(handover_s)}"
            f", {percent(part)} of making it",
            advice="Collate into few contiguous tensors, one for each field of the batch.",
            change={"batch_tensors": "few"},
            snippet="return torch.cat(values), torch.tensor([len(v) for v in values])",
            evidence=(
                *loader_evidence(facts),
                beside(facts, "handing over, of making a batch", part, "share", "batch_share"),
                Evidence(metric="tensors in a batch", value=tensors, unit=""),
                Evidence(metric="a batch", value=facts.number(f"{path}.batch_bytes"), unit="bytes"),
            ),
            cause=self.cause,
            predicted=without(wait * part, 0.5 * gone, gone, gone),
            confidence=0.5,
            effort="lines",
        )


def _between(facts: Facts, wait: float) -> Finding | None:
    """PD118 of an observed script, by what neither the workers nor the training do."""
    waited_s = facts.number(f"stages.{DATA_LOADING}.p50_s")
    made_s, most_s = (facts.number(f"loader.batch.{name}") for name in ("p50_s", "p95_s"))
    idle, longer = facts.number("loader.idle_share"), waited_s / max(1e-9, most_s)
    if idle < facts.threshold("idle") or longer < facts.threshold("longer"):
        return None
    part = min(wait, waited_s / facts.number("steps.time.mean_s")) * (1 - made_s / waited_s)
    if part < facts.threshold("exposed_share"):
        return None
    return Finding(
        stage=DATA_LOADING,
        title=f"Handing batches over takes {seconds(waited_s - made_s)} of each step: they are "
        f"made in {seconds(made_s)}, and the workers have nothing to do {percent(idle)} of the "
        "time",
        advice="Collate into few contiguous tensors, one for each field of the batch: each tensor, "
        "also in lists and dictionaries, is handed over by itself. Where there are few already, "
        "make them smaller (8 bits until they are used).",
        change={"batch_tensors": "few"},
        snippet="return torch.cat(values), torch.tensor([len(v) for v in values])",
        evidence=(
            *loader_evidence(facts),
            beside(facts, "usual wait ÷ 19 of 20 batches", longer, "×", "longer"),
            beside(facts, "workers with nothing to do", idle, "share", "idle"),
            beside(facts, "waiting beyond making a batch", part, "share of step", "exposed_share"),
        ),
        cause=LOADER_CAUSE,
        predicted=of_training(without(part, *_HANDED_OVER), beside_steps(facts)),
        confidence=0.8,
        effort="lines",
    )


def _gain_without_order(model: LoaderModel, prefetch: int) -> float:
    """Steps' time in order ÷ with whichever batch is ready, for the measured times."""
    made = np.resize(model.batch_s, _SIMULATED)
    used = np.resize(model.consume_s, _SIMULATED)
    in_order_s = float(used.sum() + simulate(made, used, model.workers, prefetch).sum())
    return in_order_s / max(1e-9, _unordered_s(made, used, model.workers, prefetch))


def _unordered_s(made: Floats, used: Floats, workers: int, prefetch: int) -> float:
    """The time for all steps where the first batch that is ready is used.

    Batches still go to the workers in turns, as torch gives them out with `in_order=False`.
    """
    ahead = workers * prefetch
    free = [0.0] * workers
    ready: list[float] = []
    now, given = 0.0, 0
    for seconds_used in used:
        while given < len(made) and len(ready) < ahead:
            worker = given % workers
            free[worker] = max(free[worker], now if given >= ahead else 0.0) + float(made[given])
            ready.append(free[worker])
            given += 1
        first = min(ready)
        ready.remove(first)
        now = max(now, first) + float(seconds_used)
    return now
