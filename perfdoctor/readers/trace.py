"""Chrome traces as torch.profiler writes them: steps, stages, the device's use, hotspots."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers.records import Reading, Records, empty
from perfdoctor.readers.trace_counters import trace_counters
from perfdoctor.readers.trace_events import (
    GPU_SYNC,
    KERNEL,
    PROFILER,
    RUNTIME,
    UNKNOWN,
    Collector,
    Events,
    collect,
)
from perfdoctor.readers.trace_hotspots import hotspots
from perfdoctor.readers.trace_intervals import Spans
from perfdoctor.readers.trace_json import Document, document
from perfdoctor.readers.trace_stages import spans_of, stage_seconds, step_rows
from perfdoctor.record import Floats

FORMAT = "pytorch_chrome_trace"
_HEAD_BYTES = 1 << 16
_SYNC = re.compile(r"(?:cuda|cu|hip|xpu|sycl)[A-Za-z]{0,20}Synchronize")
_LAUNCH = re.compile(r"(?:cuda|cu|hip|xpu|sycl)\w{0,20}LaunchKernel|cudaLaunchCooperative")
_EARLIEST_S, _LATEST_S = 9.4e8, 4.1e9  # 2000 and 2100: else the clock counts from the boot


def is_trace(name: str, head: bytes) -> bool:
    """Whether a file that begins with `head` is a Chrome trace."""
    begin = head[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    if begin.startswith(b"{"):
        kineto = b'"schemaVersion"' in begin and b'"deviceProperties"' in begin
        return kineto or b'"traceEvents"' in head
    listed = re.match(rb"\[\s*\{", begin) is not None
    return listed and all(key in begin for key in (b'"ph"', b'"ts"', b'"pid"'))


def read(path: str, data: bytes) -> Reading:
    """Steps with their stages, the device's use, and hotspots.

    Facts: wall_s from the first to the last thing recorded, active_s without the profiler's own
    rows; gpu_busy_share of active_s with a kernel running (mean over the devices that ran any),
    kernel_s their sum, which may exceed it; sync_count and sync_s of calls in which the CPU waits
    for the device; launch_count; what `trace_counters` adds; cuda_sync_count of the device's own
    rows for synchronisation; STAGE_s totals where there are no steps; peak_bytes where memory was
    recorded.

    Raises:
        PerfdoctorError: `trace-unreadable`, where there is not one event to read.
    """
    trace = document(data)
    if trace is None:
        raise _unreadable(path, "there is no list of events in it")
    collector = collect(trace)
    events = collector.events()
    if collector.count == 0 and (trace.cut or trace.bad):
        raise _unreadable(path, "it is cut off or damaged before its first event ends")
    numbers, rows = step_rows(events)
    windows = Spans(events.start_us[rows], events.stop_us[rows])
    active_us = _active(events)
    span = Spans(active_us[:1], active_us[1:])
    return Reading(
        path=path,
        format=FORMAT,
        framework="pytorch" if _is_pytorch(trace, events) else None,
        records=_records(trace, events, numbers, rows, windows) if rows.size else empty(),
        configuration=_configuration(trace),
        facts=_facts(events, collector, span, has_steps=bool(rows.size)),
        lines=collector.count,
        unread=trace.bad,
        hotspots=hotspots(events, span.length),
        notes=tuple(_notes(trace, collector, events, steps=rows.size)),
    )


def _unreadable(path: str, reason: str) -> PerfdoctorError:
    return PerfdoctorError(
        f"{path} cannot be read as a trace: {reason}; export it again with "
        "prof.export_chrome_trace()",
        slug="trace-unreadable",
    )


def _is_pytorch(trace: Document, events: Events) -> bool:
    return "schemaVersion" in trace.head or bool((events.kind != UNKNOWN).any())


def _active(events: Events) -> Floats:
    """Start and end of what was traced, in µs, without the profiler's own rows."""
    which = ~events.of(PROFILER)
    if not which.any():
        return np.empty(0)
    return np.array([events.start_us[which].min(), events.stop_us[which].max()])


