"""PD103, PD104: the DataLoader's worker processes themselves cost time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.epoch_start import restart_in_log
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.loader_facts import persistent, whole_cores
from perfdoctor.rules.logs import data_share
from perfdoctor.rules.observed import beside_steps, is_run, of_training
from perfdoctor.rules.run_batches import io_bound
from perfdoctor.rules.run_waiting import end_evidence, remade
from perfdoctor.rules.whole_run import epochs_in_all
from perfdoctor.rules.wording import count, loader_snippet, percent, seconds
from perfdoctor.stages import DATA_LOADING

_WORKERS = "configuration.num_workers"


class MoreWorkersThanCores:
    """More DataLoader workers than usable cores.

    ## What it does
    Compares the number of workers with the cores this process may use, which a container's quota
    or an affinity mask can make far fewer than the machine has.

    ## Why it is slow
    Workers that outnumber the cores take turns with each other and with the training, and each
    holds its own batches in memory.

    ## Evidence and threshold
    More workers than usable cores, rounded down, which is where torch itself warns
    (`DataLoader.check_worker_number_rationality`), while the cores are busy. It is a fault where
    training visibly waits for data, and an option where the workers keep up, or nobody knows.
    - `cores_busy` = 0.8 (source: gpuprof and loadtune call workers bound by the processor from
      80 % of its time)
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)

    ## What to change
    `num_workers`, to the number of usable cores.

    ## How the gain is predicted
    It is not: how much switching between processes costs cannot be read off a run. Try it.

    ## When not to
    Workers that mostly wait, for a network or a disk, do not need a core each. If the cores are
    seen not to be busy, this rule is silent.
    """

    code: ClassVar[str] = "PD103"
    name: ClassVar[str] = "more-workers-than-cores"
    needs: ClassVar[tuple[str, ...]] = (_WORKERS, "environment.cores_usable")
    verify_with: ClassVar[str | None] = "workers"
    cause: ClassVar[str] = "too-many-workers"
    thresholds: ClassVar[Mapping[str, float]] = {"cores_busy": 0.80, "exposed_share": 0.10}

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if there are more workers than cores, and the cores are not known to idle."""
        workers, cores = int(facts.number(_WORKERS)), whole_cores(facts)
        if workers <= cores or io_bound(facts):
            return None
        busy = _cores_busy(facts)
        if busy is not None and busy < facts.threshold("cores_busy"):
            return None
        return Finding(
            stage=DATA_LOADING,
            title=f"{workers} workers share {count(cores, 'usable core')}",
            advice=f"Use no more workers than usable cores (num_workers={cores}).",
            change={"num_workers": cores},
            snippet=loader_snippet(facts, num_workers=cores),
            evidence=(
                Evidence(metric="workers", value=workers, unit="", threshold=cores),
                Evidence(
                    metric="usable cores",
                    value=facts.number("environment.cores_usable"),
                    unit="",
                ),
            ),
            cause=self.cause,
            confidence=0.4 if busy is None else 0.6,
            optional=not _waits(facts),
        )


