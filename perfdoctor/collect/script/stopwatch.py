"""Times one batch after another: its samples, its collating, the waiting before it.

Nothing here calls the user's code.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from typing import Any

from perfdoctor.collect.script.worker_records import COLLATING, FETCHING, STARTING, WAITING, Tally

#: Reading the thread's processor time is a system call, up to 1.5 µs: it is done for batches
#: after one that took this long, and for every so many of the others.
_LONG_NS, _EVERY = 1_000_000, 8
#: Batches whose samples are all timed; later it is one in `_EVERY`, as 64 of them cost 20 µs.
_TIMED_FIRST = 16
#: Without workers: batches that are all observed; later it is one in `_EVERY`, from so many on one
#: in `_RARELY`, and in the end none.
_ALL_FIRST, _MANY, _ENOUGH = 64, 128, 512
_RARELY = 32

_clock = time.perf_counter_ns
_cpu_clock = time.thread_time_ns


class Stopwatch:
    """The batch being made. Whatever fails here ends the observation and nothing else."""

    def __init__(self, tally: Tally, dataset: Any, *, iterable: bool, batched: bool) -> None:
        self.off = False
        self.collating_ns = 0
        self.waited = False
        self.left_out = 0  # of the next batches
        self._tally = tally
        self._dataset = dataset
        self._iterable = iterable
        self._batched = batched
        self._splits: bool | None = iterable if iterable and batched else None
        self._begun_ns = self._begun_cpu_ns = self._idle_ns = self._busy_ns = 0
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

    @property
    def enough(self) -> bool:
        """Whether so many batches were observed that more would tell nothing new."""
        return self._tally.batches >= _ENOUGH

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
        kept = self._tally.keeps_next
        batches = self._tally.batches
        if self._iterable or (kept and (batches < _TIMED_FIRST or not batches % _EVERY)):
            index = self._timed(index)
        measured = kept or self._busy_ns >= _LONG_NS or not self._tally.batches % _EVERY
        self._begun_cpu_ns = _cpu_clock() if measured else -1
        return index

    def end(self) -> None:
        """The batch is made, or has failed, or there was none left."""
        cpu_ns = _cpu_clock() - self._begun_cpu_ns if self._begun_cpu_ns >= 0 else -1
        now = _clock()
        begun, self._begun_ns = self._begun_ns, 0
        self._done_ns = now if begun else 0
        if self._failed:
            self._tally.lose()
        if not begun or self._failed or not self.collating_ns:
            return
        self._busy_ns = now - begun
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
        """The batch is in the hands of who asked for it: there is no queue, and no waiting.

        In the training process itself the time for timing adds up, and of many batches a part
        tells as much.
        """
        self._tally.sent(self._done_ns, 0)
        if self._tally.batches >= _ALL_FIRST:
            self.left_out = (_EVERY if self._tally.batches < _MANY else _RARELY) - 1

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
        self.watch = watch

    @property
    def __call__(self) -> Any:
        """The user's function; collating begins now."""
        self.watch.collating_ns = _clock()
        return self.collate


def takes_many(dataset: Any) -> bool:
    """Whether torch will ask a dataset for all samples of a batch at once (`__getitems__`).

    Runs code of the user's only where the class makes up its attributes; so does torch then.
    """
    if inspect.getattr_static(dataset, "__getitems__", None) is not None:
        return True
    if inspect.getattr_static(type(dataset), "__getattr__", None) is None:
        return False
    return hasattr(dataset, "__getitems__")
