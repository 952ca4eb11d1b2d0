"""From a Run to the numbers of a Report. Nothing is concluded here; that is for the rules."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import numpy as np

from perfdoctor import __version__, schema
from perfdoctor.record import Floats, LoaderRecord, Memory, Run, StageSeries
from perfdoctor.report import (
    Epochs,
    Loader,
    MemoryUse,
    Report,
    StageStat,
    Stat,
    Steps,
    Throughput,
    Trend,
    Usage,
)
from perfdoctor.stages import OTHER, in_order
from perfdoctor.stats import describe, kendall_p, quantile_interval, warmup_length

#: Points kept of each series in the report; longer ones are thinned evenly.
SERIES_POINTS = 2_000
#: Parts the run is cut into to see a trend, and to put an interval on its throughput.
_PARTS = 20
#: A change of throughput smaller than this is no trend: the median of identical blocks varied by
#: 2.1 % (one standard deviation) on a loaded two-core machine.
_STEADY_CHANGE = 0.05
_TREND_P = 0.01


def summarise(run: Run) -> Report:
    """The report of `run`, without diagnosis and recommendations."""
    warmup = run.warmup if run.warmup is not None else warmup_length(run.step_s)
    warmup = min(warmup, max(0, run.step_s.size - 1))
    kept = slice(warmup, None)
    return Report(
        schema_version=schema.SCHEMA_VERSION,
        tool={"name": "perfdoctor", "version": __version__},
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        name=run.name,
        source=run.source,
        environment=run.environment,
        configuration=run.configuration,
        notes=run.notes,
        steps=_steps(run, warmup),
        stages=_stages(run, kept),
        throughput=_throughput(run, kept),
        epochs=_epochs(run),
        alone={s.name: stat for s in run.alone if (stat := describe(s.exposed_s))},
        loader=_loader(run.loader),
        inference=None if run.latency_s is None else describe(run.latency_s),
        utilisation={name: _usage(v) for name, v in run.utilisation.items() if v.size},
        memory=_memory(run.memory),
        limits={limit.name: limit for limit in run.limits},
        probes={probe.name: probe for probe in run.probes},
        sampling=run.sampling,
        skipped=run.skipped,
        warnings=run.warnings,
        series=_series(run, kept),
    )


def _steps(run: Run, warmup: int) -> Steps:
    time = describe(run.step_s[warmup:])
    if time is None:
        raise ValueError("a Run needs at least one step")
    return Steps(
        count=time.count,
        warmup_discarded=warmup,
        time=time,
        first_s=run.first_s,
        host=None if run.host_s is None else describe(run.host_s[warmup:]),
        cpu_s=run.step_cpu_s,
    )


def _stages(run: Run, kept: slice) -> dict[str, StageStat]:
    total = float(run.step_s[kept].sum())
    by_name = {series.name: series for series in run.stages}
    stages = {}
    for name in in_order(list(by_name)):
        stat = _stage(by_name[name], kept, total)
        if stat is not None:
            stages[name] = stat
    return stages


def _stage(series: StageSeries, kept: slice, total: float) -> StageStat | None:
    exposed = series.exposed_s[kept]
    stat = describe(exposed)
    if stat is None:
        return None
    hidden = None if series.hidden_s is None else series.hidden_s[kept]
    seen = hidden is not None and bool(np.isfinite(hidden).any())
    return StageStat(
        **_fields(stat),
        share=stat.total_s / total if total else 0.0,
        hidden_s=float(np.nanmedian(hidden)) if hidden is not None and seen else None,
        calls_per_step=stat.count / exposed.size,
    )


def _fields(stat: Stat) -> dict[str, Any]:
    return {name: getattr(stat, name) for name in stat.__dataclass_fields__}


def _throughput(run: Run, kept: slice) -> Throughput:
    step_s, samples = run.step_s[kept], run.samples[kept]
    total = float(step_s.sum())
    parts = min(_PARTS, step_s.size)
    rates = _part_rates(step_s, samples, parts)
    samples_per_s = float(samples.sum()) / total
    tokens = run.tokens_per_sample
    return Throughput(
        samples_per_s=samples_per_s,
        steps_per_s=step_s.size / total,
        samples_per_s_ci=quantile_interval(rates, 0.5),
        tokens_per_s=None if tokens is None else samples_per_s * tokens,
        trend=_trend(rates),
    )


def _part_rates(step_s: Floats, samples: Floats, parts: int) -> Floats:
    pairs = zip(np.array_split(step_s, parts), np.array_split(samples, parts), strict=True)
    return np.array([s.sum() / t.sum() for t, s in pairs])


def _trend(rates: Floats) -> Trend | None:
    if rates.size < _PARTS:
        return None
    first, last = float(np.median(rates[:3])), float(np.median(rates[-3:]))
    change = last / first - 1
    moved = abs(change) > _STEADY_CHANGE and kendall_p(rates) < _TREND_P
    return Trend(first=first, last=last, change=change, shape="drift" if moved else "steady")


def _epochs(run: Run) -> Epochs:
    start = None if run.loader is None else describe(run.loader.first_batch_s)
    count = int(run.epoch_start.sum())
    return Epochs(count=count, steps_per_epoch=run.steps_per_epoch, start=start)


def _loader(record: LoaderRecord | None) -> Loader | None:
    if record is None:
        return None
    batch, collate = describe(record.batch_s), describe(record.collate_s)
    if batch is None or collate is None:
        return None
    return Loader(
        batch=batch,
        collate=collate,
        batch_cpu_s=float(np.median(record.cpu_s)),
        capacity_samples_per_s=_capacity(record),
        read_bytes_per_s=record.read_bytes_per_s,
        disk_bytes_per_s=record.disk_bytes_per_s,
    )


def _capacity(record: LoaderRecord) -> float | None:
    if record.alone_s is None or not record.alone_samples:
        return None
    return record.alone_samples / float(record.alone_s.sum())


def _memory(memory: Memory) -> MemoryUse:
    peaks = [p for p in (memory.training_peak_bytes, memory.inference_peak_bytes) if p is not None]
    peak = max(peaks) if peaks else None
    known = peak is not None and memory.total_bytes
    return MemoryUse(
        peak_bytes=peak,
        peak_share=peak / memory.total_bytes if peak and known and memory.total_bytes else None,
        inference_peak_bytes=memory.inference_peak_bytes,
        workers_peak_bytes=memory.workers_peak_bytes,
        total_bytes=memory.total_bytes,
        host_used_share=memory.host_used_share,
    )


def _usage(values: Floats) -> Usage:
    p50, p95 = np.percentile(values, (50, 95))
    return Usage(mean=float(values.mean()), p50=float(p50), p95=float(p95))


def _series(run: Run, kept: slice) -> dict[str, tuple[float | None, ...]]:
    columns = {"step_s": run.step_s[kept], "samples": run.samples[kept]}
    columns |= {f"{s.name}_s": s.exposed_s[kept] for s in run.stages if s.name != OTHER}
    if run.loader is not None:
        columns["loader_batch_s"] = run.loader.batch_s
        columns["loader_batch_cpu_s"] = run.loader.cpu_s
    return {name: _thin(values) for name, values in columns.items()}


def _thin(values: Floats) -> tuple[float | None, ...]:
    stride = max(1, -(-values.size // SERIES_POINTS))
    return tuple(float(f"{v:.6g}") if np.isfinite(v) else None for v in values[::stride])
