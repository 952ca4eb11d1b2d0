"""Readings → Runs: what the lines say, put together into one training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from perfdoctor.readers.epochs import epoch_series
from perfdoctor.readers.records import METRIC, TRAIN, Reading, Records
from perfdoctor.readers.rows import Steps, joined, training_steps, with_time
from perfdoctor.readers.timing import StepTimes, column, step_times, windows
from perfdoctor.readers.wallclock import wall_clock
from perfdoctor.record import (
    Environment,
    EpochSeries,
    Floats,
    LogFile,
    Memory,
    Run,
    Source,
    Span,
    StageSeries,
    Track,
)
from perfdoctor.stages import OTHER, STAGES

_JUDGED = re.compile(r"(?i)(?:^|[:/_.])(?:val|valid|validation|test|eval|metrics|map)")
_RATES = ("samples_per_s", "tokens_per_s")
_USE = ("gpu", "gpu_memory", "cpu", "ram", "gpu_power_w", "gpu_temperature_c", "gpu_clock_mhz")


def assemble(
    reading: Reading, name: str, command: str | None, hardware: Sequence[Records] = ()
) -> Run:
    """The Run of one reading; `hardware` are samples from other files of the same run."""
    reading = _with_run_facts(reading)
    records = joined(with_time(_bars_of_samples(_epochs_as_steps(reading))))
    steps, times = _steps_and_times(records)
    times = times or _from_rate(reading, records, steps)
    epochs = epoch_series(records, steps)
    step_s = times.step_s if times is not None else np.full(steps.rows.size, np.nan)
    stages = _stages(records, steps, times)
    if times is None and stages:
        step_s = np.sum([np.nan_to_num(s.exposed_s) for s in stages], axis=0)
        times = StepTimes(step_s, "Step times are the sums of the printed stages.")
    rates = _rates(records, steps, step_s)
    if not np.isfinite(step_s).any() and not rates:
        steps, step_s = _none(steps), np.empty(0)
        stages = ()
    wall = wall_clock(records, steps, step_s, epochs)
    samples = _samples(reading, records, steps, step_s, rates)
    run = Run(
        name=name,
        source=Source(
            kind="log",
            command=command,
            path=reading.path,
            format=reading.format,
            framework=reading.framework,
        ),
        environment=Environment(),
        configuration=dict(reading.configuration),
        step_s=step_s,
        samples=samples,
        stages=(*stages, *_other(stages, step_s)),
        epoch_start=steps.epoch_start,
        notes=_notes(reading, steps, times),
        steps_per_epoch=steps.steps_per_epoch,
        memory=_memory(records),
        utilisation=_utilisation(reading, records, hardware),
        warnings=(),
        rates=rates,
        mean_step_s=None if times is None or not steps.rows.size else times.mean_s,
        track=_track(reading, records, steps, step_s),
        epochs=epochs,
        spans=_with_data(() if wall is None else wall.spans, stages, step_s),
        wall_s=None if wall is None else wall.wall_s,
        started_at=None if wall is None else wall.started_at,
        ranks=steps.ranks,
        restarts=tuple(np.flatnonzero(np.diff(steps.stretch)).tolist()[:1000]),
        logs=(log_file(reading),),
    )
    return _with_facts(run, reading)


def _steps_and_times(records: Records) -> tuple[Steps, StepTimes | None]:
    """The rows of steps for which something tells a time, or at least a rate."""
    first: Steps | None = None
    for steps in training_steps(records):
        first = first or steps
        times = step_times(records, steps)
        if times is not None or _rates(records, steps, np.full(steps.rows.size, np.nan)):
            return steps, times
        if _stages(records, steps, None):
            return steps, None
    assert first is not None
    return first, None


def _from_rate(reading: Reading, records: Records, steps: Steps) -> StepTimes | None:
    """Batch size ÷ printed rate, where both are certain to be of the same devices: there is but
    one, or the rate is of one device and the batch size of a device as well."""
    size, devices = (reading.configuration.get(name) for name in ("batch_size", "world_size"))
    rate = _rates(records, steps, np.empty(0)).get("samples_per_s")
    if not isinstance(size, int) or rate is None:
        return None
    if devices != 1 and not (reading.device_rates and devices is not None):
        return None
    return StepTimes(size / rate, f"Step times are the batch size of {size} ÷ the printed rates.")


_RUN = "run:"


def _with_run_facts(reading: Reading) -> Reading:
    """What the last lines say of the whole run is no record of a step."""
    columns = dict(reading.records.columns)
    facts = dict(reading.facts)
    for role in [r for r in columns if r.startswith(_RUN)]:
        values = columns.pop(role)
        finite = values[np.isfinite(values)]
        if finite.size:
            facts.setdefault(role.removeprefix(_RUN), float(finite[-1]))
    steps = reading.configuration.get("max_steps")
    if "wall_s" in facts and "steps_per_s" in facts and isinstance(steps, int):
        exact = facts["wall_s"] / steps
        if abs(exact * facts["steps_per_s"] - 1) < 0.1:
            facts.setdefault("step_s", exact)
    return replace(reading, records=Records(reading.records.line, columns), facts=facts)


def _epochs_as_steps(reading: Reading) -> Records:
    """Scalars that are validated at every step, and bars as long as there are epochs, count
    epochs."""
    records = reading.records
    if "step" not in records or "epoch" in records:
        return records
    epochs = reading.configuration.get("epochs")
    total = records.column("step_total")
    bar = "bar_elapsed_s" in records and epochs is not None and bool(
        (total[np.isfinite(total)] == epochs).all() and np.isfinite(total).any()
    )  # fmt: skip
    if not bar and not (reading.format == "tensorboard_events" and _validated(records)):
        return records
    columns = dict(records.columns)
    columns["epoch"] = columns.pop("step")
    if bar and "step_s" in columns:
        columns["epoch_s"] = columns.pop("step_s")
    return Records(records.line, columns)


#: No training step takes less than a fifth of a millisecond: a faster bar counts samples.
_FASTEST_STEPS_PER_S = 5000.0


def _bars_of_samples(records: Records) -> Records:
    """Bars over samples or nodes, whose rate is called "it/s" all the same."""
    if "bar_elapsed_s" not in records or "steps_per_s" not in records:
        return records
    training = (records.column("phase") == TRAIN) & np.isfinite(records.column("bar_elapsed_s"))
    rate = records.column("steps_per_s")
    rated = training & np.isfinite(rate)
    if not rated.any() or float(np.median(rate[rated])) < _FASTEST_STEPS_PER_S:
        return records
    columns = dict(records.columns)
    samples = records.column("samples_per_s")
    columns["samples_per_s"] = np.where(training & np.isnan(samples), rate, samples)
    for role in ("steps_per_s", "step_s", "step", "step_total", "bar_elapsed_s"):
        if role in columns:
            columns[role] = np.where(training, np.nan, columns[role])
    return Records(records.line, columns)


def _validated(records: Records) -> bool:
    """One by one, nearly each with a metric of validation."""
    step = records.column("step")
    known = step[np.isfinite(step)]
    judged = [r for r in records.columns if r.startswith(METRIC) and _JUDGED.search(r)]
    if known.size < 2 or float(np.median(np.diff(np.unique(known)))) != 1 or not judged:
        return False
    most = max(int(np.isfinite(records.column(r)).sum()) for r in judged)
    return most >= 0.8 * np.unique(known).size


def log_file(reading: Reading) -> LogFile:
    """What was read of the file."""
    return LogFile(
        path=reading.path,
        format=reading.format,
        reason=reading.reason,
        lines=reading.lines,
        records=len(reading.records),
        unread=reading.unread,
        unread_samples=reading.unread_samples,
    )


def _none(steps: Steps) -> Steps:
    nothing = slice(0, 0)
    return replace(
        steps,
        rows=steps.rows[nothing],
        epoch=steps.epoch[nothing],
        step=steps.step[nothing],
        position=steps.position[nothing],
        covers=steps.covers[nothing],
        stretch=steps.stretch[nothing],
        epoch_start=steps.epoch_start[nothing],
    )


def _stages(records: Records, steps: Steps, times: StepTimes | None) -> tuple[StageSeries, ...]:
    found = []
    for stage in STAGES:
        if stage in (OTHER, "validation"):
            continue
        values = column(records, steps, f"{stage}_s")
        if values is None:
            values = column(records, steps, f"{stage}_s_mean")
        if values is None:
            continue
        if times is not None:
            if times.divisor is not None:
                values = values / times.divisor
            values = np.minimum(values, np.where(np.isfinite(times.step_s), times.step_s, np.inf))
        means = windows(column(records, steps, f"{stage}_s_mean"), steps)
        found.append(StageSeries(name=stage, exposed_s=values, mean_s=means))
    return tuple(found)


def _other(stages: Sequence[StageSeries], step_s: Floats) -> tuple[StageSeries, ...]:
    """What no printed stage explains."""
    if not stages:
        return ()
    explained = np.sum([np.nan_to_num(s.exposed_s) for s in stages], axis=0)
    rest = np.maximum(step_s - explained, 0.0)
    return (StageSeries(name=OTHER, exposed_s=rest),) if np.isfinite(rest).any() else ()


def _rates(records: Records, steps: Steps, step_s: Floats) -> dict[str, Floats]:
    found = {}
    for role in _RATES:
        values = column(records, steps, role)
        if values is None:
            values = column(records, steps, f"{role}_mean")
        if values is not None:
            found[role] = np.where(values > 0, values, np.nan)
    sample_s = column(records, steps, "sample_s")
    if sample_s is not None and "samples_per_s" not in found:
        found["samples_per_s"] = 1 / np.where(sample_s > 0, sample_s, np.nan)
    return {role: values for role, values in found.items() if np.isfinite(values).any()}


def _samples(
    reading: Reading, records: Records, steps: Steps, step_s: Floats, rates: dict[str, Floats]
) -> Floats:
    """Samples per step: printed, or the rate times the step's time, or the batch size."""
    printed = column(records, steps, "batch_size") if steps.rows.size else None
    if printed is not None:
        return printed
    if "samples_per_s" in rates:
        return rates["samples_per_s"] * step_s
    size = reading.facts.get("samples_per_step", reading.configuration.get("batch_size"))
    value = float(size) if isinstance(size, int | float) else np.nan
    return np.full(step_s.size, value)


