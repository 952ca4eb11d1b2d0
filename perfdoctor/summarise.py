"""From a Run to the numbers of a Report. Nothing is concluded here; that is for the rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from perfdoctor import __version__, schema
from perfdoctor.beside import beside
from perfdoctor.economics import economics, epoch_seconds
from perfdoctor.forecast import forecast
from perfdoctor.pace import (
    SAMPLES,
    STEPS,
    TOKENS,
    Pace,
    best_pace,
    paces,
    part_of,
    record_count,
    seconds_per_step,
    stalled_steps,
    step_weights,
)
from perfdoctor.record import Floats, LoaderRecord, Memory, Run
from perfdoctor.report import (
    Epochs,
    Interval,
    Loader,
    MemoryUse,
    Report,
    Stalls,
    Throughput,
    Trend,
    Usage,
)
from perfdoctor.stage_times import spans_of, stage_stats, step_stats, waits_overlap
from perfdoctor.stalls import Timed, find_stalls
from perfdoctor.stats import describe, ratio_of_sums_interval, warmup_length
from perfdoctor.thinning import POINTS as SERIES_POINTS
from perfdoctor.thinning import report_series
from perfdoctor.trends import PARTS, EpochsOf, InEpochs, find_trend
from perfdoctor.wall import wall_clock
from perfdoctor.warmup import logged_warmup

#: Of so many records, sorting the times takes longer than starting a thread for it.
_MANY_RECORDS = 50_000

__all__ = ["SERIES_POINTS", "summarise"]


def summarise(run: Run) -> Report:
    """The report of `run`, without diagnosis and recommendations."""
    kept = _kept(run)
    many = record_count(run) >= _MANY_RECORDS
    times = beside(lambda: (step_stats(run, kept), stage_stats(run, kept)), long=many)
    stalls = _stalls(run, kept) if _is_log(run) else None
    epoch_s = np.empty(0) if run.epochs is None else epoch_seconds(run.epochs)
    throughput = _throughput(run, kept, epoch_s, stalls)
    series = report_series(run, kept, epoch_s)
    steps, stages = times()
    return Report(
        schema_version=schema.SCHEMA_VERSION,
        tool={"name": "perfdoctor", "version": __version__},
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        name=run.name,
        source=run.source,
        environment=run.environment,
        configuration=run.configuration,
        notes=run.notes,
        steps=steps,
        stages=stages,
        throughput=throughput,
        epochs=_epochs(run, epoch_s),
        alone={s.name: stat for s in run.alone if (stat := describe(s.exposed_s))},
        loader=_loader(run.loader),
        inference=None if run.latency_s is None else describe(run.latency_s),
        utilisation={name: use for name, v in run.utilisation.items() if (use := _usage(v))},
        memory=_memory(run.memory),
        limits={limit.name: limit for limit in run.limits},
        probes={probe.name: probe for probe in run.probes},
        sampling=run.sampling,
        skipped=run.skipped,
        warnings=(*run.warnings, *_doubts(run)),
        series=series,
        stalls=stalls,
        wall=wall_clock(replace(run, spans=spans_of(run))),
        forecast=forecast(run),
        ranks=run.ranks,
        restarts=run.restarts,
        logs=run.logs,
        hotspots=run.hotspots,
        ending=run.ending,
        counters=run.counters,
    )


def _doubts(run: Run) -> tuple[str, ...]:
    """What the log says of itself that cannot be so."""
    if not waits_overlap(run):
        return ()
    return (
        "The log's time for data is as long as its steps or longer, so the loader works while the "
        "model does, or the field means something else: it is not counted as a wait.",
    )


def _is_log(run: Run) -> bool:
    """Whether the run was written down by something else, over its whole length."""
    return run.source.kind != "bench"


def _kept(run: Run) -> slice:
    """The records of the run, of several trainings those of the longest, without the warm-up."""
    first, last = run.longest or (0, record_count(run))
    warmup = _warmup(run, slice(first, last))
    return slice(first + min(warmup, max(0, last - first - 1)), last)


def _warmup(run: Run, records: slice) -> int:
    """Records to leave out at the start, as the user fixed or as the data tell."""
    if run.warmup is not None:
        return run.warmup
    if not _is_log(run):
        return warmup_length(run.step_s[records])
    rates = [1 / values[records] for values in run.rates.values()]
    known = [v for v in (run.step_s[records], *rates) if np.isfinite(v).any()]
    return logged_warmup(known[0]) if known else 0


def _throughput(run: Run, kept: slice, epoch_s: Floats, stalls: Stalls | None) -> Throughput | None:
    known = paces(run, kept)
    best = best_pace(known, epoch_s)
    if best is None:
        return None
    samples, tokens, steps = (known.get(unit) for unit in (SAMPLES, TOKENS, STEPS))
    printed = known if run.mean_step_s is None else paces(run, kept, printed=True)
    return Throughput(
        samples_per_s=None if samples is None else samples.rate,
        steps_per_s=None if steps is None else steps.rate,
        samples_per_s_ci=None if samples is None else _interval(samples),
        tokens_per_s=None if tokens is None else tokens.rate,
        trend=_trend(run, best, printed.get(best.unit), stalls),
        median_samples_per_s=_median(printed.get(SAMPLES)) if _is_log(run) else None,
        median_tokens_per_s=_median(printed.get(TOKENS)) if _is_log(run) else None,
    )


def _interval(pace: Pace) -> Interval | None:
    """Of the mean rate: over parts of the run, since neighbouring records are alike."""
    return ratio_of_sums_interval(pace.work, pace.time, PARTS)


def _median(pace: Pace | None) -> float | None:
    """Over the records."""
    return None if pace is None else float(np.median(pace.rates))


def _trend(run: Run, pace: Pace, printed: Pace | None, stalls: Stalls | None) -> Trend | None:
    if printed is None:  # of epochs
        return find_trend(pace, pace)
    if run.trend_of != run.longest:  # of one of several trainings, which are told together
        of_one = paces(run, slice(*run.trend_of or ())).get(pace.unit)
        pace = printed = pace if of_one is None else of_one
    if not _same_places(printed.index, pace.index):
        printed = pace
    return find_trend(pace, printed, _epochs_of(run), stalls, run.track)


def _same_places(a: NDArray[np.int64] | range, b: NDArray[np.int64] | range) -> bool:
    if isinstance(a, range) or isinstance(b, range):  # never made into arrays: they may be long
        return isinstance(a, range) and isinstance(b, range) and a == b
    return np.array_equal(a, b)


def _epochs_of(run: Run) -> EpochsOf | None:
    """None where epochs are not known: a log that tells of none marks no start, or the first."""
    starts = np.flatnonzero(run.epoch_start)
    if not starts.size or run.epoch_start.size != record_count(run):
        return None
    if starts.size == 1 and _is_log(run) and run.epochs is None:
        return None
    step = _positions(run)

    def of(records: NDArray[np.int64]) -> InEpochs:
        number = np.searchsorted(starts, records, side="right")
        began = step[starts[np.maximum(number - 1, 0)]]
        return InEpochs(number, np.maximum(step[records] - began, 0.0))

    return of


def _positions(run: Run) -> Floats:
    """The number of each record's step, or of the record where that is not known."""
    step = None if run.track is None else run.track.step
    if step is None or step.size != record_count(run) or not np.isfinite(step).all():
        return np.arange(record_count(run), dtype=np.float64)
    return step


