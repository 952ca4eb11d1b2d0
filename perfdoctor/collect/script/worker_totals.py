"""What the workers of one DataLoader did in all: their records folded into one."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from perfdoctor.collect.script.worker_records import (
    BATCH,
    BATCH_WORDS,
    CAPACITY,
    FIRST_BATCH,
    HEADER,
    MAGIC,
    SIZE_BYTES,
    TOTALS,
)
from perfdoctor.record import Floats

#: Batches of a loader that are kept, of all its workers together.
KEPT = 4_096
#: Iterators of a loader whose start-up is kept.
STARTS_KEPT = 4_096

Words = NDArray[np.int64]
_COLUMN = {name: place for place, name in enumerate(BATCH)}


@dataclass(frozen=True, kw_only=True)
class LoaderObserved:
    """What was seen inside one DataLoader's workers; in this process if `workers` is 0.

    Times are seconds. The totals are of all batches; the arrays hold a uniform sample of them,
    in the order of their beginning.

    Attributes:
        workers: processes that wrote something down.
        iterators: iterators made; each starts its workers anew.
        epochs: times the loader was iterated over; persistent workers serve several.
        batches: batches made. `lost` were errors instead.
        samples: samples in them; items where the loader does not batch.
        fetch_total_s: getting samples from the dataset.
        collate_total_s: in the collate function.
        cpu_total_s: processor time of the thread that fetches and collates; of short batches from
            a part of them.
        idle_total_s: waiting for an index while enough batches were prefetched.
        send_total_s: handing batches over, but for what a thread of the queue's does.
        alive_s: worker seconds from the start of the loop to its end.
        batch_s: fetching and collating a batch. `collate_s`, `cpu_s`: parts of it.
        idle_s: waiting before the batch.
        batch_samples: samples in the batch.
        sample_s: single samples; means over a batch where the dataset gives a batch at once.
        start_s: from `iter(loader)` to the first fetch in any worker, per iterator.
        all_started_s: the same to the first fetch in the last of the workers.
        create_s: what of this `iter(loader)` took: creating processes, pickling the dataset.
        init_s: `worker_init_fn` and `iter(dataset)`, in the slowest worker, per iterator.
    """

    workers: int
    iterators: int
    epochs: int
    batches: int
    samples: int
    lost: int
    fetch_total_s: float
    collate_total_s: float
    cpu_total_s: float
    idle_total_s: float
    send_total_s: float
    alive_s: float
    batch_s: Floats
    collate_s: Floats
    cpu_s: Floats
    idle_s: Floats
    batch_samples: Floats
    sample_s: Floats
    start_s: Floats
    all_started_s: Floats
    create_s: Floats
    init_s: Floats


@dataclass(frozen=True)
class WorkerFile:
    """One worker's record, as read. `batches` are rows of `BATCH` and sample times."""

    header: dict[str, int]
    totals: dict[str, int]
    batches: Words


def read_record(data: bytes | bytearray) -> WorkerFile | None:
    """A worker's record; None where it is not one, or not begun."""
    if len(data) != SIZE_BYTES:
        return None
    words = np.frombuffer(bytes(data), dtype=np.int64)
    header = dict(zip(HEADER, words[: len(HEADER)].tolist(), strict=True))
    if header["magic"] != MAGIC:
        return None
    totals = dict(zip(TOTALS, words[len(HEADER) : FIRST_BATCH].tolist(), strict=True))
    batches = words[FIRST_BATCH:].reshape(CAPACITY, BATCH_WORDS)[: totals["recorded"]]
    return WorkerFile(header, totals, batches)


@dataclass
class Start:
    """How one iterator's workers began. Times are of the monotonic clock."""

    began_ns: int
    create_ns: int
    first_ns: int | None = None
    last_ns: int | None = None
    init_ns: int | None = None

    def add(self, header: dict[str, int]) -> None:
        """One of its workers."""
        fetch, ready = header["first_fetch_ns"], header["ready_ns"]
        if ready:
            self.init_ns = max(self.init_ns or 0, ready - header["entered_ns"])
        if fetch:
            self.first_ns = fetch if self.first_ns is None else min(fetch, self.first_ns)
            self.last_ns = max(fetch, self.last_ns or 0)