def _records(trace: Document, events: Events, numbers: Any, rows: Any, windows: Spans) -> Records:
    columns = {
        "step": numbers.astype(np.float64),
        "step_s": (windows.stops - windows.starts) * 1e-6,
    }
    found = stage_seconds(events, windows)
    columns |= {f"{stage}_s": seconds for stage, seconds in found.items()}
    base_ns = trace.get("baseTimeNanoseconds")
    base_s = base_ns * 1e-9 if isinstance(base_ns, int | float) else 0.0
    time_s = windows.stops * 1e-6 + base_s
    if ((time_s > _EARLIEST_S) & (time_s < _LATEST_S)).all():
        columns["time"] = time_s
    rank = _distributed(trace).get("rank")
    if isinstance(rank, int):
        columns["rank"] = np.full(rows.size, float(rank))
    return Records(events.number[rows], columns)


def _distributed(trace: Document) -> dict[str, Any]:
    info = trace.get("distributedInfo")
    return info if isinstance(info, dict) else {}


def _configuration(trace: Document) -> dict[str, Any]:
    info = _distributed(trace)
    found = {"world_size": info.get("world_size"), "distributed_backend": info.get("backend")}
    devices = trace.get("deviceProperties")
    if isinstance(devices, list) and devices and isinstance(devices[0], dict):
        found["gpu"] = devices[0].get("name")
    return {key: value for key, value in found.items() if isinstance(value, str | int)}


def _facts(
    events: Events, collector: Collector, span: Spans, *, has_steps: bool
) -> dict[str, float]:
    if events.start_us.size == 0:
        return {}
    facts = {"wall_s": float(events.stop_us.max() - events.start_us.min()) * 1e-6}
    facts["active_s"] = span.length * 1e-6
    kernels = events.of(KERNEL)
    if kernels.any() and span.length > 0:
        busy = _busy_us(events)
        facts["gpu_busy_share"] = float(np.mean(busy)) / span.length
        facts["kernel_s"] = float((events.stop_us - events.start_us)[kernels].sum()) * 1e-6
    calls = events.of(RUNTIME)
    if calls.any():
        waits = calls & events.named(_SYNC.match)
        facts["sync_count"] = float(waits.sum())
        facts["sync_s"] = spans_of(events, waits).length * 1e-6
        facts["launch_count"] = float((calls & events.named(_LAUNCH.match)).sum())
    if events.of(GPU_SYNC).any():
        facts["cuda_sync_count"] = float(events.of(GPU_SYNC).sum())
    facts |= trace_counters(events)
    if collector.peak_bytes:
        facts["peak_bytes"] = float(collector.peak_bytes)
    if not has_steps and span.length > 0:
        totals = stage_seconds(events, span)
        facts |= {f"{stage}_s": float(seconds[0]) for stage, seconds in totals.items()}
    return facts


def _busy_us(events: Events) -> list[float]:
    """For each device, the time in which at least one kernel runs. Its id is the process id."""
    kernels = events.of(KERNEL)
    devices: dict[str, list[int]] = {}
    for index, (process, _) in enumerate(events.threads):
        devices.setdefault(process, []).append(index)
    spans = [
        spans_of(events, kernels & np.isin(events.thread, threads)) for threads in devices.values()
    ]
    return [span.length for span in spans if span.starts.size]


def _notes(trace: Document, collector: Collector, events: Events, *, steps: int) -> Iterator[str]:
    if trace.cut:
        yield f"The trace is cut off; the {collector.count} events before the cut are read."
    if trace.bad:
        events_are = "events are" if trace.bad > 1 else "event is"
        yield f"{trace.bad} {events_are} left out: not valid JSON."
    if not steps:
        yield (
            "There are no ProfilerStep rows in the trace, so it tells nothing of single steps; "
            "call prof.step() after each."
        )
    elif events.of(KERNEL).any():
        yield (
            "Steps and stages are as the CPU's threads saw them; the GPU may have worked on them "
            "later."
        )
    if trace.get("with_stack"):
        yield "Stacks were recorded, which makes Python code look slower than it is."
