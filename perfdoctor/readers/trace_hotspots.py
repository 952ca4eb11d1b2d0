"""What a trace's time goes into: kernels, operators and functions, without what they call."""

from __future__ import annotations

import numpy as np

from perfdoctor.readers.trace_events import (
    COPY,
    KERNEL,
    ON_DEVICE,
    OPERATOR,
    PROFILER,
    RUNTIME,
    SET,
    UNKNOWN,
    Events,
)
from perfdoctor.readers.trace_intervals import Spans, parents
from perfdoctor.readers.trace_stages import (
    COMMUNICATION,
    cpu_stage,
    device_stage,
    python_place,
    spans_of,
)
from perfdoctor.record import Floats, Hotspot

_MOST = 10
_SMALLEST_SHARE = 0.001
_NAME_LENGTH = 120
_TORCH_NAMES = ("torch/", "enumerate(DataLoader)#", "Optimizer.")


def hotspots(events: Events, span_us: float) -> tuple[Hotspot, ...]:
    """At most ten, the largest first.

    Kernels and copies with their time on the device; functions on the CPU with the time that is
    theirs alone and in which no kernel runs, since what the device hides costs nothing.
    """
    if span_us <= 0:
        return ()
    kind_of = np.full(len(events.names), UNKNOWN)
    kind_of[events.name] = events.kind
    found = [
        (time_us / span_us, events.names[name], int(kind_of[name]), device)
        for device, times in ((True, _on_device(events)), (False, _exposed(events)))
        for name, time_us in enumerate(times.tolist())
        if time_us / span_us >= _SMALLEST_SHARE
    ]
    found.sort(key=lambda spot: (-spot[0], spot[1]))
    return tuple(
        _kernel(name, share) if device else _function(name, kind, share)
        for share, name, kind, device in found[:_MOST]
    )


def _on_device(events: Events) -> Floats:
    which = events.of(KERNEL, COPY, SET)
    length = events.stop_us[which] - events.start_us[which]
    total = np.zeros(len(events.names))
    total += np.bincount(events.name[which], weights=length, minlength=total.size)
    return total


def _exposed(events: Events) -> Floats:
    """For each name, the time on the CPU without inner spans while no kernel runs."""
    busy = spans_of(events, events.of(KERNEL))
    on_cpu = ~events.of(*ON_DEVICE, PROFILER)
    total = np.zeros(len(events.names))
    for thread in np.unique(events.thread[on_cpu]):
        rows = np.flatnonzero(on_cpu & (events.thread == thread))
        starts, stops, names = events.start_us[rows], events.stop_us[rows], events.name[rows]
        waits = _outside(busy, starts, stops)
        parent = parents(starts, stops)
        total += np.bincount(names, weights=waits, minlength=total.size)
        inner = parent >= 0
        total -= np.bincount(names[parent[inner]], weights=waits[inner], minlength=total.size)
    steps = [index for index, name in enumerate(events.names) if name.startswith("ProfilerStep")]
    total[steps] = 0.0
    return total


def _outside(busy: Spans, starts: Floats, stops: Floats) -> Floats:
    waits: Floats = (stops - starts) - (busy.before(stops) - busy.before(starts))
    return waits


def _kernel(name: str, share: float) -> Hotspot:
    stage = device_stage(name)
    library = "nccl" if stage == COMMUNICATION else "cuda"
    return Hotspot(
        file="", line=0, function=_plain(name), share=share, library=library, stage=stage
    )


def _function(name: str, kind: int, share: float) -> Hotspot:
    stage = cpu_stage(name, kind)
    file, line, function = python_place(name) or ("", 0, name)
    library = "cuda" if kind == RUNTIME else None
    if kind == OPERATOR or name.startswith(_TORCH_NAMES):
        library = "torch"
    return Hotspot(
        file=_plain(file),
        line=line,
        function=_plain(function),
        share=share,
        library=library,
        stage=stage,
    )


def _plain(name: str) -> str:
    """Without control characters, and not longer than a line."""
    short = name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…"
    return "".join(c if c.isprintable() else "?" for c in short)
