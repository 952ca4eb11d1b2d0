"""Inside a DataLoader worker: times what torch's own worker loop does, without being seen.

The loop gets the user's objects. Only three things that it hands to nobody are wrapped: the
queue of indices (a batch begins when one comes out), the queue of batches (it is done when it
goes in) and the collate function, whose wrapper stamps a clock and leaves the call to torch. No
function of ours stands between torch's loop and the user's code, so tracebacks and the places of
warnings are what they are without us.
"""

from __future__ import annotations

import inspect
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.process import parent_process
from typing import TYPE_CHECKING, Any

from perfdoctor.collect.script.stopwatch import StampedCollate, Stopwatch
from perfdoctor.collect.script.worker_records import Tally, map_file

if TYPE_CHECKING:
    from perfdoctor.collect.script.worker_stacks import Looks

WORKER_MODULE = "torch.utils.data._utils.worker"
#: Endings of the files that a worker writes.
BATCHES, STACKS = ".batches", ".stacks"
#: Arguments of torch's loop that are used here.
NEEDED = ("dataset", "index_queue", "data_queue", "auto_collation", "collate_fn", "worker_id")

_clock = time.perf_counter_ns
ITERABLE = 1  # torch.utils.data._DatasetKind.Iterable

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
        iterable=given.get("dataset_kind") == ITERABLE,
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