class Sample:
    """A uniform sample of the batches of several streams, itself bounded.

    Each record kept stands for `weight` batches. Of a stream whose records stand for less, only
    the fitting part is kept. Its random numbers are its own.
    """

    def __init__(self) -> None:
        self.records = np.empty((0, BATCH_WORDS), dtype=np.int64)
        self._weight = 1.0
        self._random = random.Random(0)

    def add(self, records: Words, weight: float) -> None:
        """Records of another stream, each standing for `weight` batches of it."""
        if not len(records):
            return
        heavier = max(weight, self._weight)
        kept = self._some(self.records, self._weight / heavier)
        self.records = np.concatenate((kept, self._some(records, weight / heavier)))
        self._weight = heavier
        while len(self.records) > KEPT:
            self.records = self._some(self.records, 0.5)
            self._weight *= 2

    def _some(self, records: Words, share: float) -> Words:
        if share >= 1.0:
            return records
        return records[[self._random.random() < share for _ in records]]


@dataclass
class LoaderTotals:
    """One loader's workers so far."""

    iterators: int = 0
    epochs: int = 0
    workers: int = 0
    alive_ns: int = 0
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOTALS, 0))
    starts: dict[int, Start] = field(default_factory=dict)
    sample: Sample = field(default_factory=Sample)

    def begin(self, began_ns: int, create_ns: int) -> int:
        """An iterator was made; its number."""
        number = self.iterators
        self.iterators += 1
        self.epochs += 1
        self.starts[number] = Start(began_ns, create_ns)
        if len(self.starts) > STARTS_KEPT:  # every second one, and the newest
            self.starts = dict([*list(self.starts.items())[:-1:2], (number, self.starts[number])])
        return number

    def add(self, found: WorkerFile, iterator: int | None) -> None:
        """What a worker of the iterator with this number did; None: the main process."""
        totals = found.totals
        for name, value in totals.items():
            self.sums[name] += value
        if totals["recorded"]:
            self.sample.add(found.batches, totals["batches"] / totals["recorded"])
        if iterator is None:
            return
        self.workers += 1
        self.alive_ns += totals["last_ns"] - found.header["entered_ns"]
        if iterator in self.starts:
            self.starts[iterator].add(found.header)

    def observed(self) -> LoaderObserved:
        """All of it."""
        records = self.sample.records
        records = records[np.argsort(records[:, 0], kind="stable")]
        columns = {name: records[:, place] for name, place in _COLUMN.items()}
        starts = list(self.starts.values())
        sums: dict[str, float] = dict(self.sums)
        if sums["cpu_of_ns"]:  # not every short batch is asked for its processor time
            sums["cpu_ns"] *= (sums["fetch_ns"] + sums["collate_ns"]) / sums["cpu_of_ns"]
        totals = {f"{n}_total_s": sums[f"{n}_ns"] * 1e-9 for n in _TOTALLED}
        return LoaderObserved(
            workers=self.workers,
            iterators=self.iterators,
            epochs=self.epochs,
            batches=self.sums["batches"],
            samples=self.sums["samples"],
            lost=self.sums["lost"],
            alive_s=self.alive_ns * 1e-9,
            batch_s=_seconds(columns["fetch_ns"] + columns["collate_ns"]),
            collate_s=_seconds(columns["collate_ns"]),
            cpu_s=_seconds(columns["cpu_ns"]),
            idle_s=_seconds(columns["idle_ns"]),
            batch_samples=columns["samples"].astype(np.float64),
            sample_s=_seconds(_single_samples(records)),
            start_s=_seconds(s.first_ns - s.began_ns for s in starts if s.first_ns is not None),
            all_started_s=_seconds(s.last_ns - s.began_ns for s in starts if s.last_ns is not None),
            create_s=_seconds(s.create_ns for s in starts),
            init_s=_seconds(s.init_ns for s in starts if s.init_ns is not None),
            **totals,
        )


_TOTALLED = tuple(
    f.name.removesuffix("_total_s") for f in fields(LoaderObserved) if f.name.endswith("_total_s")
)


def _single_samples(records: Words) -> Words:
    """The times of single samples in these records."""
    times = records[:, len(BATCH) :]
    used = np.arange(times.shape[1]) < records[:, _COLUMN["timed"]][:, None]
    found: Words = times[used]
    return found


def _seconds(nanoseconds: Words | Iterable[int]) -> Floats:
    if not isinstance(nanoseconds, np.ndarray):
        nanoseconds = np.array(list(nanoseconds), dtype=np.int64)
    seconds: Floats = nanoseconds.astype(np.float64) * 1e-9
    return seconds
