"""PD101, PD102: the DataLoader as configured does not deliver batches fast enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.pipeline_model import best_workers
from perfdoctor.report import Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import (
    LOADER_CAUSE,
    WAIT_SHARE,
    WORKERS,
    loader_evidence,
    most_workers,
    predict_gain,
    remarks,
)
from perfdoctor.rules.loader_facts import loader_model, persistent, prefetch_factor, whole_cores
from perfdoctor.rules.log_loading import without_workers
from perfdoctor.rules.observed import is_run
from perfdoctor.rules.run_batches import io_bound, repeated_lines, wait_of
from perfdoctor.rules.sharding import SHARDED
from perfdoctor.rules.wording import count, loader_snippet, percent
from perfdoctor.stages import DATA_LOADING

_SHARDING = f"\n\n# in the IterableDataset, or every worker yields all samples:\n{SHARDED}"


class SynchronousDataLoading:
    """Batches are made inside the training loop, which waits for every one of them.

    ## What it does
    Looks for a DataLoader without workers (`num_workers=0`) in a training that waits for data.

    ## Why it is slow
    Reading, decoding and collating a batch takes turns with computing: while one runs, the other
    stands still. Worker processes make the next batches while the model computes.

    ## Evidence and threshold
    The share of the step that waits for the next batch.
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)
    - `workers_per_core` = 1 (source: torch warns of more workers than cores,
      `DataLoader.check_worker_number_rationality`)

    ## What to change
    `num_workers`, to the fewest workers that the model of the pipeline puts within 3 % of the
    best, never more than usable cores; and `persistent_workers=True`, so that they are started
    once. An `IterableDataset` must also be taught to share its samples out among the workers.

    ## How the gain is predicted
    A simulation of the DataLoader with the measured time of every batch and step. Workers and
    training take turns on the cores that other programs leave free, and computing in several
    threads loses at its barriers when it does. The lower end takes that loss twice, and a batch
    as 20 % longer in a worker; the upper end takes no loss. Where a few batches take most of the
    time, each worker may have to pay for them again (a shard that each must open), so the lower
    end is no gain at all. A script that was observed to its end pays once for the start and the end
    of its workers; where they start as new interpreters (`spawn`), each imports torch, which takes
    as long as it took the script, half of that to three times as much. From a log there is only a
    bound: no more than if nothing were waited for. A log that prints `num_workers=0` and no time
    for loading gets this as an option.

    ## When not to
    With a single usable core and a loader that computes rather than reads, workers gain nothing.
    On Windows and macOS workers start by importing the script anew: keep the training under
    `if __name__ == "__main__":`. Random numbers drawn in `__getitem__` come from other streams.
    """

    code: ClassVar[str] = "PD101"
    name: ClassVar[str] = "synchronous-data-loading"
    needs: ClassVar[tuple[str, ...]] = (WORKERS,)
    verify_with: ClassVar[str | None] = "workers"
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"exposed_share": 0.10, "workers_per_core": 1.0}

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if there are no workers and the loop waits."""
        if facts.from_log and not facts.has("loader"):
            return None if facts.number(WORKERS) != 0 else without_workers(facts)
        share = facts.number(WAIT_SHARE)
        if is_run(facts) and (io_bound(facts) or wait_of(facts).mostly_stalls):
            return None  # PD108 and PD111 know better
        if facts.number(WORKERS) > 0 or share < facts.threshold("exposed_share"):
            return None
        model, ahead = loader_model(facts), prefetch_factor(facts)
        workers = best_workers(model, range(1, most_workers(facts) + 1))
        iterable = _iterable(facts)
        change = {"num_workers": workers}
        if not persistent(facts):
            change["persistent_workers"] = True
        snippet = loader_snippet(facts, **change)
        return Finding(
            stage=DATA_LOADING,
            title=f"Every batch is made in the training loop: {percent(share)} of each step "
            "waits for it",
            advice=f"Let {count(workers, 'worker')} make the batches while the model "
            f"computes (num_workers={workers})."
            + (_ITERABLE_ADVICE if iterable else "")
            + remarks(facts, model),
            change=change,
            snippet=snippet + (_SHARDING if iterable else ""),
            evidence=loader_evidence(facts),
            cause=self.cause,
            predicted=predict_gain(facts, model, workers, ahead),
            confidence=0.85,
            effort="lines" if iterable else "flag",
            safety="semantics" if iterable else "exact",
        )


class TooFewWorkers:
    """The DataLoader's workers cannot keep up although cores are idle.

    ## What it does
    Looks for a training that waits for data although it has workers, on a machine with room for
    more of them.

    ## Why it is slow
    Each worker makes one batch at a time. When a batch takes longer to make than the workers
    times a step, the queue runs empty and the model waits.

    ## Evidence and threshold
    The share of the step that waits for the next batch, and what the model of the pipeline makes
    of more workers.
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)
    - `gain` = 1.05 (source: twice the 2.1 % by which the median of identical blocks varied on a
      loaded two-core machine, rounded up; another process must pay for its memory)
    - `workers_per_core` = 1 (source: torch warns of more workers than cores,
      `DataLoader.check_worker_number_rationality`)

    ## What to change
    `num_workers`, to the fewest that the model puts within 3 % of the best, never more than
    usable cores.

    ## How the gain is predicted
    As for PD101, with as many workers as now and with more. Where workers and training already
    fill the cores that are free it predicts no gain, and this rule is silent.

    ## When not to
    When all workers wait for the same slow disk, more of them only lengthen its queue. Each
    worker is another copy of what the dataset holds in memory.
    """

    code: ClassVar[str] = "PD102"
    name: ClassVar[str] = "too-few-workers"
    needs: ClassVar[tuple[str, ...]] = (WORKERS, WAIT_SHARE)
    verify_with: ClassVar[str | None] = "workers"
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {
        "exposed_share": 0.10,
        "gain": 1.05,
        "workers_per_core": 1.0,
    }

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the loop waits for busy workers and more of them would help."""
        now, share = int(facts.number(WORKERS)), facts.number(WAIT_SHARE)
        if now < 1 or share < facts.threshold("exposed_share") or now >= most_workers(facts):
            return None
        if is_run(facts) and (io_bound(facts) or repeated_lines(facts)):
            return None  # PD108 and PD125 know better
        model, ahead = loader_model(facts), prefetch_factor(facts)
        more = range(now + 1, most_workers(facts) + 1)
        workers = best_workers(model, more, ahead, persistent(facts))
        predicted = predict_gain(facts, model, workers, ahead)
        if predicted.speedup < facts.threshold("gain"):
            return None
        return Finding(
            stage=DATA_LOADING,
            title=f"{count(now, 'worker')} cannot keep up: {percent(share)} of each step waits "
            "for the next batch",
            advice=f"Use {workers} workers (num_workers={workers}); "
            f"{whole_cores(facts)} cores are usable." + remarks(facts, model),
            change={"num_workers": workers},
            snippet=loader_snippet(facts, num_workers=workers),
            evidence=loader_evidence(facts),
            cause=self.cause,
            predicted=predicted,
            confidence=0.75,
        )


_ITERABLE_ADVICE = (
    " Your dataset is iterable: let each worker yield only its part, or every sample comes "
    "once from each of them."
)


def _iterable(facts: Facts) -> bool:
    path = "configuration.loader_kind"
    return facts.has(path) and facts.text(path) == "iterable"
