"""Inside a DataLoader worker: times what torch's own worker loop does, without being seen.

The loop gets the user's objects. Only three things that it hands to nobody are wrapped: the
queue of indices (a batch begins when one comes out), the queue of batches (it is done when it
goes in) and the collate function, whose wrapper stamps a clock and leaves the call to torch. No
function of ours is on the stack while the user's code runs, so tracebacks and the places of
warnings are what they are without us.
"""

from __future__ import annotations

import inspect
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.process import parent_process
from typing import TYPE_CHECKING, Any

from perfdoctor.collect.script.worker_records import (
    COLLATING,
    FETCHING,
    STARTING,
    WAITING,
    Tally,
    map_file,
)

if TYPE_CHECKING:
    from perfdoctor.collect.script.worker_stacks import Looks

WORKER_MODULE = "torch.utils.data._utils.worker"
#: Endings of the files that a worker writes.
BATCHES, STACKS = ".batches", ".stacks"
#: Arguments of torch's loop that are used here.
NEEDED = ("dataset", "index_queue", "data_queue", "auto_collation", "collate_fn", "worker_id")

_clock = time.perf_counter_ns
_cpu_clock = time.thread_time_ns
_ITERABLE = 1  # torch.utils.data._DatasetKind.Iterable

#: torch's loops that are replaced in this process, by name; a forked worker finds them here.
originals: dict[str, Callable[..., None]] = {}


@dataclass(frozen=True)
class Site:
    """What a worker must know: the name of torch's loop, where to write, and for whom."""

    loop: str
    folder: str
    owner_pid: int


def observed_worker_loop(site: Site, *args: Any, **kwargs: Any) -> None:
    """Runs torch's worker loop, timed."""
    entered_ns = _clock()
    loop = originals.get(site.loop) or getattr(import_module(WORKER_MODULE), site.loop)
    try:
        observed = _observe(site, loop, args, kwargs, entered_ns)
    except Exception:  # never the training's problem: this worker is not observed
        observed = None
    if observed is None:
        loop(*args, **kwargs)
        return
    watch, looks, arguments = observed
    try:
        loop(**arguments)
    finally:
        watch.close()
        if looks is not None:
            with suppress(Exception):
                looks.close()


def _observe(
    site: Site,
    loop: Callable[..., None],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    entered_ns: int,
) -> tuple[Stopwatch, Looks | None, dict[str, Any]] | None:
    """Who watches, and what the loop gets; None in a worker of someone else's loader."""
    parent = parent_process()
    if parent is None or parent.pid != site.owner_pid:
        return None
    given = dict(inspect.signature(loop).bind(*args, **kwargs).arguments)
    path = os.path.join(site.folder, f"{os.getpid()}-{entered_ns}")  # noqa: PTH118
    tally = Tally(map_file(path + BATCHES), given["worker_id"], entered_ns)
    watch = Stopwatch(
        tally,
        given["dataset"],
        iterable=given.get("dataset_kind") == _ITERABLE,
        batched=bool(given["auto_collation"]),
    )
    given["index_queue"] = IndexQueue(given["index_queue"], watch)
    given["data_queue"] = DataQueue(given["data_queue"], watch)
    given["collate_fn"] = StampedCollate(given["collate_fn"], watch)
    return watch, _look(path + STACKS, watch), given


def _look(path: str, watch: Stopwatch) -> Looks | None:
    """Begins to look at this thread's lines; the batches are timed without that as well."""
    code = observed_worker_loop.__code__
    try:
        from perfdoctor.collect.script.worker_stacks import Looks

        place = (code.co_filename, code.co_name)
        return Looks(path, threading.get_ident(), watch.doing, place)
    except Exception:
        return None


