"""The events of a trace as columns: what ran, when, where and for how long."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.trace_json import BAD_JSON, Document, Event
from perfdoctor.record import Bools, Floats

KERNEL, COPY, SET, GPU_ANNOTATION, GPU_SYNC = 1, 2, 3, 4, 5
ANNOTATION, OPERATOR, RUNTIME, PYTHON, PROFILER, UNKNOWN = 6, 7, 8, 9, 10, 0
#: Categories in small letters → kinds: libkineto's ActivityType.cpp, and PyTorch 1.8's names.
_KINDS = {
    "kernel": KERNEL,
    "gpu_memcpy": COPY, "memcpy": COPY,
    "gpu_memset": SET, "memset": SET,
    "gpu_user_annotation": GPU_ANNOTATION,
    "cuda_sync": GPU_SYNC,
    "user_annotation": ANNOTATION,
    "cpu_op": OPERATOR, "operator": OPERATOR,
    "cuda_runtime": RUNTIME, "cuda_driver": RUNTIME, "runtime": RUNTIME, "xpu_runtime": RUNTIME,
    "python_function": PYTHON, "python": PYTHON,
    "trace": PROFILER, "overhead": PROFILER,
}  # fmt: skip
#: On the device, not on a thread of the CPU.
ON_DEVICE = (KERNEL, COPY, SET, GPU_ANNOTATION, GPU_SYNC)
_ACCELERATOR = 1  # c10::DeviceType: 0 is the CPU


class _Args(msgspec.Struct, gc=False):
    correlation: int = 0
    total_reserved: int = msgspec.field(default=0, name="Total Reserved")
    total_allocated: int = msgspec.field(default=0, name="Total Allocated")
    device_type: int = msgspec.field(default=0, name="Device Type")


@dataclass(frozen=True)
class Events:
    """Complete events in the order of the file, one element each.

    Attributes:
        number: its place in the file, from 1. start_us, stop_us: on the trace's clock.
        name, thread: indices into `names` and `threads` (process and thread ids). kind: as above.
        correlation: joins a call with what it started on the device, for copies only; else 0.
    """

    number: NDArray[np.int64]
    start_us: Floats
    stop_us: Floats
    name: NDArray[np.int32]
    kind: NDArray[np.int8]
    thread: NDArray[np.int32]
    correlation: NDArray[np.int64]
    names: tuple[str, ...]
    threads: tuple[tuple[str, str], ...]

    def of(self, *kinds: int) -> Bools:
        """Which events are of one of these kinds."""
        wanted: Bools = np.isin(self.kind, kinds)
        return wanted

    def named(self, test: Callable[[str], object]) -> Bools:
        """Which events have a name that passes the test."""
        passes = np.array([bool(test(name)) for name in self.names], dtype=np.bool_)
        return passes[self.name] if passes.size else np.zeros(0, dtype=np.bool_)


@dataclass
class Collector:
    """Takes events piece by piece; keeps numbers, and each name once.

    Attributes:
        count: events seen, of any phase. peak_bytes: of the accelerator's allocator, 0 if unknown.
    """

    count: int = 0
    peak_bytes: int = 0
    _names: dict[str, int] = field(default_factory=dict)
    _threads: dict[tuple[str, str], int] = field(default_factory=dict)
    _ints: tuple[array[int], ...] = field(
        default_factory=lambda: (array("q"), array("l"), array("b"), array("l"), array("q"))
    )
    _times: tuple[array[float], array[float]] = field(
        default_factory=lambda: (array("d"), array("d"))
    )

    def add(self, events: list[Event]) -> None:
        """Takes the complete events (phase X) of a piece."""
        numbers, names, kinds, threads, correlations = self._ints
        starts, stops = self._times
        for number, event in enumerate(events, self.count + 1):
            start, length = event.ts, event.dur or 0.0
            if event.ph != "X" or start is None or not math.isfinite(start + length):
                self._memory(event)
                continue
            name = str(event.name or "")
            kind = _KINDS.get((event.cat or "").lower(), UNKNOWN)
            numbers.append(number)
            starts.append(start)
            stops.append(start + max(length, 0.0))
            names.append(self._names.setdefault(name, len(self._names)))
            kinds.append(kind)
            place = str(event.pid), str(event.tid)
            threads.append(self._threads.setdefault(place, len(self._threads)))
            is_copy = kind in (COPY, RUNTIME) and "emcpy" in name
            correlations.append(_args(event).correlation if is_copy else 0)
        self.count += len(events)

    def _memory(self, event: Event) -> None:
        if event.name == "[memory]":
            args = _args(event)
            if args.device_type >= _ACCELERATOR:
                used = max(args.total_reserved, args.total_allocated)
                self.peak_bytes = max(self.peak_bytes, used)

    def events(self) -> Events:
        """All that was taken."""
        number, name, kind, thread, correlation = self._ints
        start, stop = self._times
        return Events(
            number=np.array(number, dtype=np.int64),
            start_us=np.array(start, dtype=np.float64),
            stop_us=np.array(stop, dtype=np.float64),
            name=np.array(name, dtype=np.int32),
            kind=np.array(kind, dtype=np.int8),
            thread=np.array(thread, dtype=np.int32),
            correlation=np.array(correlation, dtype=np.int64),
            names=tuple(self._names),
            threads=tuple(self._threads),
        )


def collect(document: Document) -> Collector:
    """Every complete event of the document."""
    collector = Collector()
    for events in document.pieces():
        collector.add(events)
    return collector


_decode_args = msgspec.json.Decoder(_Args, strict=False).decode


def _args(event: Event) -> _Args:
    try:
        return _decode_args(event.args)
    except BAD_JSON:
        return _Args()
