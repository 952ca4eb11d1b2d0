"""PD108: making a batch is waiting for a disk or a network, and not computing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.gains import from_loader, from_settings, setting_now
from perfdoctor.rules.loader_advice import LOADER_CAUSE, WAIT_SHARE, WORKERS, loader_evidence
from perfdoctor.rules.loader_facts import loader_model, persistent, prefetch_factor, whole_cores
from perfdoctor.rules.measured import MEASURED
from perfdoctor.rules.observed import is_run, line_evidence
from perfdoctor.rules.run_batches import (
    io_bound,
    iterable,
    loading_lines,
    many_workers,
    repeated_lines,
    sample_words,
    wait_of,
)
from perfdoctor.rules.wording import count, loader_snippet, percent
from perfdoctor.stages import DATA_LOADING

#: Workers that are this near to what threads bring suffice: they need no other code.
_ENOUGH = 1.25
#: Threads in a process that are tried, and how near to the best is near enough.
_THREADS, _NEAR = (2, 4, 8, 16, 32), 1.03
_READS = """\
from concurrent.futures import ThreadPoolExecutor

def __getitems__(self, indices):  # called with a whole batch of indices
    if self.pool is None:  # made in the worker, not before it is started
        self.pool = ThreadPoolExecutor({number})
    return list(self.pool.map(self.__getitem__, indices))"""
_STREAMED = """\
from concurrent.futures import ThreadPoolExecutor

def __iter__(self):  # in each of several workers a part of the names
    with ThreadPoolExecutor({number}) as pool:
        for first in range(0, len(self.names), {number}):  # so many are read at a time
            yield from pool.map(self.read, self.names[first : first + {number}])"""


class LoadingWaitsForStorage:
    """Making a batch is waiting for a disk or a network, not computing.

    ## What it does
    Looks for batches that take little processor time for how long they take, in an observed
    script or a benchmark that waits for them.

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
    `num_workers`, to the fewest within 3 % of the best, but no more than usable cores. Where that
    leaves a quarter of the speed unused, since waiting needs no core: read the samples of a batch
    in several threads, or keep them in memory or on a local disk after the first epoch. The advice
    says what more workers than cores would bring. In a benchmark more workers are the matter of
    PD101 and PD102, which go first; this rule tells the rest.

    ## How the gain is predicted
    A simulation of the DataLoader with the measured times of batches and steps, in which waiting
    needs no core. Where the samples of a batch are read in threads, its waiting is shared out
    among them, and its processor time is not; the lower end is what two of them bring, since how
    many readers the storage serves as fast as one is not known.

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
    sources: ClassVar[tuple[str, ...]] = MEASURED

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the loop waits, the loader waits too, and more readers would help."""
        wait, least = wait_of(facts), facts.threshold("gain")
        if wait.usual < facts.threshold("exposed_share") or not io_bound(facts):
            return None
        if repeated_lines(facts):
            return None  # each worker more would read all of it once more: PD125
        way = more_readers(facts, least)
        if way is None:
            return None
        waiting = 1 - facts.number("loader.batch_cpu_s") / facts.number("loader.batch.p50_s")
        lines = loading_lines(facts)
        where = f" in {lines[0].words}" if lines else ""
        what = f"Making a batch is {percent(waiting)} waiting{where}"
        return Finding(
            stage=DATA_LOADING,
            title=f"{what if is_run(facts) else sample_words(facts)}, and training waits with it: "
            f"{percent(wait.share)} of each step",
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
            behind=way.behind,
        )


@dataclass(frozen=True)
class Way:
    """How to wait for several batches at a time; `behind` what another rule says of workers."""

    advice: str
    change: dict[str, Any]
    snippet: str
    predicted: Prediction
    behind: bool = False


def more_readers(facts: Facts, least: float) -> Way | None:
    """More workers if the cores allow enough of them, else more reads in each; None if neither
    brings `least`, or where another rule says it of workers."""
    now, cores, many = int(facts.number(WORKERS)), whole_cores(facts), many_workers(facts)
    allowed = max(1, min(many, cores))
    threads, by_threads = _reads_at_once(facts)
    by_workers = _with_workers(facts, allowed) if allowed > now else None
    helps = by_workers is not None and by_workers.speedup >= least
    if by_workers is not None and helps and by_workers.speedup >= by_threads.speedup / _ENOUGH:
        if not is_run(facts):
            return None  # PD101 and PD102 say so
        change: dict[str, Any] = {"num_workers": allowed}
        if now == 0 and not persistent(facts):
            change["persistent_workers"] = True
        advice = f"Let {count(allowed, 'worker')} wait at the same time (num_workers={allowed})."
        return Way(advice, change, loader_snippet(facts, **change), by_workers)
    if by_threads.speedup < least:
        return None
    advice = (
        f"Read the samples of a batch in {count(threads, 'thread')}, or keep them in memory or on "
        "a local disk after the first epoch."
    )
    if many > max(now, cores):
        advice += (
            f" Waiting needs no core, so more workers than the {count(cores, 'core')} do much the "
            f"same (num_workers={many})."
        )
    snippet = (_STREAMED if iterable(facts) else _READS).format(number=threads)
    behind = helps and not is_run(facts)
    return Way(advice, {"reads_at_once": threads}, snippet, by_threads, behind)


def _with_workers(facts: Facts, workers: int) -> Prediction:
    return from_loader(facts, loader_model(facts), workers, prefetch_factor(facts))


def _reads_at_once(facts: Facts) -> tuple[int, Prediction]:
    """The fewest threads in each process that are within 3 % of the best, and what they bring.

    A batch takes as many rounds of reading as it needs. At least what two threads bring: how many
    readers the storage serves as fast as one is not known.
    """
    model = loader_model(facts)
    size, now = facts.known("configuration.batch_size"), setting_now(facts, model)
    busy = min(1.0, model.batch_cpu_s / float(model.batch_s.mean()))
    numbers = [n for n in _THREADS if size is None or n <= max(size, _THREADS[0])]
    rounds = [1 / n if size is None else math.ceil(size / n) / size for n in numbers]
    found = from_settings(
        facts,
        model,
        [replace(now, load=busy + (1 - busy) * part) for part in rounds],
        less_work=True,
    )
    best = max(one.speedup for one in found)
    threads, chosen = next(
        (n, one) for n, one in zip(numbers, found, strict=True) if one.speedup >= best / _NEAR
    )
    return threads, replace(chosen, low=min(chosen.low, found[0].low))
