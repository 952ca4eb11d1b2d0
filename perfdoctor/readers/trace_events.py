"""The events of a trace as columns: what ran, when, where and for how long."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

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
#: No clock counts so far: it would be 32 000 years.
_ENDLESS_US = 1e18
_ACCELERATOR = 1  # c10::DeviceType: 0 is the CPU


_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Args(msgspec.Struct, gc=False):
    correlation: _Int64 = 0
    total_reserved: _Int64 = msgspec.field(default=0, name="Total Reserved")
    total_allocated: _Int64 = msgspec.field(default=0, name="Total Allocated")
    device_type: _Int64 = msgspec.field(default=0, name="Device Type")


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
    _names: dict[str | int | float | None, int] = field(default_factory=dict)
    _kinds: dict[str | None, int] = field(default_factory=dict)
    _threads: dict[tuple[object, object], int] = field(default_factory=dict)
    _number: array[int] = field(default_factory=lambda: array("q"))
    _start: array[float] = field(default_factory=lambda: array("d"))
    _length: array[float] = field(default_factory=lambda: array("d"))
    _name: array[int] = field(default_factory=lambda: array("i"))
    _kind: array[int] = field(default_factory=lambda: array("b"))
    _thread: array[int] = field(default_factory=lambda: array("i"))
    _copies: dict[int, int] = field(default_factory=dict)

    def add(self, events: list[Event]) -> None:
        """Takes the complete events (phase X) of a piece. One pass a column is the quickest."""
        first = self.count + 1
        self.count += len(events)
        self._number.extend([n for n, e in enumerate(events, first) if _is_complete(e)])
        for event in events:
            if event.name == "[memory]":
                self._memory(_args(event))
        events = [event for event in events if _is_complete(event)]
        self._note_copies(events)
        names, threads = self._names, self._threads
        self._start.extend([event.ts for event in events])  # type: ignore[misc]
        self._length.extend([event.dur or 0.0 for event in events])
        self._name.extend([names.setdefault(event.name, len(names)) for event in events])
        self._kind.extend([self._kind_of(event.cat) for event in events])
        self._thread.extend([threads.setdefault((e.pid, e.tid), len(threads)) for e in events])

    def _kind_of(self, category: str | None) -> int:
        kind = self._kinds.get(category)
        if kind is None:
            kind = self._kinds[category] = _KINDS.get((category or "").lower(), UNKNOWN)
        return kind

    def _note_copies(self, events: list[Event]) -> None:
        """What joins calls that copy with the copies on the device."""
        for row, event in enumerate(events, len(self._start)):
            if type(event.name) is str and "emcpy" in event.name:
                self._copies[row] = _args(event).correlation

    def _memory(self, args: _Args) -> None:
        if args.device_type >= _ACCELERATOR:
            self.peak_bytes = max(self.peak_bytes, args.total_reserved, args.total_allocated)

    def events(self) -> Events:
        """All that was taken. Nothing can be added after that."""
        start = np.frombuffer(self._start, dtype=np.float64)
        stop = start + np.maximum(np.frombuffer(self._length, dtype=np.float64), 0.0)
        correlation = np.zeros(start.size, dtype=np.int64)
        correlation[list(self._copies)] = list(self._copies.values())
        real = (np.abs(start) < _ENDLESS_US) & (stop < _ENDLESS_US)  # not inf or NaN either
        return Events(
            number=np.frombuffer(self._number, dtype=np.int64)[real],
            start_us=start[real],
            stop_us=stop[real],
            name=np.frombuffer(self._name, dtype=np.int32)[real],
            kind=np.frombuffer(self._kind, dtype=np.int8)[real],
            thread=np.frombuffer(self._thread, dtype=np.int32)[real],
            correlation=correlation[real],
            names=tuple(str(name or "") for name in self._names),
            threads=tuple((str(process), str(thread)) for process, thread in self._threads),
        )


def _is_complete(event: Event) -> bool:
    return event.ph == "X" and event.ts is not None


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
