"""Totals that torch keeps itself: of the compiler, and of the CUDA allocator."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

import torch

from perfdoctor.record import Floats

_FEWEST_SAMPLES = 8
_COMPILE_ID = re.compile(r"(\d+)/(\d+)")


def torch_counters(device: torch.device) -> dict[str, float]:
    """`Run.counters` of this process so far; what torch does not tell is left out."""
    return compiler_counters() | allocator_counters(device)


def disk_counters(utilisation: Mapping[str, Floats]) -> dict[str, float]:
    """`disk_early_bytes_per_s` and `disk_late_bytes_per_s`, means over the halves of the samples.

    Empty where fewer than eight samples were taken: a half is then a moment.
    """
    rates = utilisation.get("disk_read_bytes_per_s")
    if rates is None or rates.size < _FEWEST_SAMPLES:
        return {}
    half = rates.size // 2
    return {
        "disk_early_bytes_per_s": float(rates[:half].mean()),
        "disk_late_bytes_per_s": float(rates[half:].mean()),
    }


def processor_counters(utilisation: Mapping[str, Floats]) -> dict[str, float]:
    """`own_cpu_early_percent` and `own_cpu_late_percent`: what the training and its loader's
    workers had of the processor (100 is one core), means over the halves of the samples.

    Empty where fewer than eight samples were taken.
    """
    main, workers = (utilisation.get(name) for name in ("cpu_main", "cpu_workers"))
    if main is None or workers is None or not _FEWEST_SAMPLES <= main.size == workers.size:
        return {}
    own, half = main + workers, main.size // 2
    return {
        "own_cpu_early_percent": float(own[:half].mean()),
        "own_cpu_late_percent": float(own[half:].mean()),
    }


def compiler_counters() -> dict[str, float]:
    """`graphs_compiled`, `graph_breaks`, `compile_s`, and `recompiles` with `recompile_s` of it.

    Empty where nothing was compiled.

    A recompile is a graph of code that had one before, by the compiler's own numbering
    (`torch._guards.CompileId`). torch keeps the last 64 compilations.
    """
    utils: Any = sys.modules.get("torch._dynamo.utils")
    counters = getattr(utils, "counters", {})  # it may be half imported, in another thread
    if utils is None or not counters.get("stats", {}).get("unique_graphs"):
        return {}
    found = {
        "graphs_compiled": float(utils.counters["stats"]["unique_graphs"]),
        "graph_breaks": float(sum(utils.counters["graph_break"].values())),
    }
    try:
        metrics = list(utils.get_compilation_metrics())
    except Exception:  # private, so it may be another one in another version
        return found
    numbers = [_COMPILE_ID.search(str(getattr(m, "compile_id", "") or "")) for m in metrics]
    again = [m for m, n in zip(metrics, numbers, strict=True) if n and int(n[2]) > 0]
    found["recompiles"] = float(len(again))
    found["recompile_s"] = sum(map(_compile_s, again))
    found["compile_s"] = sum(map(_compile_s, metrics))
    return found


def _compile_s(metric: Any) -> float:
    """Of one graph, under the name of newer versions or of older ones."""
    microseconds = getattr(metric, "duration_us", None)
    if isinstance(microseconds, int | float):
        return float(microseconds) * 1e-6
    seconds = getattr(metric, "entire_frame_compile_time_s", None)
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def allocator_counters(device: torch.device) -> dict[str, float]:
    """Of the CUDA allocator (`torch.cuda.memory_stats`); empty on other devices."""
    if device.type != "cuda" or not torch.cuda.is_initialized():
        return {}
    stats = torch.cuda.memory_stats(device)
    names = {
        "allocator_retries": "num_alloc_retries",
        "allocator_reserved_peak_bytes": "reserved_bytes.all.peak",
        "allocator_allocated_peak_bytes": "allocated_bytes.all.peak",
        "allocator_inactive_bytes": "inactive_split_bytes.all.peak",
    }
    return {name: float(stats[key]) for name, key in names.items() if key in stats}
