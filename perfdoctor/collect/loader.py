"""A DataLoader that reports what its workers spend on each batch.

The dataset and the collate function are wrapped; both wrappers share one `FetchProbe`, which
lives in whichever process fetches (they are sent to a worker together). Each batch comes back
with a `BatchInfo`. Failures of the user's code travel the same way, so that its traceback
arrives as the user wrote it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    default_collate,
    default_convert,
    get_worker_info,
)
from torch.utils.data._utils.pin_memory import pin_memory as torch_pin_memory

from perfdoctor.errors import PerfdoctorError, first_line, user_traceback
from perfdoctor.stages import OTHER, HostClock, StageTimeline, activated
from perfdoctor.workload import UnreadableSampleError

_IO_FILE = Path("/proc/self/io")


@dataclass
class BatchInfo:
    """How one batch was made. Times are nanoseconds of the monotonic clock, shared by processes."""

    start_ns: int
    cpu_start_ns: int
    worker: int | None
    fetched_ns: int = 0
    done_ns: int = 0
    cpu_ns: int = 0
    samples: int = 0
    read_bytes: int = 0
    disk_bytes: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    stages_s: dict[str, float] = field(default_factory=dict)
    failure: tuple[str, str, str] | None = None  # (where, first line, traceback)

    @property
    def batch_s(self) -> float:
        """Seconds to fetch and collate this batch."""
        return (self.done_ns - self.start_ns) * 1e-9

    @property
    def collate_s(self) -> float:
        """Seconds of that in the collate function."""
        return (self.done_ns - self.fetched_ns) * 1e-9


@dataclass
class TimedBatch:
    """A batch with how it was made. `pin_memory` is called by the DataLoader's pinning thread."""

    data: Any
    info: BatchInfo

    def pin_memory(self) -> TimedBatch:
        """The same, with tensors in pinned memory."""
        return TimedBatch(torch_pin_memory(self.data), self.info)


@dataclass(frozen=True)
class _Reads:
    """Bytes asked for by read calls, bytes from the disk, and what asking for these two read."""

    asked_bytes: int = 0
    disk_bytes: int = 0
    own_bytes: int = 0


class FetchProbe:
    """The batch being made in this process. `count_reads` adds file reads, at ~20 µs a batch."""

    def __init__(self, *, strict: bool, count_reads: bool) -> None:
        self.strict = strict
        self._count_reads = count_reads
        self._info: BatchInfo | None = None
        self._timeline: StageTimeline | None = None
        self._reads = _Reads()

    def begin(self) -> BatchInfo:
        """The batch being made; begins one if there is none."""
        if self._info is None:
            worker = get_worker_info()
            self._reads = _file_reads() if self._count_reads else _Reads()
            self._info = BatchInfo(
                start_ns=time.perf_counter_ns(),
                cpu_start_ns=time.thread_time_ns(),
                worker=None if worker is None else worker.id,
            )
        return self._info

    def end(self) -> BatchInfo:
        """Finishes the batch and hands its info over."""
        info, self._info = self.begin(), None
        info.done_ns = time.perf_counter_ns()
        info.cpu_ns = time.thread_time_ns() - info.cpu_start_ns
        if self._count_reads:
            reads, before = _file_reads(), self._reads
            info.read_bytes = reads.asked_bytes - before.asked_bytes - before.own_bytes
            info.disk_bytes = reads.disk_bytes - before.disk_bytes
        if self._timeline is not None:
            info.stages_s = self._stages()
        return info

    def cancel(self) -> None:
        """Forgets a batch that was begun and never finished."""
        self._info = None

    @property
    def pending(self) -> bool:
        """Whether a batch has been begun and not handed over."""
        return self._info is not None

    def watched(self) -> AbstractContextManager[StageTimeline]:
        """A timeline for the stages that the user names while a batch is made.

        Without workers as well: there they are part of the training loop's `data_loading`.
        """
        if self._timeline is None or not self._timeline.is_current():
            self._timeline = StageTimeline(HostClock())
            self._timeline.begin_step()
        return activated(self._timeline)

    def _stages(self) -> dict[str, float]:
        assert self._timeline is not None
        self._timeline.begin_step()
        steps = self._timeline.drain()
        return {k: v for step in steps for k, v in step.exposed_s.items() if k != OTHER}


def _file_reads() -> _Reads:
    """What this process has read so far; zeros where the system does not tell."""
    try:
        text = _IO_FILE.read_text()
        fields = dict(line.split(": ") for line in text.splitlines())
        return _Reads(int(fields["rchar"]), int(fields["read_bytes"]), len(text))
    except (OSError, ValueError, KeyError):  # not Linux, or not permitted
        return _Reads()


class WorkerInit:
    """Runs in each worker before its first batch: there, too, the dataset is the user's own.

    `get_worker_info().dataset` is what user code shards or opens files in.
    """

    def __init__(self, inner: Callable[[int], None] | None) -> None:
        self.inner = inner

    def __call__(self, worker_id: int) -> None:
        """Shows the user's dataset, then calls the user's `worker_init_fn`."""
        info = get_worker_info()
        if info is not None and isinstance(info.dataset, (TimedDataset, TimedIterable)):
            object.__setattr__(info, "dataset", info.dataset.inner)  # it refuses a plain one
        if self.inner is not None:
            self.inner(worker_id)


