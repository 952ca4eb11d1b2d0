"""PD105: a queue of batches too short for how unevenly they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from perfdoctor.pipeline_model import predict
from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.gains import from_loader
from perfdoctor.rules.loader_advice import LOADER_CAUSE, WAIT_SHARE, WORKERS, loader_evidence
from perfdoctor.rules.loader_facts import loader_model, persistent, prefetch_factor
from perfdoctor.rules.wording import loader_snippet, seconds
from perfdoctor.stages import DATA_LOADING

_DEPTHS = (4, 8)
_DEEPEST = _DEPTHS[-1]


class ShallowPrefetch:
    """Slow batches drain the queue although the workers are fast enough on average.

    ## What it does
    Looks for waits in a training whose workers deliver enough batches on average, but unevenly.

    ## Why it is slow
    Batches are handed over in order. Behind a slow one the model waits, unless enough finished
    ones lie in the queue; its length is `num_workers` × `prefetch_factor`.

    ## Evidence and threshold
    Either of these signs of unevenness, and a gain in the model of the pipeline.
    - `slow_wait_s` = 0.03 (source: gpuprof counts a wait from 30 ms as a stall)
    - `slow_steps` = 0.2 (source: gpuprof asks for stalls in 20 % of the steps)
    - `unevenness` = 1.5 (source: loadtune, p90 ÷ p50 of the time to make a batch)
    - `gain` = 1.03 (source: the median of identical blocks varied by 2.1 % on a loaded two-core
      machine)

    ## What to change
    `prefetch_factor`, to 4 or, where that is worth another 1 %, to 8.

    ## How the gain is predicted
    A simulation of the DataLoader that replays the measured times of the batches in their order
    with the longer queue.

    ## When not to
    The queue is held in memory: `num_workers` × `prefetch_factor` batches, in shared memory. It
    bridges slow batches, not a loader that is too slow on average.
    """

    code: ClassVar[str] = "PD105"
    name: ClassVar[str] = "shallow-prefetch"
    needs: ClassVar[tuple[str, ...]] = (WORKERS, WAIT_SHARE)
    verify_with: ClassVar[str | None] = "prefetch"
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {
        "slow_wait_s": 0.030,
        "slow_steps": 0.20,
        "unevenness": 1.5,
        "gain": 1.03,
    }

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the workers suffice on average, deliver unevenly, and a queue would help."""
        workers = int(facts.number(WORKERS))
        if workers < 1 or not _uneven(facts):
            return None
        model, now = loader_model(facts), prefetch_factor(facts)
        if model.batch_s.mean() / workers > model.consume_s.mean() or now >= _DEEPEST:
            return None
        step_s = {p: predict(model, workers, p, persistent(facts)).estimate_s for p in _DEPTHS}
        depth = next(p for p in _DEPTHS if p > now and step_s[p] <= 1.01 * step_s[_DEEPEST])
        predicted = from_loader(facts, model, workers, depth)
        if predicted.speedup < facts.threshold("gain"):
            return None
        waits_s = seconds(facts.number("stages.data_loading.p95_s"))
        return Finding(
            stage=DATA_LOADING,
            title=f"Slow batches drain the queue: one step in twenty waits {waits_s} or longer",
            advice=f"Let each worker make {depth} batches ahead (prefetch_factor={depth}); "
            f"{workers * depth} batches are then kept in memory.",
            change={"prefetch_factor": depth},
            snippet=loader_snippet(facts, prefetch_factor=depth),
            evidence=(
                *loader_evidence(facts),
                Evidence(
                    metric="loader batch p90 ÷ p50",
                    value=_unevenness(facts),
                    unit="×",
                    threshold=facts.threshold("unevenness"),
                ),
            ),
            cause=self.cause,
            predicted=predicted,
            confidence=0.6,
        )


def _uneven(facts: Facts) -> bool:
    wait_s = np.nan_to_num(facts.series("data_loading_s"))
    slow = float((wait_s >= facts.threshold("slow_wait_s")).mean())
    often = slow >= facts.threshold("slow_steps")
    return often or _unevenness(facts) >= facts.threshold("unevenness")


def _unevenness(facts: Facts) -> float:
    batch_s = facts.series("loader_batch_s")
    p50, p90 = np.nanpercentile(batch_s, (50, 90))
    return float(p90 / p50) if p50 > 0 else 1.0