def _notes(reading: Reading, steps: Steps, times: StepTimes | None) -> tuple[str, ...]:
    notes = list(reading.notes)
    if times is not None:
        notes.append(times.how)
    if steps.ranks > 1:
        notes.append(f"{steps.ranks} processes wrote it; the times are those of the first.")
    if reading.device_rates:
        notes.append("Its rates are of one device.")
    return tuple(notes)


def _memory(records: Records) -> Memory:
    values = records.column("memory_bytes")
    finite = values[np.isfinite(values)]
    return Memory(training_peak_bytes=int(finite.max()) if finite.size else None)


def _utilisation(
    reading: Reading, records: Records, hardware: Sequence[Records]
) -> dict[str, Floats]:
    found: dict[str, Floats] = {}
    own = () if reading.hardware is None else (reading.hardware,)
    for source in (*own, *hardware, records):
        for role in _USE:
            values = source.column(role)
            finite = values[np.isfinite(values)]
            if finite.size and role not in found:
                found[role] = finite
    return found


def _track(reading: Reading, records: Records, steps: Steps, step_s: Floats) -> Track:
    return Track(
        files=(reading.path,),
        file=np.zeros(steps.rows.size, dtype=np.int32),
        line=records.line[steps.rows],
        step=steps.position,
        steps=steps.covers,
        at_s=_at(records, steps, step_s),
    )


