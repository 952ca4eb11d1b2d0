"""Readings → Runs: what the lines say, put together into one training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from perfdoctor.readers.accounted import accounted_share, contradiction, per_step
from perfdoctor.readers.epochs import epoch_series
from perfdoctor.readers.fitting import without_what_lies_between
from perfdoctor.readers.memory import give_back_memory
from perfdoctor.readers.parts import Parts, parts_of
from perfdoctor.readers.records import Reading, Records
from perfdoctor.readers.reruns import every_time, superseded
from perfdoctor.readers.row_values import column, grain_of, over_rows
from perfdoctor.readers.rows import prepared, training_steps
from perfdoctor.readers.run_facts import with_facts, with_run_facts
from perfdoctor.readers.step_stages import other_stage, step_stages, with_waiting
from perfdoctor.readers.steps import Steps
from perfdoctor.readers.timing import StepTimes, counts_samples, step_times
from perfdoctor.readers.wallclock import Printed, split_training, wall_clock
from perfdoctor.record import (
    Environment,
    Floats,
    LogFile,
    Memory,
    Run,
    Source,
    StageSeries,
    Track,
)

_RATES = ("samples_per_s", "tokens_per_s")
#: Rates, times and counts agree within this part; of fewer rows none can be told.
_AGREES, _FEWEST = 0.05, 4
#: Differences of sums are taken over so many times what these are rounded to.
_GRAINS = 20.0
_USE = (
    "gpu", "gpu_memory", "cpu", "cpu_foreign", "ram", "swap_bytes", "gpu_power_w",
    "gpu_temperature_c", "gpu_clock_mhz",
)  # fmt: skip


def assemble(
    reading: Reading, name: str, command: str | None, hardware: Sequence[Records] = ()
) -> Run:
    """The Run of one reading; `hardware` are samples from other files of the same run."""
    reading = with_run_facts(reading)
    records = prepared(reading)
    steps, times = _steps_and_times(records)
    parts = parts_of(reading, records, steps, comparable=times is None)
    if parts.first_line:
        records = records.take(records.line >= parts.first_line)
        steps, times = _steps_and_times(records)
    reading = replace(reading, configuration=parts.configuration)
    times, beside = with_waiting(records, steps, times or _from_rate(reading, records, steps))
    give_back_memory()
    again = superseded(records, steps)
    epochs = epoch_series(records, steps, again)
    times, between = without_what_lies_between(times, steps, epochs)
    step_s = times.step_s if times is not None else np.full(steps.rows.size, np.nan)
    stages = step_stages(records, steps, times, left_out=("data_loading",) if beside else ())
    if times is None and stages:
        step_s = np.sum([np.nan_to_num(s.exposed_s) for s in stages], axis=0)
        times = StepTimes(step_s, "Step times are the sums of the printed stages.")
    devices = _devices(reading)
    rates = _rates(records, steps, step_s)
    if "tokens_per_s" in rates:
        rates["tokens_per_s"] = devices * rates["tokens_per_s"]
    if not np.isfinite(step_s).any() and not rates:
        steps, step_s = _none(steps), np.empty(0)
        stages = ()
    share = accounted_share(records, steps, times)
    printed = None if share is None or times is None else Printed(per_step(times), share)
    spent = epochs
    if epochs is not None and again.any():
        spent = every_time(records, steps, again, epochs)
    wall = wall_clock(records, steps, step_s, spent, printed)
    samples = _samples(reading, records, steps, step_s, rates)
    give_back_memory()
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
        stages=(*stages, *other_stage(stages, step_s)),
        epoch_start=steps.epoch_start,
        notes=_notes(reading, steps, times, (beside, between), again=bool(again.any())),
        steps_per_epoch=steps.steps_per_epoch,
        memory=_memory(records),
        utilisation=_utilisation(reading, records, hardware),
        warnings=_warnings(share, parts),
        rates=rates,
        mean_step_s=None if times is None or not steps.rows.size else times.mean_s,
        sampled=reading.single_steps,
        track=_track(reading, records, steps, step_s),
        epochs=epochs,
        spans=() if wall is None else split_training(wall.spans, _data_share(stages, steps, times)),
        wall_s=None if wall is None else wall.wall_s,
        started_at=None if wall is None else wall.started_at,
        ranks=steps.ranks,
        restarts=tuple(np.flatnonzero(np.diff(steps.stretch)).tolist()[:1000]),
        logs=(log_file(reading),),
    )
    return with_facts(run, reading)


def _steps_and_times(records: Records) -> tuple[Steps, StepTimes | None]:
    """The rows of steps for which something tells a time, or at least a rate."""
    first: Steps | None = None
    for steps in training_steps(records):
        first = first or steps
        times = step_times(records, steps)
        if times is not None or _rates(records, steps, np.full(steps.rows.size, np.nan)):
            return steps, times
        if step_stages(records, steps, None):
            return steps, None
    assert first is not None
    return first, None


def _from_rate(reading: Reading, records: Records, steps: Steps) -> StepTimes | None:
    """What a step holds ÷ the printed rate. A batch size counts only where it is certain to be of
    the same devices as the rate: there is but one, or both are of one device."""
    tokens, per_s = (column(records, steps, r) for r in ("tokens_per_step", "tokens_per_s"))
    if tokens is not None and per_s is not None:
        found = np.divide(tokens, per_s, out=np.full(tokens.size, np.nan), where=per_s > 0)
        return StepTimes(found, "Step times are the tokens of a step ÷ the printed rates.")
    size, devices = (reading.configuration.get(name) for name in ("batch_size", "world_size"))
    rate = _rates(records, steps, np.empty(0)).get("samples_per_s")
    if not isinstance(size, int) or rate is None:
        return None
    if devices != 1 and not (reading.device_rates and devices is not None):
        return None
    return StepTimes(size / rate, f"Step times are the batch size of {size} ÷ the printed rates.")


def _devices(reading: Reading) -> int:
    """How many devices there are, where the tokens a second are of one of them; 1 where it is not
    told. Samples a second stay as they are: beside them a log prints the batch of one device."""
    devices = reading.configuration.get("world_size")
    told = reading.device_rates and isinstance(devices, int) and devices > 1
    return int(devices) if told and devices is not None else 1


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


def _rates(records: Records, steps: Steps, step_s: Floats) -> dict[str, Floats]:
    found = {}
    for role in _RATES:
        values = column(records, steps, role)
        if values is None:
            values = _since_the_row_before(records, steps, column(records, steps, f"{role}_mean"))
        if values is not None:
            found[role] = np.where(values > 0, values, np.nan)
    sample_s = column(records, steps, "sample_s")
    if sample_s is not None and "samples_per_s" not in found:
        found["samples_per_s"] = 1 / np.where(sample_s > 0, sample_s, np.nan)
    if "samples_per_s" not in found and counts_samples(records, steps):
        found["samples_per_s"] = records.column("steps_per_s")[steps.rows]
    return {role: values for role, values in found.items() if np.isfinite(values).any()}


def _since_the_row_before(records: Records, steps: Steps, means: Floats | None) -> Floats | None:
    """A rate that is a mean since the start hides what changes: where it is that of the steps of a
    game that are printed with the seconds they took, those tell it from row to row."""
    played, elapsed = column(records, steps, "env_steps"), column(records, steps, "elapsed_s")
    if means is None or played is None or elapsed is None or means.size < _FEWEST:
        return means
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = np.abs(np.log(means * elapsed / played))
    apart_s = np.diff(elapsed, prepend=0.0)
    if not (np.isfinite(whole).all() and float(np.median(whole)) < _AGREES and (apart_s > 0).all()):
        return means
    rows = int(np.ceil(_GRAINS * grain_of(elapsed) / float(np.median(apart_s)))) or 1
    if rows > means.size // 2:
        return means
    return over_rows(np.diff(played, prepend=0.0), rows) / over_rows(apart_s, rows)


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
    constant: Floats = np.broadcast_to(np.float64(value), step_s.shape)
    return constant


def _notes(
    reading: Reading,
    steps: Steps,
    times: StepTimes | None,
    more: Sequence[str | None],
    *,
    again: bool,
) -> tuple[str, ...]:
    notes = list(reading.notes)
    if again:
        notes.append("Of epochs that were trained again after a restart, the last time counts.")
    if times is not None:
        notes.append(times.how)
    notes += [note for note in more if note is not None]
    if steps.ranks > 1:
        notes.append(f"{steps.ranks} processes wrote it; the times are those of the first.")
    if reading.device_rates:
        devices = _devices(reading)
        notes.append("Its rates are of one device.")
        if devices > 1 and any(r.startswith("tokens_per_s") for r in reading.records.columns):
            notes[-1] = f"Its tokens/s are those of one device times {devices}, for all of them."
    return tuple(notes)


def _warnings(share: float | None, parts: Parts) -> tuple[str, ...]:
    """What in the log contradicts itself."""
    found = (parts.warning, contradiction(share))
    return tuple(text for text in found if text is not None)


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
        file=np.broadcast_to(np.int32(0), steps.rows.shape),
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
    spent = np.where(np.isfinite(steps.covers), steps.covers, 1.0)
    spent *= step_s
    np.nan_to_num(spent, copy=False)
    np.cumsum(spent, out=spent)
    return spent


def _data_share(
    stages: Sequence[StageSeries], steps: Steps, times: StepTimes | None
) -> float | None:
    """The part of the training time that waits for data; from averages where they are printed."""
    data = next((s for s in stages if s.name == "data_loading"), None)
    if data is None or times is None:
        return None
    averaged = data.mean_s is not None and times.mean_s is not None
    waits = data.mean_s if averaged and data.mean_s is not None else data.exposed_s
    whole = times.mean_s if averaged and times.mean_s is not None else times.step_s
    known = np.isfinite(waits) & np.isfinite(whole)
    weights = np.where(np.isfinite(steps.covers), steps.covers, 1.0)[known]
    total = float((whole[known] * weights).sum())
    return min(1.0, float((waits[known] * weights).sum()) / total) if total > 0 else None
