"""Where the wall clock went, as far as a log tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfdoctor.readers.records import TRAIN, VALIDATION, Records
from perfdoctor.readers.rows import Steps
from perfdoctor.record import Bools, EpochSeries, Floats, Span

#: A gap so much longer than all others is a run that ended, and one that began later.
_APART = 50.0
_LONG_S = 600.0
#: Before this (1985) lie the moments of logs that name no year.
_YEARLESS = 5e8


@dataclass(frozen=True)
class WallClock:
    """`started_at`: seconds since 1970, None where the log has no dates."""

    wall_s: float
    spans: tuple[Span, ...]
    started_at: float | None = None


def wall_clock(
    records: Records, steps: Steps, step_s: Floats | None, epochs: EpochSeries | None
) -> WallClock | None:
    """By the lines' times, else by what the log says of each epoch; None where neither is there."""
    if "time" in records:
        found = _by_time(records, steps, step_s, epochs)
        if found is not None:
            return found
    return None if epochs is None else _by_epochs(epochs, records)


def _by_time(
    records: Records, steps: Steps, step_s: Floats | None, epochs: EpochSeries | None
) -> WallClock | None:
    time = records.column("time")
    rows = np.flatnonzero(np.isfinite(time))
    if rows.size < 2:
        return None
    moments = np.maximum.accumulate(time[rows])
    gaps = np.diff(moments)
    if float(gaps.sum()) <= 0:
        return None
    is_step = np.zeros(len(records), dtype=np.bool_)
    is_step[steps.rows] = True
    stepped, phase = is_step[rows], records.column("phase")[rows]
    validates = phase == VALIDATION
    first = int(np.argmax(stepped)) if stepped.any() else rows.size
    index = np.full(len(records), -1)
    index[steps.rows] = np.arange(steps.rows.size)
    starts_epoch = np.zeros(rows.size, dtype=np.bool_)
    at = index[rows]
    starts_epoch[stepped] = steps.epoch_start[at[stepped]]
    long = gaps > max(_LONG_S, _APART * float(np.quantile(gaps, 0.95)))
    fresh = np.zeros(len(records), dtype=np.bool_)
    fresh[steps.rows[np.flatnonzero(np.diff(steps.stretch, prepend=0) != 0)]] = True
    apart = long & _before_fresh(fresh[rows])
    parts = {"start_up": 0.0, "train": 0.0, "validation": 0.0, "unexplained": 0.0}
    after, before = slice(1, None), slice(0, -1)
    start_up = (np.arange(1, rows.size) <= first) & ~apart if stepped.any() else np.zeros(
        gaps.size, dtype=np.bool_
    )  # fmt: skip
    validation = (validates[after] | (validates[before] & stepped[after])) & ~start_up & ~apart
    trains = stepped[after] & ~starts_epoch[after] & ~validation & ~start_up & ~apart
    rest = ~(start_up | validation | trains | apart)
    parts["start_up"] = float(gaps[start_up].sum())
    parts["validation"] = float(gaps[validation].sum())
    parts["train"] = float(gaps[trains].sum())
    parts["unexplained"] = float(gaps[rest].sum())
    if step_s is not None and steps.rows.size:
        _to_first_print(parts, steps, step_s)
    if not stepped.any():
        return _whole(float(gaps.sum()), moments, epochs, records)
    wall_s = float(gaps[~apart].sum())
    started = float(moments[0])
    spans = tuple(Span(name=n, seconds=s) for n, s in parts.items() if s > 0)
    return WallClock(wall_s, spans, started if started > _YEARLESS else None)


def _before_fresh(fresh: Bools) -> Bools:
    """Gaps that end at a line after which a new stretch of steps begins, with no step between."""
    found: Bools = fresh[1:].copy()
    return found


def _whole(
    wall_s: float, moments: Floats, epochs: EpochSeries | None, records: Records
) -> WallClock:
    """The lines' times tell only the whole; its parts are what the epochs say of themselves."""
    inner = None if epochs is None else _by_epochs(epochs, records)
    started = float(moments[0]) if float(moments[0]) > _YEARLESS else None
    if inner is None or inner.wall_s > 1.02 * wall_s:
        return WallClock(wall_s, (), started)
    rest = Span(name="unexplained", seconds=max(0.0, wall_s - inner.wall_s))
    return WallClock(wall_s, (*inner.spans, rest), started)


def _to_first_print(parts: dict[str, float], steps: Steps, step_s: Floats) -> None:
    """The steps before the first line of an epoch are training as well."""
    usual = float(np.nanmedian(step_s)) if np.isfinite(step_s).any() else 0.0
    done = np.where(steps.epoch_start, steps.step, 0.0)
    unseen = float(np.nansum(done[1:])) * usual if steps.steps_per_epoch else 0.0
    for part in ("unexplained", "validation"):
        moved = min(unseen, parts[part])
        unseen -= moved
        parts["train"] += moved
        parts[part] -= moved


def _by_epochs(epochs: EpochSeries, records: Records) -> WallClock | None:
    total = float(np.nansum(epochs.time_s))
    if total <= 0:
        return None
    validation = 0.0 if epochs.validation_s is None else float(np.nansum(epochs.validation_s))
    train = total if epochs.train_s is None else float(np.nansum(epochs.train_s))
    search = records.column("arch_step_s")
    search = search[np.isfinite(search) & (records.column("phase") == TRAIN)]
    plain = float(search.sum()) if "train_s" in records else 0.0
    if epochs.validation_s is not None and epochs.train_s is None:
        known = np.isfinite(epochs.validation_s) & np.isfinite(epochs.time_s)
        inside = bool((epochs.validation_s[known] < epochs.time_s[known]).all())
        train, total = (total - validation, total) if inside else (total, total + validation)
    elif epochs.train_s is not None:
        total = max(total, train + validation)
    spans = [Span(name="train", seconds=max(0.0, train - plain))]
    if plain:
        spans.append(Span(name="arch_step", seconds=plain))
    if epochs.validation_s is not None:
        spans.append(Span(name="validation", seconds=validation))
    return WallClock(total, tuple(spans))
