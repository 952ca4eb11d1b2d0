"""Where the wall clock went, as far as a log tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from perfdoctor.readers.accounted import LEAST, PAUSE
from perfdoctor.readers.epoch_times import stands_for
from perfdoctor.readers.records import TRAIN, VALIDATION, Records
from perfdoctor.readers.steps import Indices, Steps
from perfdoctor.record import Bools, EpochSeries, Floats, Span

#: A gap so much longer than all others is a run that ended, and one that began later.
_APART = 50.0
_LONG_S = 600.0
#: Epochs that take longer than the lines' times tell began before the first of these.
_ROUNDED = 1.02
#: A validation takes so many times as long as the others at most, if that is more than an hour.
_PAUSE, _PAUSE_S = 10.0, 3600.0
#: A sum of seconds grows from line to line in so many of them, and there are so many at least.
_GROWING, _FEWEST = 0.9, 3
#: Before this (1985) lie the moments of logs that name no year.
_YEARLESS = 5e8


@dataclass(frozen=True)
class WallClock:
    """`started_at`: seconds since 1970, None where the log has no dates."""

    wall_s: float
    spans: tuple[Span, ...]
    started_at: float | None = None


@dataclass(frozen=True)
class Printed:
    """Printed step times: of each row's steps, and the share of the time between lines that they
    account for."""

    per_step_s: Floats
    share: float


def wall_clock(
    records: Records,
    steps: Steps,
    step_s: Floats | None,
    epochs: EpochSeries | None,
    printed: Printed | None = None,
) -> WallClock | None:
    """By the lines' times, else by printed sums, else by what the log says of each epoch; None
    where nothing of it is there."""
    found = _by_time(records, steps, step_s, epochs, printed) if "time" in records else None
    if found is None and "elapsed_s" in records:
        found = _by_elapsed(records, steps, step_s, epochs)
    if found is not None:
        return found
    return None if epochs is None else _by_epochs(epochs, records)


def _by_time(
    records: Records,
    steps: Steps,
    step_s: Floats | None,
    epochs: EpochSeries | None,
    printed: Printed | None,
) -> WallClock | None:
    time = records.column("time")
    rows = np.flatnonzero(np.isfinite(time))
    if rows.size < 2:
        return None
    moments = np.maximum.accumulate(time[rows])
    gaps = np.diff(moments)
    if float(gaps.sum()) <= 0:
        return None
    order = np.full(len(records), -1)
    order[steps.rows] = np.arange(steps.rows.size)
    at = order[rows]
    if not (at >= 0).any():
        if _steps_take(steps, step_s) > _ROUNDED * float(gaps.sum()):
            return None  # the few lines with a time are not all of the run
        found = _whole(float(gaps.sum()), moments, epochs, records)
        return found if found.spans else replace(
            found, spans=_by_steps(found.wall_s, steps, step_s)
        )  # fmt: skip
    gaps = np.where(_apart(gaps, at, steps), 0.0, gaps)
    judges = records.column("phase")[rows] == VALIDATION
    parts = _parts(gaps, at, judges, steps, step_s, printed)
    spans = tuple(part for part in parts if part.seconds > 0)
    return WallClock(float(gaps.sum()), spans, _started(moments))


def _started(moments: Floats) -> float | None:
    return float(moments[0]) if float(moments[0]) > _YEARLESS else None


def _apart(gaps: Floats, at: Indices, steps: Steps) -> Bools:
    """Gaps in which nothing ran: far longer than all others, and the steps begin anew after."""
    long = gaps > max(_LONG_S, _APART * float(np.quantile(gaps, 0.95)))
    fresh = np.diff(steps.stretch, prepend=0) != 0
    found: Bools = long & (at[1:] >= 0) & fresh[np.maximum(at[1:], 0)]
    return found


def _parts(
    gaps: Floats,
    at: Indices,
    judges: Bools,
    steps: Steps,
    step_s: Floats | None,
    printed: Printed | None,
) -> tuple[Span, ...]:
    """Every gap between two lines goes to a part.

    Between two lines of steps lies the training of these steps: the gap before the line itself,
    and of the rest as much as the steps usually take. What is left over is validation where its
    lines stand there.
    """
    ends = np.flatnonzero(at >= 0)  # the lines of steps
    row = at[ends]
    validation = judges[1:] | (judges[:-1] & (at[1:] >= 0))
    validation &= ~_paused(gaps, validation)
    spent = np.concatenate([[0.0], np.cumsum(gaps)])
    judging = np.concatenate([[0.0], np.cumsum(np.where(validation, gaps, 0.0))])
    usual = _usual(step_s)
    whole = np.diff(spent[ends], prepend=0.0)
    judged = np.diff(judging[ends], prepend=0.0)
    expected = np.nan_to_num(steps.covers[row]) * usual
    expected[0] = _before_first(steps, row[0]) * usual
    direct = np.concatenate([[0.0], np.where(validation, 0.0, gaps)])[ends]
    direct[0] = 0.0
    direct = np.where(steps.epoch_start[row], 0.0, direct)
    if printed is not None:
        direct = _told(direct, printed, np.nan_to_num(steps.covers[row], nan=1.0), row)
    train = np.minimum(whole, np.maximum(direct, expected))
    plain = np.minimum(train, whole - judged)
    rest, left = whole - judged - plain, judged - (train - plain)
    tail = float(spent[-1] - spent[ends[-1]])
    tail_judged = float(judging[-1] - judging[ends[-1]])
    tail_train = min(tail - tail_judged, _after_last(steps) * usual)
    times = int((judged > 0).sum()) + (tail_judged > 0)
    return (
        Span(name="start_up", seconds=float(rest[0])),
        Span(name="train", seconds=float(train.sum()) + tail_train),
        Span(name="validation", seconds=float(left.sum()) + tail_judged, count=max(1, times)),
        Span(
            name="unexplained",
            seconds=float(rest[1:].sum()) + tail - tail_judged - tail_train,
        ),
    )


def _paused(gaps: Floats, validation: Bools) -> Bools:
    """Gaps beside lines of validation that are far too long for one, as the others show."""
    usual = gaps[validation & (gaps > 0)]
    if usual.size < _FEWEST:
        return np.zeros(gaps.size, dtype=np.bool_)
    found: Bools = validation & (gaps > max(_PAUSE_S, _PAUSE * float(np.median(usual))))
    return found


def _told(direct: Floats, printed: Printed, covers: Floats, row: Indices) -> Floats:
    """The part of each gap that is in printed step times: of the usual gaps all or the share that
    these account for, of pauses what is printed."""
    told = np.nan_to_num(printed.per_step_s[row]) * covers
    each = direct / covers
    pause = each > PAUSE * max(float(np.median(each[each > 0])) if (each > 0).any() else 0.0, 1e-9)
    share = 1.0 if printed.share >= LEAST else printed.share
    found: Floats = np.where(pause & (told > 0), np.minimum(direct, told), direct * share)
    return found


def _usual(step_s: Floats | None) -> float:
    if step_s is None or not np.isfinite(step_s).any():
        return 0.0
    return float(np.nanmedian(step_s))


def _before_first(steps: Steps, row: int) -> float:
    """Training steps before the first line of a step, if the log shows the run from its start."""
    done = float(steps.step[row])
    known = steps.covers[np.isfinite(steps.covers)]
    apart = float(np.median(known)) if known.size else 1.0
    return done if steps.counted and np.isfinite(done) and done <= 2 * apart else 0.0


def _begins_late(steps: Steps) -> bool:
    """Whether the log begins in the middle of the run, by its counter."""
    first = float(steps.step[0])
    return steps.counted and first > 0 and _before_first(steps, 0) == 0


def _after_last(steps: Steps) -> float:
    """Training steps of the last epoch after its last line of a step."""
    if steps.steps_per_epoch is None:
        return 0.0
    return max(0.0, steps.steps_per_epoch - float(steps.step[-1]))


def _by_elapsed(
    records: Records, steps: Steps, step_s: Floats | None, epochs: EpochSeries | None
) -> WallClock | None:
    """By a sum of seconds that is printed with the steps, and begins anew where the run does."""
    values = records.column("elapsed_s")[steps.rows]
    values = values[np.isfinite(values)]
    changes = np.diff(values)
    if values.size < _FEWEST or (changes >= 0).mean() < _GROWING or (changes > 0).mean() <= 0.5:
        return None
    anew = changes < -0.5 * values[:-1]
    before_s = 0.0 if _begins_late(steps) else values[0]
    wall_s = float(before_s + changes[changes > 0].sum() + values[1:][anew].sum())
    if "trained_s" in records and not anew.any():
        return _by_ticks(records, steps, float(values[-1] - values[0]))
    found = _whole(wall_s, np.zeros(1), epochs, records)
    by_steps = _by_steps(wall_s, steps, step_s)
    return replace(found, spans=by_steps) if _explained(by_steps) > _explained(found.spans) else (
        found
    )  # fmt: skip


def _by_ticks(records: Records, steps: Steps, since_first_s: float) -> WallClock:
    """Lines that tell what of the time since the line before was training, and what was not."""
    train = np.nan_to_num(records.column("trained_s")[steps.rows])
    other = np.nan_to_num(records.column("maintenance_s")[steps.rows])
    wall_s = since_first_s + float(train[0] + other[0])
    told_s = float(train.sum() + other.sum())
    spans = (
        Span(name="train", seconds=float(train.sum())),
        Span(name="maintenance", seconds=float(other.sum()), count=max(1, int((other > 0).sum()))),
        Span(name="unexplained", seconds=max(0.0, wall_s - told_s)),
    )
    return WallClock(max(wall_s, told_s), tuple(s for s in spans if s.seconds > 0))


def _explained(spans: Sequence[Span]) -> float:
    """Seconds of which it is known what they were for."""
    return sum(span.seconds for span in spans if span.name != "unexplained")


def _steps_take(steps: Steps, step_s: Floats | None) -> float:
    """Seconds of all steps by what one usually takes; 0 where the log counts none."""
    if step_s is None or not steps.counted:
        return 0.0
    first = 0.0 if steps.rows.size and _begins_late(steps) else 1.0
    return _usual(step_s) * float(np.nan_to_num(steps.covers, nan=first).sum())


def _by_steps(wall_s: float, steps: Steps, step_s: Floats | None) -> tuple[Span, ...]:
    """The training as its steps times what these usually take."""
    train = _steps_take(steps, step_s)
    if not 0 < train <= _ROUNDED * wall_s:
        return ()
    train = min(train, wall_s)
    rest = Span(name="unexplained", seconds=wall_s - train)
    return (Span(name="train", seconds=train), rest)


def _whole(
    wall_s: float, moments: Floats, epochs: EpochSeries | None, records: Records
) -> WallClock:
    """The lines' times tell only the whole; its parts are what the epochs say of themselves. The
    first line may be of the end of an epoch: then this epoch lies before it."""
    inner = None if epochs is None else _by_epochs(epochs, records)
    if inner is None or epochs is None:
        return WallClock(wall_s, (), _started(moments))
    if inner.wall_s > _ROUNDED * wall_s:
        before_s = float(np.nan_to_num(epochs.time_s[0]) * stands_for(epochs.number)[0])
        if inner.wall_s - wall_s > _ROUNDED * before_s:
            return WallClock(wall_s, (), _started(moments))
        return WallClock(wall_s, inner.spans, _started(moments))
    rest = max(0.0, wall_s - inner.wall_s)
    alike = min(rest, float(np.isnan(epochs.time_s).sum() * np.nanmedian(epochs.time_s)))
    train, *others = inner.spans  # epochs without a time took about what the others took
    spans = (replace(train, seconds=train.seconds + alike), *others)
    return WallClock(
        wall_s, (*spans, Span(name="unexplained", seconds=rest - alike)), _started(moments)
    )


def _by_epochs(epochs: EpochSeries, records: Records) -> WallClock | None:
    total = float(np.nansum(epochs.time_s * stands_for(epochs.number)))
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
        times = int(np.isfinite(epochs.validation_s).sum())
        spans.append(Span(name="validation", seconds=validation, count=max(1, times)))
    return WallClock(total, tuple(spans))


def split_training(spans: Sequence[Span], share: float | None) -> tuple[Span, ...]:
    """Training split into waiting for data, `share` of it, and the rest."""
    if share is None:
        return tuple(spans)
    found: list[Span] = []
    for span in spans:
        if span.name != "train":
            found.append(span)
            continue
        found.append(replace(span, seconds=span.seconds * (1 - share)))
        found.append(replace(span, name="data_loading", seconds=span.seconds * share))
    return tuple(found)
