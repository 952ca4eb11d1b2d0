"""Rows that count something else than the steps of the training, or that are there twice."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.records import METRIC, OTHER_PHASE, TRAIN, VALIDATION, Records, is_constant
from perfdoctor.record import Bools, Floats

#: Where so many lines of steps name their epoch, the others are of another loop.
_NAMED = 0.7
#: A part of a file that repeats an earlier one: so many rows at least, so many of them known.
_FEWEST, _KNOWN = 5, 0.95
_LOOKED_AT = 20
#: Bars over the training take most of its time.
_LITTLE = 0.5
_COUNTERS = ("epoch", "epoch_total", "step", "step_total", "rank")


def of_another_loop(records: Records, usable: Bools) -> Bools:
    """Rows of steps that name no epoch, where most do, and whose counter stands or goes back: an
    evaluation that is printed in the same form."""
    if "epoch" not in records:
        return np.zeros(len(records), dtype=np.bool_)
    named = usable & np.isfinite(records.column("epoch"))
    nameless = usable & ~named
    if not nameless.any() or named.sum() < _NAMED * usable.sum():
        return np.zeros(len(records), dtype=np.bool_)
    step = records.column("step")
    last = np.where(named, np.arange(len(records)), -1)
    np.maximum.accumulate(last, out=last)
    found: Bools = nameless & (last >= 0) & (step <= step[np.maximum(last, 0)])
    return found


def with_validation(records: Records) -> Records:
    """Loops of another length that follow in the same epoch when the first has come to its end
    are validation, which is printed in the same form and does not say so; and the lines after."""
    if "rank" in records or is_constant(records.column("step_total")):
        return records
    total, epoch, step = (records.column(role) for role in ("step_total", "epoch", "step"))
    train = records.column("phase") == TRAIN
    rows = np.flatnonzero(train & np.isfinite(total) & np.isfinite(epoch) & np.isfinite(step))
    if rows.size < 2:
        return records
    begins, changes = _loops(total[rows], epoch[rows], step[rows])
    if not begins.any():
        return records
    first = np.flatnonzero(changes)
    loop = np.searchsorted(rows[first], np.arange(len(records)), side="right") - 1
    judged = (loop >= 0) & begins[first][np.maximum(loop, 0)] & train
    columns = dict(records.columns)
    columns["phase"] = np.where(judged, VALIDATION, records.column("phase"))
    return Records(records.line, columns)


_OF_VALIDATION = re.compile(r"^metric:(?:val|valid|validation|eval|test|dev)_")
_LOSS = re.compile(r"loss|error|cost|nll")


def with_validation_bars(records: Records) -> Records:
    """Bars that tell a validation's metrics alone are of the validation, if one of them follows in
    the same epoch on a bar that came to its end and tells none: others carry the last validation's
    along, and go on."""
    if "bar_elapsed_s" not in records:
        return records
    bars = np.isfinite(records.column("bar_elapsed_s")) & (records.column("phase") == TRAIN)
    judged, trained = bars & False, bars & False
    for role, values in records.columns.items():
        if role.startswith(METRIC):
            of_validation = _OF_VALIDATION.match(role) is not None
            judged |= np.isfinite(values) & of_validation
            trained |= np.isfinite(values) & (not of_validation and bool(_LOSS.search(role)))
    alone = bars & judged & ~trained
    rows = np.flatnonzero(bars)
    if not alone.any() or rows.size < 2:
        return records
    elapsed, epoch, step, total = (
        records.column(role)[rows] for role in ("bar_elapsed_s", "epoch", "step", "step_total")
    )
    anew = (np.diff(elapsed) < 0) & (np.diff(epoch) == 0) & (step[:-1] == total[:-1])
    if not (anew & alone[rows][1:] & ~judged[rows][:-1]).any():
        return records
    columns = dict(records.columns)
    columns["phase"] = np.where(alone, VALIDATION, records.column("phase"))
    return Records(records.line, columns)


def without_other_bars(records: Records) -> Records:
    """Bars that name no epoch, and are not as long as the loop whose steps other lines count in
    each epoch, are of something else, an evaluation say, if they take the smaller part of the
    time in which these lines were written."""
    if "bar_elapsed_s" not in records or "time" not in records:
        return records
    barred = np.isfinite(records.column("bar_elapsed_s"))
    train = records.column("phase") == TRAIN
    epoch, total, time = (records.column(role) for role in ("epoch", "step_total", "time"))
    written = train & ~barred & np.isfinite(records.column("step") + total + epoch + time)
    bars = train & barred & np.isnan(epoch) & np.isfinite(total)
    other = bars & ~np.isin(total, total[written])
    if written.sum() < _FEWEST or not other.any():
        return records
    if _spent(records, bars) > _LITTLE * float(np.ptp(time[written])):
        return records
    columns = dict(records.columns)
    columns["phase"] = np.where(other, OTHER_PHASE, records.column("phase"))
    return Records(records.line, columns)


def _spent(records: Records, bars: Bools) -> float:
    """Seconds that all these bars show at their ends."""
    elapsed = records.column("bar_elapsed_s")[bars]
    return float(elapsed[np.append(np.diff(elapsed) < 0, True)].sum())


def _loops(total: Floats, epoch: Floats, step: Floats) -> tuple[Bools, Bools]:
    """Where a loop begins that is the second of its epoch; and where any does."""
    same_epoch = np.append(False, np.diff(epoch) == 0)
    ended = np.append(False, step[:-1] >= total[:-1] - 1)
    longer = np.append(False, np.diff(total) != 0)
    fell = np.append(False, np.diff(step) < 0)
    changes = np.append(True, (np.diff(epoch) != 0) | (np.diff(total) != 0))
    return same_epoch & ended & longer & fell, changes


def goes_on(records: Records, before: int, after: int) -> bool:
    """Whether a sum of seconds goes on from the rows before to those after as the clock does: the
    same process, whatever its counter does."""
    if "time" not in records:
        return False
    time = records.column("time")
    for role in ("elapsed_s", "unclear_s"):
        rows = np.flatnonzero(np.isfinite(records.column(role)) & np.isfinite(time))
        place = int(np.searchsorted(rows, before, side="right"))
        if not 0 < place < rows.size or rows[place] > after + _LOOKED_AT:
            continue
        a, b = rows[place - 1], rows[place]
        clock = float(time[b] - time[a])
        if clock > 0 and abs(float(np.diff(records.column(role)[[a, b]])[0]) - clock) <= 1.5:
            return True
    return False


def without_copies(records: Records) -> Records:
    """Without a part that repeats an earlier one value for value: a file that was written, or
    merged, twice. Counters alone repeat in any restarted run; times and losses do not."""
    step = records.column("step")
    rows = np.flatnonzero(np.isfinite(step) & (records.column("phase") == TRAIN))
    begins = _may_begin_again(records, rows)
    if not begins.size or ("time" not in records and not _fine(records, rows)):
        return records
    hashes = _hashes(records)
    first = _first_seen(hashes)
    for begin in begins[:_LOOKED_AT].tolist():
        after = rows[rows >= begin]
        if after.size < _FEWEST or np.unique(hashes[after]).size < 0.5 * after.size:
            continue
        if (first[after] < begin).mean() >= _KNOWN:
            later = np.arange(len(records)) >= begin
            return records.take(~(later & (first < begin)))
    return records


def _may_begin_again(records: Records, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows at which the counter falls, and the time with it, or the first row comes again."""
    if rows.size < 2 * _FEWEST:
        return rows[:0]
    fell = np.append(False, np.diff(records.column("step")[rows]) < 0)
    if "time" in records:
        fell &= np.append(False, np.diff(records.column("time")[rows]) < 0)
    found: NDArray[np.int64] = rows[fell]
    for column in records.columns.values() if "time" not in records else ():
        found = found[(column[found] == column[rows[0]]) | np.isnan(column[found])]
    return found


def _fine(records: Records, rows: NDArray[np.int64]) -> bool:
    """Whether some value is printed so finely that it seldom comes twice."""
    for role, column in records.columns.items():
        values = column[rows]
        values = values[np.isfinite(values)]
        if role in _COUNTERS or values.size < 0.5 * rows.size:
            continue
        if np.unique(values).size > 0.4 * values.size:
            return True
    return False


def _hashes(records: Records) -> NDArray[np.uint64]:
    """A number for each row, made of all its values (FNV's prime)."""
    found = np.zeros(len(records), dtype=np.uint64)
    for column in records.columns.values():
        found *= np.uint64(0x100000001B3)
        found ^= np.ascontiguousarray(np.nan_to_num(column, nan=-1.0)).view(np.uint64)
        found ^= found >> np.uint64(29)
    return found


def _first_seen(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The first row with the same number as each row."""
    _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    found: NDArray[np.int64] = first[which]
    return found
