"""Events of Chrome traces, written by hand."""

from __future__ import annotations

import json
from typing import Any

MAIN, AUTOGRAD, GPU = (100, 100), (100, 101), (0, 7)
Event = dict[str, Any]


def ran(
    name: str, start_us: float, stop_us: float, cat: str, where: tuple[Any, Any], **args: Any
) -> Event:
    return {
        "ph": "X", "cat": cat, "name": name, "pid": where[0], "tid": where[1], "ts": start_us,
        "dur": stop_us - start_us, "args": args,
    }  # fmt: skip


def op(name: str, start_us: float, stop_us: float, where: tuple[int, int] = MAIN) -> Event:
    return ran(name, start_us, stop_us, "cpu_op", where)


def note(name: str, start_us: float, stop_us: float, where: tuple[int, int] = MAIN) -> Event:
    return ran(name, start_us, stop_us, "user_annotation", where)


def call(name: str, start_us: float, stop_us: float, **args: Any) -> Event:
    return ran(name, start_us, stop_us, "cuda_runtime", MAIN, **args)


def kernel(
    name: str, start_us: float, stop_us: float, where: tuple[int, int] = GPU, **args: Any
) -> Event:
    return ran(name, start_us, stop_us, "kernel", where, **args)


def upload(start_us: float, stop_us: float, correlation: int) -> Event:
    name = "Memcpy HtoD (Pinned -> Device)"
    return ran(name, start_us, stop_us, "gpu_memcpy", GPU, correlation=correlation)


def steps(count: int, length_us: float = 100.0) -> list[Event]:
    return [
        note(f"ProfilerStep#{number}", number * length_us, (number + 1) * length_us)
        for number in range(count)
    ]


def trace(*events: Event, indent: int | None = None, **head: Any) -> bytes:
    document = {"schemaVersion": 1, **head, "traceEvents": list(events), "traceName": "t.json"}
    return json.dumps(document, indent=indent).encode()