class WorkersRestartedEachEpoch:
    """The DataLoader's workers are started anew in every epoch.

    ## What it does
    Looks for workers without `persistent_workers=True` whose start and end take a visible part of
    an epoch.

    ## Why it is slow
    At the end of an epoch the workers end too, and the training waits until they have. The next
    epoch starts new processes, which open the dataset again, and the model waits until the first
    batch is made.

    ## Evidence and threshold
    From making the iterator to its first batch, less the time that this batch takes in any case,
    for each epoch; and, where a script was observed, the wait for the workers to end. In a log:
    stalls that are first in their epochs.
    - `epoch_share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard
      plug-in warns of waiting for data)

    ## What to change
    `persistent_workers=True`.

    ## How the gain is predicted
    The epoch without that time; exact but for how well the start and the step are known. Its
    ends take the shortest and the longest start and end seen. A script that was observed to its end
    keeps one of them. From a log there is only a bound: no more than if no epoch began with a wait.

    ## When not to
    In a training of one epoch. When the script makes a new DataLoader in each epoch, keep one
    instead. Persistent workers hold their copy of the dataset between epochs, so changes made to
    it in the main process do not reach them.
    """

    code: ClassVar[str] = "PD104"
    name: ClassVar[str] = "workers-restarted-each-epoch"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = "persistent-workers"
    cause: ClassVar[str] = "worker-restart"
    thresholds: ClassVar[Mapping[str, float]] = {"epoch_share": 0.05}

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if starting the workers takes a visible share of each epoch."""
        if facts.from_log and not facts.has("loader"):
            return restart_in_log(facts, self.cause)
        if facts.number(_WORKERS) < 1 or persistent(facts):
            return None
        if is_run(facts) and ((facts.known("epochs.count") or 0) < 2 or remade(facts)):
            return None  # nothing is started anew, or PD112 says why
        steps = facts.number("epochs.steps_per_epoch")
        start_s, end_s = _restart_s(facts, "p50_s"), facts.known("loader.end.p50_s")
        share = start_s / (steps * facts.number("steps.time.p50_s") + start_s)
        if share < facts.threshold("epoch_share"):
            return None
        return Finding(
            stage=DATA_LOADING,
            title=f"Starting {'' if end_s is None else 'and ending '}the workers takes "
            f"{seconds(start_s)} of every epoch ({percent(share)})",
            advice="Keep the workers alive between epochs (persistent_workers=True).",
            change={"persistent_workers": True},
            snippet=loader_snippet(facts, persistent_workers=True),
            evidence=(
                Evidence(
                    metric="start of workers",
                    value=share,
                    unit="share of epoch",
                    threshold=facts.threshold("epoch_share"),
                ),
                Evidence(metric="start of workers", value=start_s - (end_s or 0.0), unit="s"),
                *end_evidence(end_s),
                Evidence(metric="steps per epoch", value=steps, unit=""),
            ),
            cause=self.cause,
            predicted=_without_start(facts, steps),
            confidence=0.8 if facts.number("epochs.start.count") > 1 else 0.5,
        )


def _cores_busy(facts: Facts) -> float | None:
    """Processor time of training and workers ÷ what the usable cores have; None if unknown."""
    used = ("steps.cpu_s", "loader.batch_cpu_s")
    if not all(facts.has(path) for path in used):
        return None
    step_s = facts.number("steps.time.mean_s")
    cores = facts.number("environment.cores_usable")
    return sum(facts.number(path) for path in used) / (step_s * cores)


def _waits(facts: Facts) -> bool:
    """Whether the training is known to wait for data, visibly."""
    try:
        return data_share(facts) >= facts.threshold("exposed_share")
    except Missing:
        return False


def _restart_s(facts: Facts, which: str) -> float:
    """What new workers take of an epoch: their start, and where it was seen their end."""
    start_s = facts.number(f"epochs.start.{which}") - _first_batch_s(facts)
    return max(0.0, start_s) + (facts.known(f"loader.end.{which}") or 0.0)


def _first_batch_s(facts: Facts) -> float:
    """What the first batch of an epoch takes with workers that are there: nothing is prefetched."""
    paths = ("loader.batch.p50_s", "stages.data_loading.p50_s")
    if is_run(facts):  # its workers may not have been seen
        return max(facts.known(paths[0]) or 0.0, facts.number(paths[1]))
    return max(facts.number(path) for path in paths)


def _without_start(facts: Facts, steps: float) -> Prediction:
    """Steps by their mean hold the starts that were measured, so the low end takes that."""
    median_s, mean_s = facts.number("steps.time.p50_s"), facts.number("steps.time.mean_s")
    kept = 1 / epochs_in_all(facts)

    def speedup(which: str, step_s: float) -> float:
        more = _restart_s(facts, which) / (steps * step_s)
        return (1 + more) / (1 + kept * more)

    predicted = Prediction(
        speedup=speedup("p50_s", median_s),
        low=speedup("min_s", max(median_s, mean_s)),
        high=speedup("max_s", min(median_s, mean_s)),
        model="amdahl-exact",
    )
    return of_training(predicted, beside_steps(facts))
