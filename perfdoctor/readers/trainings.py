"""Several trainings that were appended to one file: each becomes a run of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from perfdoctor.readers.parts import WORK
from perfdoctor.readers.records import TRAIN, Reading, Records
from perfdoctor.readers.rows import prepared, training_steps
from perfdoctor.readers.steps import Steps
from perfdoctor.readers.timing import step_times
from perfdoctor.record import Floats

#: A training has so many lines of steps at least; a file with more trainings has another counter.
_FEWEST, _MOST = 5, 20
#: Steps that hold so much more (log of the ratio: half as much again) are of another training: the
#: last batch of an epoch is smaller, but is one of many.
_OTHER = 0.4
#: A pause of so many seconds, so many times as long as the steps on either side of it took, parts
#: two trainings; where counters fall more often than that, it may be the rhythm of epochs.
_PAUSE_S, _PAUSE, _SELDOM = 600.0, 10.0, 2
#: A training that came so far came to its end.
_ENDED = 0.98


def trainings(reading: Reading) -> tuple[Reading, ...]:
    """The reading, or one for each training in it.

    A training that begins anew from its first step is another one where what a step holds or the
    length of its epochs is different, or the one before had come to its end. All else is the same
    training, started again.
    """
    step = reading.records.column("step")
    step = step[np.isfinite(step)]
    if step.size < 2 * _FEWEST or not (np.diff(step) < 0).any() or _only_goes_on(reading.records):
        return (reading,)
    records = prepared(reading)
    steps = next(training_steps(records))
    begins = [i for i in _breaks(steps) if _is_another(reading, records, steps, i)]
    begins = begins or _pasted(reading, records, steps)
    edges = [0, *begins, steps.rows.size]
    if not begins or len(begins) >= _MOST or min(b - a for a, b in pairwise(edges)) < _FEWEST:
        return (reading,)
    cuts = [_first_line(reading, records, steps, i) for i in begins]
    return tuple(_cut(_settled(reading, records, steps), cuts))


def _only_goes_on(records: Records) -> bool:
    """Whether no epoch comes after a later one, and within the first one no step does: seen at a
    glance, where finding the steps takes as long as the rest of what is made of a long log."""
    if "phase" not in records:
        return False
    epoch, train = records.column("epoch"), records.column("phase") == TRAIN
    named, stepped = np.isfinite(epoch), np.isfinite(records.column("step"))
    if not named.any() or named.argmax() > stepped.argmax() or (np.diff(epoch[named]) < 0).any():
        return False
    later = epoch >= epoch[named.argmax()] + 1
    first = slice(0, int(later.argmax()) if later.any() else None)
    counters = [records.column(role)[first][train[first]] for role in ("step", "step_total")]
    return all(bool((np.diff(c[np.isfinite(c)]) >= 0).all()) for c in counters)


def _breaks(steps: Steps) -> list[int]:
    found: list[int] = (np.flatnonzero(np.diff(steps.stretch) != 0) + 1).tolist()
    return found[: _MOST + 1]


def _pasted(reading: Reading, records: Records, steps: Steps) -> list[int]:
    """Where counters without epochs fall to where the file began or below, in another block of a
    diary, after a long pause, or with steps that hold far more or less than any before."""
    if np.isfinite(steps.epoch).all():
        return []
    fell = np.flatnonzero(np.diff(steps.step) < 0) + 1
    fell = fell[steps.step[fell] <= steps.step[0]][: _MOST + 1]
    held = _held(records, steps)
    edges = [0, *fell.tolist(), steps.rows.size]
    found: list[int] = []
    for begin, i, end in zip(edges, edges[1:], edges[2:], strict=False):
        last, first = _line(records, steps, i - 1), _line(records, steps, i)
        fenced = any(last < line < first for line in reading.fences)
        paused = fell.size <= _SELDOM and _long_after(records, steps, begin, i, end)
        if fenced or paused or _far_apart(held[begin:i], held[i:end]):
            found.append(i)
    return found


def _held(records: Records, steps: Steps) -> Floats:
    """Samples or tokens of each row's step: as printed, or its time times the rate."""
    times = step_times(records, steps)
    step_s = np.nan if times is None else times.step_s
    for size, rate in (("batch_size", "samples_per_s"), ("tokens_per_step", "tokens_per_s")):
        printed = records.column(size)[steps.rows]
        if np.isfinite(printed).any():
            return printed
        made: Floats = records.column(rate)[steps.rows] * step_s
        if np.isfinite(made).any():
            return made
    return np.full(steps.rows.size, np.nan)


