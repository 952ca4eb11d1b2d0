"""What one DataLoader worker has done, in a buffer of fixed size that another process can read.

The buffer is a memory-mapped file, so that the numbers survive the worker however it ends. It
holds totals and a uniform sample of the batches. Written by the worker, with nothing imported
but the standard library: a spawned worker imports this before its first batch.
"""

from __future__ import annotations

import math
import mmap
import os
import random
import struct
from collections.abc import Sequence
from operator import sub
from typing import Any

#: Tells that a file was written by this version of the layout.
MAGIC = 0x7066_646F_6374_0001
#: Written when it happens.
HEADER = ("magic", "pid", "worker", "entered_ns", "ready_ns", "first_fetch_ns", "finished")
#: Written after each batch.
TOTALS = (
    "last_ns",
    "batches",
    "samples",
    "fetch_ns",
    "collate_ns",
    "cpu_ns",
    "cpu_of_ns",
    "idle_ns",
    "send_ns",
    "lost",
    "recorded",
)
#: One batch; then as many times of single samples as `timed` says.
BATCH = ("start_ns", "fetch_ns", "collate_ns", "cpu_ns", "idle_ns", "samples", "timed")
#: Batches kept of a worker, and samples kept of a batch.
CAPACITY = 512
SAMPLES = 17

#: What a worker is doing: before its first index, waiting for the next, getting samples, in the
#: collate function. The labels of its stacks.
STARTING, WAITING, FETCHING, COLLATING = range(4)

_WORD = 8
FIRST_TOTAL = len(HEADER)
FIRST_BATCH = FIRST_TOTAL + len(TOTALS)
BATCH_WORDS = len(BATCH) + SAMPLES
SIZE_BYTES = _WORD * (FIRST_BATCH + CAPACITY * BATCH_WORDS)

_PACK_TOTALS = struct.Struct(f"={len(TOTALS)}q").pack_into
_PACK_ONE = struct.Struct("=q").pack_into
_TOTALS_AT = _WORD * FIRST_TOTAL
_HEADER_AT = {name: _WORD * place for place, name in enumerate(HEADER)}


class Reservoir:
    """Which elements of a stream of unknown length to keep, each with the same chance.

    `next` is the number of the next one to keep; `take` gives its place. Costs nothing for the
    others (algorithm L: K.-H. Li, "Reservoir-sampling algorithms of time complexity
    O(n(1+log(N/n)))", 1994). Its random numbers are its own: the script's stay as they are.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        self.next = 0
        self._capacity = capacity
        self._random = random.Random(seed)
        self._weight = 1.0

    def take(self) -> int:
        """The place for the element numbered `next`; moves on to the one after it."""
        place = self.next
        if place >= self._capacity:
            place = self._random.randrange(self._capacity)
        self.next += 1
        if self.next >= self._capacity:
            self.next += self._skipped()
        return place

    def _skipped(self) -> int:
        self._weight *= math.exp(math.log(1.0 - self._random.random()) / self._capacity)
        rate = math.log1p(-min(self._weight, 1.0 - 1e-12))
        return int(math.log(1.0 - self._random.random()) / rate)


class Tally:
    """Counts one worker's batches into `buffer`."""

    def __init__(self, buffer: Any, worker: int, entered_ns: int) -> None:
        self._buffer = buffer
        self._reservoir = Reservoir(CAPACITY, worker)
        self.batches = self._samples = self._lost = self._recorded = 0
        self._fetch_ns = self._collate_ns = self._idle_ns = self._send_ns = 0
        self._cpu_ns = self._cpu_of_ns = 0
        self.put("pid", os.getpid())
        self.put("worker", worker)
        self.put("entered_ns", entered_ns)
        self._write(entered_ns)
        self.put("magic", MAGIC)

    def put(self, name: str, value: int) -> None:
        """Writes one of `HEADER`."""
        _PACK_ONE(self._buffer, _HEADER_AT[name], value)

    @property
    def keeps_next(self) -> bool:
        """Whether the next batch is one of those that are kept."""
        return self.batches == self._reservoir.next

    def add(
        self,
        start_ns: int,
        fetch_ns: int,
        collate_ns: int,
        cpu_ns: int,
        idle_ns: int,
        samples: int,
        stamps: Sequence[int],
    ) -> None:
        """One batch.

        `cpu_ns` is negative where it was not measured; of a batch that is kept it must be.
        `stamps`: when each sample was begun and the last one ended, if known.
        """
        if self.batches == self._reservoir.next:
            times = _spread(list(map(sub, stamps[1:], stamps)), self.batches)
            if not times and samples:
                times = [fetch_ns // samples]
            place = FIRST_BATCH + BATCH_WORDS * self._reservoir.take()
            record = (start_ns, fetch_ns, collate_ns, cpu_ns, idle_ns, samples, len(times), *times)
            struct.pack_into(f"={len(record)}q", self._buffer, _WORD * place, *record)
            self._recorded = min(CAPACITY, self._recorded + 1)
        self.batches += 1
        self._samples += samples
        self._fetch_ns += fetch_ns
        self._collate_ns += collate_ns
        if cpu_ns >= 0:
            self._cpu_ns += cpu_ns
            self._cpu_of_ns += fetch_ns + collate_ns
        self._idle_ns += idle_ns

    def lose(self) -> None:
        """A batch that failed."""
        self._lost += 1

    def sent(self, now_ns: int, send_ns: int) -> None:
        """What was added is handed over, which took `send_ns`: now others may see it."""
        self._send_ns += send_ns
        self._write(now_ns)

    def finish(self, now_ns: int) -> None:
        """There will be no more."""
        self._write(now_ns)
        self.put("finished", 1)

    def _write(self, now_ns: int) -> None:
        _PACK_TOTALS(
            self._buffer,
            _TOTALS_AT,
            now_ns,
            self.batches,
            self._samples,
            self._fetch_ns,
            self._collate_ns,
            self._cpu_ns,
            self._cpu_of_ns,
            self._idle_ns,
            self._send_ns,
            self._lost,
            self._recorded,
        )


def _spread(times: list[int], offset: int) -> list[int]:
    """At most `SAMPLES` of these, from everywhere; not the same places each time."""
    stride = -(-len(times) // SAMPLES)
    return times[offset % stride :: stride] if stride > 1 else times


def map_file(path: str) -> mmap.mmap:
    """A new file of `SIZE_BYTES` zeros, in memory.

    Its blocks are asked for here: on a full disk this raises OSError, whereas writing to a
    mapped file with holes in it would kill the process.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, SIZE_BYTES)
        else:
            os.write(descriptor, bytes(SIZE_BYTES))
        return mmap.mmap(descriptor, SIZE_BYTES)
    finally:
        os.close(descriptor)