class TimedDataset(Dataset[Any]):
    """A map-style dataset, timed. Samples that cannot be read are replaced by the next one."""

    def __init__(self, inner: Any, probe: FetchProbe) -> None:
        self.inner = inner
        self.probe = probe

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: Any) -> Any:
        samples = self.__getitems__([index])
        return samples[0] if samples else None  # None: failed, and the probe says how

    def __getitems__(self, indices: list[Any]) -> list[Any]:
        info = self.probe.begin()
        info.samples = len(indices)
        try:
            with self.probe.watched():
                samples = self._fetch(indices, info)
        except (Exception, SystemExit) as error:
            info.failure = ("dataset", first_line(error), user_traceback(error))
            samples = []
        info.fetched_ns = time.perf_counter_ns()
        return samples

    def _fetch(self, indices: list[Any], info: BatchInfo) -> list[Any]:
        if hasattr(self.inner, "__getitems__"):
            fetched: list[Any] = self.inner.__getitems__(indices)
            return fetched
        return [self._readable(index, info) for index in indices]

    def _readable(self, index: Any, info: BatchInfo) -> Any:
        try:
            return self.inner[index]
        except UnreadableSampleError as error:
            if self.probe.strict:
                raise
            info.skipped.append((error.path, error.reason))
        return self._substitute(index, info)

    def _substitute(self, index: int, info: BatchInfo) -> Any:
        """The next readable sample. Raises the last error if there is none."""
        count = len(self)
        for step in range(1, count):
            try:
                return self.inner[(index + step) % count]
            except UnreadableSampleError as error:
                info.skipped.append((error.path, error.reason))
        raise UnreadableSampleError(*info.skipped[-1])


class TimedIterable(IterableDataset[Any]):
    """An iterable dataset, timed. Unreadable samples arrive as error objects and are dropped."""

    def __init__(self, inner: Any, probe: FetchProbe) -> None:
        self.inner = inner
        self.probe = probe

    def __len__(self) -> int:
        return len(self.inner)

    def __iter__(self) -> Iterator[Any]:
        self.probe.cancel()
        info = self.probe.begin()
        try:
            samples = iter(self.inner)
            while True:
                info = self.probe.begin()
                with self.probe.watched():
                    sample = next(samples, _END)
                if sample is _END:
                    return
                if isinstance(sample, UnreadableSampleError):
                    if self.probe.strict:
                        raise sample
                    info.skipped.append((sample.path, sample.reason))
                    continue
                info.samples += 1
                info.fetched_ns = time.perf_counter_ns()
                yield sample
        except (Exception, SystemExit) as error:
            info.failure = ("dataset", first_line(error), user_traceback(error))
            info.fetched_ns = time.perf_counter_ns()
            while self.probe.pending:  # fills the batch, or drop_last would drop the failure
                yield None


_END = object()


class TimedCollate:
    """The collate function, timed; packs batch and info."""

    def __init__(self, inner: Any, probe: FetchProbe) -> None:
        self.inner = inner
        self.probe = probe

    def __call__(self, samples: list[Any]) -> TimedBatch:
        """The batch of these samples, with how it was made."""
        info = self.probe.begin()
        data = None
        if info.failure is None:
            try:
                with self.probe.watched():
                    data = self.inner(samples)
            except (Exception, SystemExit) as error:
                info.failure = ("collate function", first_line(error), user_traceback(error))
        return TimedBatch(data, self.probe.end())


def is_iterable(dataset: Any) -> bool:
    """Whether a DataLoader would iterate over `dataset` instead of indexing it."""
    return isinstance(dataset, IterableDataset)


def make_loader(
    dataset: Any,
    options: Mapping[str, Any],
    *,
    strict: bool,
    count_reads: bool = False,
) -> DataLoader[Any]:
    """A DataLoader over `dataset` with these arguments whose batches are `TimedBatch`.

    Raises:
        PerfdoctorError: the DataLoader refuses its arguments.
    """
    probe = FetchProbe(strict=strict, count_reads=count_reads)
    arguments = dict(options)
    default = default_convert if arguments.get("batch_size", 1) is None else default_collate
    collate = arguments.pop("collate_fn", None) or default
    if arguments.get("num_workers"):
        arguments["worker_init_fn"] = WorkerInit(arguments.get("worker_init_fn"))
    wrapper = TimedIterable if is_iterable(dataset) else TimedDataset
    try:
        return DataLoader(
            wrapper(dataset, probe), collate_fn=TimedCollate(collate, probe), **arguments
        )
    except (TypeError, ValueError) as error:
        raise PerfdoctorError(
            f"the DataLoader refuses its arguments: {first_line(error)}; see --help and "
            "Workload(loader_options=...)",
            slug="loader-arguments",
        ) from None
