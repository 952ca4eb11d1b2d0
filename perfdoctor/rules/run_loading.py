"""PD107 to PD109: why a batch takes long to make, from an observed script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.gains import (
    from_loader,
    loader_model,
    persistent,
    prefetch_factor,
    whole_cores,
)
from perfdoctor.rules.loader_advice import LOADER_CAUSE, WAIT_SHARE, WORKERS, loader_evidence
from perfdoctor.rules.observed import RUNS, HotLine, line_evidence
from perfdoctor.rules.run_batches import (
    cheaper_batches,
    collating,
    io_bound,
    loading_lines,
    many_workers,
    part_of_loading,
    wait_of,
)
from perfdoctor.rules.wording import count, loader_snippet, percent
from perfdoctor.stages import DATA_LOADING

_TENSOR_DATASET = "TensorDataset"
_READ_AT_ONCE = (
    "read the samples of a batch in several threads, or keep them in memory or on a local disk "
    "after the first epoch"
)
_READS = """\
from concurrent.futures import ThreadPoolExecutor

def __getitems__(self, indices):  # called with a whole batch of indices
    if self.pool is None:  # made in the worker, not before it is started
        self.pool = ThreadPoolExecutor({number})
    return list(self.pool.map(self.__getitem__, indices))"""


class SlowSample:
    """One line of the dataset takes most of the time for making batches.

    ## What it does
    Looks, in an observed script that waits for data, for the line that its samples spend their
    time in; and for a `TensorDataset` read sample by sample.

    ## Why it is slow
    What `__getitem__` does is done again for every sample in every epoch: parsing, decoding, a
    transform that gives the same result each time.

    ## Evidence and threshold
    The wait for data, and the line's share of the time for making batches.
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)
    - `line_share` = 0.3 (source: our own choice; mending a smaller part brings less than workers)

    ## What to change
    Do it once: in `__init__`, for all samples at a time, or in a script whose result is kept as an
    array. What is drawn at random for each sample stays where it is. A `TensorDataset` in memory
    needs no DataLoader: index its tensors with a whole batch.

    ## How the gain is predicted
    The model of the pipeline with cheaper batches: the line's time goes by half, by nine tenths
    (what remains is reading the result), or altogether.

    ## When not to
    Random augmentation cannot be kept. The results of all samples must fit into memory or on a
    disk.
    """

    code: ClassVar[str] = "PD107"
    name: ClassVar[str] = "slow-sample"
    needs: ClassVar[tuple[str, ...]] = (WORKERS, WAIT_SHARE)
    verify_with: ClassVar[str | None] = "cached-dataset"
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"exposed_share": 0.10, "line_share": 0.30}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the loop waits for batches and one line makes them slow."""
        if wait_of(facts).usual < facts.threshold("exposed_share") or io_bound(facts):
            return None
        if _indexed_by_one(facts):
            return _tensors(facts)
        lines = [line for line in loading_lines(facts) if not collating(line)]
        if not lines:
            return None
        part = part_of_loading(facts, lines[0])
        if part < facts.threshold("line_share"):
            return None
        return _slow_line(facts, lines, part)