class Stopwatch:
    """The batch being made. Whatever fails here ends the observation and nothing else."""

    def __init__(self, tally: Tally, dataset: Any, *, iterable: bool, batched: bool) -> None:
        self.off = False
        self.collating_ns = 0
        self.waited = False
        self._tally = tally
        self._dataset = dataset
        self._iterable = iterable
        self._batched = batched
        self._splits: bool | None = iterable if iterable and batched else None
        self._begun_ns = self._begun_cpu_ns = self._idle_ns = 0
        self._done_ns = self._sent_ns = 0
        self._first, self._failed = True, False
        self._samples = 0
        self._stamps: list[int] = []

    def doing(self) -> int:
        """What the worker is doing, as a label for its stacks."""
        if not self._begun_ns:
            return WAITING if self.waited else STARTING
        return COLLATING if self.collating_ns else FETCHING

    def waits(self) -> None:
        """The loop asks for its first index."""
        self.waited = True
        self._tally.put("ready_ns", _clock())

    def received(self, message: Any) -> Any:
        """What came out of the queue of indices, for the loop."""
        try:
            if type(message) is tuple and len(message) == 2:
                return message[0], self.begin(message[1])
        except Exception:
            self.off = True
        self._begun_ns = self._sent_ns = 0  # the end, or a new epoch: no waiting for the next
        return message

    def begin(self, index: Any) -> Any:
        """A batch begins; the index to fetch it with."""
        now = _clock()
        if self._first:
            self._first = False
            self._tally.put("first_fetch_ns", now)
        self._idle_ns = now - self._sent_ns if self._sent_ns else 0
        self.collating_ns = 0
        self._begun_ns = now
        self._failed = False
        self._stamps = []
        many = isinstance(index, list) or (self._batched and hasattr(index, "__len__"))
        self._samples = len(index) if many else 1
        if self._iterable or self._tally.keeps_next:
            index = self._timed(index)
        self._begun_cpu_ns = _cpu_clock()
        return index

    def end(self) -> None:
        """The batch is made, or has failed, or there was none left."""
        cpu_ns = _cpu_clock() - self._begun_cpu_ns
        now = _clock()
        begun, self._begun_ns = self._begun_ns, 0
        self._done_ns = now if begun else 0
        if self._failed:
            self._tally.lose()
        if not begun or self._failed or not self.collating_ns:
            return
        samples = self._samples if not self._stamps else len(self._stamps) - 1
        self._tally.add(
            begun,
            self.collating_ns - begun,
            now - self.collating_ns,
            cpu_ns,
            self._idle_ns,
            samples,
            self._stamps,
        )

    def fail(self) -> None:
        """The batch being made is an error instead."""
        self._failed = True

    def sent(self) -> None:
        """The batch is in the queue of batches."""
        if self._done_ns:
            self._sent_ns = _clock()
            self._tally.sent(self._sent_ns, self._sent_ns - self._done_ns)

    def kept(self) -> None:
        """The batch is in the hands of who asked for it: there is no queue, and no waiting."""
        self._tally.sent(self._done_ns, 0)

    def close(self) -> None:
        """The worker ends."""
        try:
            self._tally.finish(_clock())
        except Exception:
            self.off = True

    def _timed(self, index: Any) -> Any:
        if self._splits is None:
            self._splits = self._batched and not takes_many(self._dataset)
        if not self._splits or type(index) is not list:
            return index
        timed = TimedIndices(index)
        timed.stamps = self._stamps
        return timed


class TimedIndices(list[Any]):
    """The indices of a batch; whoever goes through them leaves the time of each."""

    stamps: list[int]

    def __iter__(self) -> Iterator[Any]:
        stamps = self.stamps
        for index in list.__iter__(self):
            stamps.append(_clock())
            yield index
        stamps.append(_clock())


class StampedCollate:
    """A collate function. Python asks the property what to call, and calls that itself."""

    def __init__(self, collate: Any, watch: Stopwatch) -> None:
        self.collate = collate
        self._watch = watch

    @property
    def __call__(self) -> Any:
        """The user's function; collating begins now."""
        self._watch.collating_ns = _clock()
        return self.collate


class IndexQueue:
    """The queue that tells a worker what to fetch."""

    def __init__(self, queue: Any, watch: Stopwatch) -> None:
        self._queue = queue
        self._watch = watch

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """The next message."""
        watch = self._watch
        if not watch.waited:
            watch.waits()
        message = self._queue.get(*args, **kwargs)
        return message if watch.off else watch.received(message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)


class DataQueue:
    """The queue that a worker's batches go into."""

    def __init__(self, queue: Any, watch: Stopwatch) -> None:
        self._queue = queue
        self._watch = watch
        self._error = import_module("torch._utils").ExceptionWrapper

    def put(self, message: Any, *args: Any, **kwargs: Any) -> None:
        """Hands a batch over."""
        watch = self._watch
        if watch.off:
            self._queue.put(message, *args, **kwargs)
            return
        try:
            if isinstance(message[1], self._error):
                watch.fail()
            watch.end()
        except Exception:
            watch.off = True
        self._queue.put(message, *args, **kwargs)
        try:
            watch.sent()
        except Exception:
            watch.off = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)


def takes_many(dataset: Any) -> bool:
    """Whether torch will ask a dataset for all samples of a batch at once (`__getitems__`).

    Runs code of the user's only where the class makes up its attributes; so does torch then.
    """
    if inspect.getattr_static(dataset, "__getitems__", None) is not None:
        return True
    if inspect.getattr_static(type(dataset), "__getattr__", None) is None:
        return False
    return hasattr(dataset, "__getitems__")