def _long_after(records: Records, steps: Steps, begin: int, i: int, end: int) -> bool:
    """Whether nothing was counted for far longer than all that was counted before and after."""
    time = records.column("time")[steps.rows]
    pause = float(time[i] - time[i - 1])
    around = max(float(time[i - 1] - time[begin]), float(time[end - 1] - time[i]))
    return bool(pause > _PAUSE_S and pause > _PAUSE * around > 0)


def _far_apart(before: Floats, after: Floats) -> bool:
    """Whether no step of one holds what a step of the other does, by far."""
    before, after = before[np.isfinite(before)], after[np.isfinite(after)]
    if min(before.size, after.size) < _FEWEST:
        return False
    if min(before.min(), after.min()) <= 0:
        return False
    apart = abs(float(np.log(np.median(after) / np.median(before))))
    return apart > _OTHER and (before.max() < after.min() or after.max() < before.min())


def _is_another(reading: Reading, records: Records, steps: Steps, i: int) -> bool:
    if steps.step[i] > steps.step[0] or steps.epoch[i] > steps.epoch[0]:
        return False  # it goes on in the middle
    total, epochs = records.column("step_total")[steps.rows], records.column("epoch_total")
    last, first = total[i - 1], total[i]
    if np.isfinite(last) and np.isfinite(first) and last != first:
        return True
    if _other_work(reading, _line(records, steps, i - 1), _line(records, steps, i)):
        return True
    if np.isfinite(last) and steps.step[i - 1] < _ENDED * last:
        return False
    planned = epochs[steps.rows[i - 1]]
    if np.isfinite(planned) and np.isfinite(steps.epoch[i - 1]):
        return bool(steps.epoch[i - 1] >= planned - 1)
    return bool(np.isfinite(last) and not np.isfinite(steps.epoch[i - 1]))


def _line(records: Records, steps: Steps, i: int) -> int:
    return int(records.line[steps.rows[i]])


def _other_work(reading: Reading, last: int, first: int) -> bool:
    """Whether what is printed before the start tells another batch size or the like."""
    before = dict(reading.configuration)
    for line, told in reading.settings:
        if line <= last:
            before.update(told)
    after = {
        k: v for line, told in reading.settings if last < line <= first for k, v in told.items()
    }
    return any(name in before and before[name] != after[name] for name in WORK if name in after)


def _first_line(reading: Reading, records: Records, steps: Steps, i: int) -> int:
    """The settings before the first step, else where the epoch falls, else the step itself."""
    last, first = _line(records, steps, i - 1), _line(records, steps, i)
    printed = [line for line, _ in reading.settings if last < line <= first]
    if printed:
        return min(printed)
    between = slice(int(steps.rows[i - 1]) + 1, int(steps.rows[i]))
    fell = np.flatnonzero(records.whole_epochs[between] < steps.epoch[i - 1])
    return int(records.line[between.start + fell[0]]) if fell.size else first


def _settled(reading: Reading, records: Records, steps: Steps) -> Reading:
    """With step times in place of times whose meaning is told by all of the file only: each
    training by itself might seem to tell another."""
    raw = reading.records
    times = step_times(records, steps) if "unclear_s" in raw and "step_s" not in raw else None
    if times is None or not times.told or len(records) != len(raw):
        return reading
    columns = dict(raw.columns)
    columns["step_s"] = np.full(len(raw), np.nan)
    columns["step_s"][steps.rows] = times.step_s
    columns["unclear_s"] = np.array(raw.column("unclear_s"))
    columns["unclear_s"][steps.rows] = np.nan
    return replace(reading, records=Records(raw.line, columns))


def _cut(reading: Reading, cuts: Sequence[int]) -> Iterator[Reading]:
    line = reading.records.line
    settings: Mapping[str, Any] = reading.configuration
    for begin, end in pairwise([0, *cuts, max(reading.lines, int(line[-1])) + 1]):
        own = tuple((at, told) for at, told in reading.settings if begin <= at < end)
        settings = dict(settings)
        for _, told in own:
            settings = {**settings, **told}
        yield replace(
            reading,
            records=reading.records.take((line >= begin) & (line < end)),
            settings=own,
            configuration=settings,
            notes=(*reading.notes, f"It is in the lines {max(begin, 1):,} to {end - 1:,}."),
        )