class LoadingWaitsForStorage:
    """Making a batch is waiting for a disk or a network, not computing.

    ## What it does
    Looks for batches that take little processor time for how long they take, in an observed
    script that waits for them.

    ## Why it is slow
    One read after another waits for its answer. Reads that wait at the same time cost no more
    processor time, and most storage answers many at once.

    ## Evidence and threshold
    Processor time ÷ time of a batch of at most a quarter, and the wait for data.
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)
    - `gain` = 1.05 (source: twice the 2.1 % by which the median of identical blocks varied on a
      loaded two-core machine, rounded up; another process must pay for its memory)

    ## What to change
    `num_workers`, to the fewest within 3 % of the best, but no more than usable cores. The advice
    says what more of them would bring, since waiting needs no core. Where there are as many as
    cores already: read the files of a batch in several threads, or keep them in memory or on a
    local disk after the first epoch.

    ## How the gain is predicted
    A simulation of the DataLoader with the measured times of batches and steps, in which waiting
    needs no core. Threads that read at the same time count as that many workers.

    ## When not to
    Where the storage is shared and already at its limit, more readers only lengthen its queue.
    Each worker is another copy of what the dataset holds in memory.
    """

    code: ClassVar[str] = "PD108"
    name: ClassVar[str] = "loading-waits-for-storage"
    needs: ClassVar[tuple[str, ...]] = (WORKERS, WAIT_SHARE, "loader.batch_cpu_s")
    verify_with: ClassVar[str | None] = "workers"
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"exposed_share": 0.10, "gain": 1.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the loop waits, the loader waits too, and more readers would help."""
        wait, least = wait_of(facts), facts.threshold("gain")
        if wait.usual < facts.threshold("exposed_share") or not io_bound(facts):
            return None
        way = _more_readers(facts, least)
        if way is None:
            return None
        waiting = 1 - facts.number("loader.batch_cpu_s") / facts.number("loader.batch.p50_s")
        lines = loading_lines(facts)
        where = f" in {lines[0].words}" if lines else ""
        return Finding(
            stage=DATA_LOADING,
            title=f"Making a batch is {percent(waiting)} waiting{where}, and training waits with "
            f"it: {percent(wait.share)} of each step",
            advice=way.advice,
            change=way.change,
            snippet=way.snippet,
            evidence=(
                *loader_evidence(facts),
                Evidence(metric="waiting, of the time for a batch", value=waiting, unit="share"),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=way.predicted,
            confidence=0.85,
            effort="flag" if "num_workers" in way.change else "lines",
        )


class SlowCollate:
    """Putting samples together into a batch takes a large part of making it.

    ## What it does
    Looks at the collating part of each batch, in a training that waits for data.

    ## Why it is slow
    A `collate_fn` that fills tensors element by element, or converts lists of Python numbers,
    does in the interpreter what one operation on arrays does hundreds of times as fast.

    ## Evidence and threshold
    Time for collating ÷ time for the batch, and the wait for data.
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)
    - `collate_share` = 0.2 (source: our own choice, the share from which xprof and TraceML call a
      stage high)

    ## What to change
    Make tensors of the samples once, in the dataset, and put them together with `torch.stack` or
    `torch.nn.utils.rnn.pad_sequence`.

    ## How the gain is predicted
    The model of the pipeline with cheaper batches: collating takes half, a fifth or none of its
    time.

    ## When not to
    Where it is copying large tensors that takes the time: then it is as fast as memory.
    """

    code: ClassVar[str] = "PD109"
    name: ClassVar[str] = "slow-collate"
    needs: ClassVar[tuple[str, ...]] = (WORKERS, WAIT_SHARE, "loader.collate.mean_s")
    verify_with: ClassVar[str | None] = "free-loading"
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"exposed_share": 0.10, "collate_share": 0.20}
    sources: ClassVar[tuple[str, ...]] = (*RUNS, "bench")

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the loop waits for batches and collating is a large part of them."""
        batch_s, collate_s = (facts.number(f"loader.{n}.mean_s") for n in ("batch", "collate"))
        part, wait = collate_s / batch_s if batch_s > 0 else 0.0, wait_of(facts).usual
        if wait < facts.threshold("exposed_share") or part < facts.threshold("collate_share"):
            return None
        if _indexed_by_one(facts):
            return None  # PD107 does without collating
        lines = [line for line in loading_lines(facts) if collating(line)]
        where = f" in {lines[0].words}" if lines else ""
        part = min(1.0, part)
        return Finding(
            stage=DATA_LOADING,
            title=f"Putting samples together takes {percent(part)} of making a batch{where}; "
            f"{percent(wait)} of each step waits for data",
            advice="Vectorise the collate function: store samples as tensors and join them with "
            "torch.stack or torch.nn.utils.rnn.pad_sequence, never element by element.",
            change={"collate": "vectorised"},
            snippet="from torch.nn.utils.rnn import pad_sequence\n\n"
            "def collate(samples):  # tensors, made once in the dataset\n"
            "    inputs, targets = zip(*samples)\n"
            "    return pad_sequence(inputs, batch_first=True), torch.stack(targets)",
            evidence=(
                *loader_evidence(facts),
                Evidence(
                    metric="collating",
                    value=part,
                    unit="share of batch",
                    threshold=facts.threshold("collate_share"),
                ),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=cheaper_batches(facts, 0.5 * part, 0.8 * part, part),
            confidence=0.8,
            effort="lines",
        )


@dataclass(frozen=True)
class _Way:
    """How to wait for several batches at a time."""

    advice: str
    change: dict[str, Any]
    snippet: str
    predicted: Prediction


def _more_readers(facts: Facts, least: float) -> _Way | None:
    """More workers if the cores allow them, else more reads in each; None if neither helps."""
    now, cores, many = int(facts.number(WORKERS)), whole_cores(facts), many_workers(facts)
    model, ahead = loader_model(facts), prefetch_factor(facts)
    allowed = max(1, min(many, cores))
    by_cores, by_waiting = (from_loader(facts, model, n, ahead) for n in (allowed, many))
    if many <= now or by_waiting.speedup < least:
        return None
    if allowed > now and by_cores.speedup >= least:
        change: dict[str, Any] = {"num_workers": allowed}
        if now == 0 and not persistent(facts):
            change["persistent_workers"] = True
        advice = (
            f"Let {count(allowed, 'worker')} wait at the same time (num_workers={allowed}), or "
            f"{_READ_AT_ONCE}."
        )
        if by_waiting.speedup > by_cores.speedup * least:
            advice += (
                f" Waiting needs no core, so more workers than the {count(cores, 'core')} would "
                f"bring more here: {by_waiting.speedup:.1f}× with num_workers={many}."
            )
        return _Way(advice, change, loader_snippet(facts, **change), by_cores)
    advice = (
        f"{_READ_AT_ONCE.capitalize()}: {count(many, 'read')} at a time keep up. Waiting needs no "
        f"core, so more workers than the {count(cores, 'core')} would do the same "
        f"(num_workers={many})."
    )
    return _Way(advice, {"reads_at_once": many}, _READS.format(number=many), by_waiting)


def _indexed_by_one(facts: Facts) -> bool:
    path = "configuration.dataset"
    return facts.has(path) and facts.get(path) == _TENSOR_DATASET


def _slow_line(facts: Facts, lines: list[HotLine], part: float) -> Finding:
    wait, line = wait_of(facts).usual, lines[0]
    return Finding(
        stage=DATA_LOADING,
        title=f"{line.words} takes {percent(part)} of the time for making batches; "
        f"{percent(wait)} of each step waits for data",
        advice=f"Do what {line.place} does once instead of for every sample in every epoch: for "
        "all samples in __init__, or keep each result the first time. What is drawn at random "
        "stays in __getitem__.",
        change={"cache_samples": True},
        snippet="def __init__(self, ...):\n"
        "    ...\n"
        "    self.samples = torch.as_tensor(prepare(all_rows))  # once, all rows at a time\n\n"
        "def __getitem__(self, index):\n"
        "    return self.samples[index], self.targets[index]",
        evidence=(
            *loader_evidence(facts),
            Evidence(
                metric="the line",
                value=part,
                unit="share of loading",
                threshold=facts.threshold("line_share"),
                where=line.place,
            ),
            *line_evidence(lines[1:], 1),
        ),
        cause=LOADER_CAUSE,
        predicted=cheaper_batches(facts, 0.5 * part, 0.9 * part, part),
        confidence=0.85,
        effort="lines",
    )


def _tensors(facts: Facts) -> Finding:
    wait = wait_of(facts).usual
    return Finding(
        stage=DATA_LOADING,
        title=f"A TensorDataset is read sample by sample: {percent(wait)} of each step waits for "
        "data",
        advice="The data is in memory: index the tensors with a whole batch instead of taking "
        "one sample at a time and stacking them again.",
        change={"index_batches": True},
        snippet="order = torch.randperm(len(inputs))\n"
        "for rows in order.split(batch_size):\n"
        "    x, y = inputs[rows], targets[rows]",
        evidence=loader_evidence(facts),
        cause=LOADER_CAUSE,
        predicted=cheaper_batches(facts, 0.5, 0.85, 0.95),
        confidence=0.8,
        effort="lines",
    )