def _stalls(run: Run, kept: slice) -> Stalls | None:
    """Of the time that each record covers; of the printed steps alone where it covers no more."""
    step_s, position = seconds_per_step(run)[kept], _positions(run)[kept]
    known = (step_s > 0) & np.isfinite(step_s)
    if not known.any() or run.epoch_start.size != record_count(run):
        return None
    weights = [part_of(w, kept) for w in (step_weights(run), stalled_steps(run))]
    starts = run.epoch_start[kept]
    if not known.all():
        step_s, position, starts = step_s[known], position[known], starts[known]
        weights = [part_of(w, known) for w in weights]
    return find_stalls(Timed(step_s, weights[0], weights[1], position, starts))


def _epochs(run: Run, epoch_s: Floats) -> Epochs | None:
    start = None if run.loader is None else describe(run.loader.first_batch_s)
    count = int(run.epoch_start.sum())
    if run.epochs is None:
        if _is_log(run) and count <= 1:
            return None
        return Epochs(count=count, steps_per_epoch=run.steps_per_epoch, start=start)
    validation_s = run.epochs.validation_s
    return Epochs(
        count=int(run.epochs.number.size),
        steps_per_epoch=run.steps_per_epoch,
        start=start,
        time=describe(epoch_s),
        validation=None if validation_s is None else describe(validation_s),
        economics=economics(run.epochs, run.configuration),
    )


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
        sample=None if record.sample_s is None else describe(record.sample_s),
        idle_share=record.idle_share,
        start=None if record.start_s is None else describe(record.start_s),
        iterators=record.iterators,
        create=None if record.create_s is None else describe(record.create_s),
        batch_bytes=record.batch_bytes,
        end=None if record.end_s is None else describe(record.end_s),
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
        trend_bytes_per_step=memory.trend_bytes_per_step,
    )


def _usage(values: Floats) -> Usage | None:
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    p50, p95 = np.percentile(known, (50, 95))
    return Usage(mean=float(known.mean()), p50=float(p50), p95=float(p95), count=int(known.size))