def _at(records: Records, steps: Steps, step_s: Floats) -> Floats | None:
    """Seconds since the first record: by the lines' times, the printed sum, or adding up."""
    if not steps.rows.size:
        return None
    for role in ("time", "elapsed_s"):
        values = column(records, steps, role)
        if values is not None and np.isfinite(values).mean() > 0.5:
            start = float(values[np.isfinite(values)][0])
            found: Floats = values - start
            return found
    spent = np.nan_to_num(step_s * np.where(np.isfinite(steps.covers), steps.covers, 1.0))
    return np.cumsum(spent)


def _with_data(
    spans: Sequence[Span], stages: Sequence[StageSeries], step_s: Floats
) -> tuple[Span, ...]:
    """Training split into waiting for data and the rest, where the steps tell."""
    data = next((s for s in stages if s.name == "data_loading"), None)
    total = float(np.nansum(step_s))
    if data is None or total <= 0:
        return tuple(spans)
    waits = data.mean_s if data.mean_s is not None else data.exposed_s
    share = min(1.0, float(np.nanmean(waits)) / float(np.nanmean(step_s)))
    found: list[Span] = []
    for span in spans:
        if span.name == "train":
            found.append(replace(span, seconds=span.seconds * (1 - share)))
            found.append(Span(name="data_loading", seconds=span.seconds * share))
        else:
            found.append(span)
    return tuple(found)


def _with_facts(run: Run, reading: Reading) -> Run:
    """What is said once for the whole run, where the records do not tell it."""
    facts = reading.facts
    wall_s = run.wall_s if run.wall_s is not None else facts.get("wall_s")
    if run.epochs is None and "epoch_mean_s" in facts:
        times = np.full(int(facts.get("epochs", 1)), facts["epoch_mean_s"])
        run = replace(run, epochs=EpochSeries(number=np.arange(1.0, times.size + 1), time_s=times))
    if not run.spans and run.wall_s is not None and facts.get("wall_s", np.inf) <= run.wall_s:
        rest = Span(name="unexplained", seconds=run.wall_s - facts["wall_s"])
        run = replace(run, spans=(Span(name="train", seconds=facts["wall_s"]), rest))
    if (run.step_s.size and np.isfinite(run.step_s).any()) or run.rates:
        return replace(run, wall_s=wall_s)
    step_s = facts.get("step_s", facts.get("step_mean_s"))
    if step_s is None and facts.get("steps_per_s"):
        step_s = 1 / facts["steps_per_s"]
    rate = facts.get("samples_per_s")
    if step_s is None and rate is None:
        return replace(run, wall_s=wall_s)
    one = np.array([np.nan if step_s is None else step_s])
    samples = np.array([np.nan if rate is None or step_s is None else rate * step_s])
    return replace(
        run,
        step_s=one,
        samples=samples,
        stages=(),
        epoch_start=np.array([True]),
        rates={} if rate is None else {"samples_per_s": np.array([rate])},
        track=None,
        wall_s=wall_s,
    )
