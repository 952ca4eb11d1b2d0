"""How long the epochs of a log took, and the validations in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.records import TRAIN, VALIDATION, Records, forward_fill
from perfdoctor.readers.rows import known
from perfdoctor.readers.steps import Steps
from perfdoctor.record import Bools, Floats

_GROWING = 0.9
#: What grows to so many times its first value over the epochs is a sum.
_MANY_TIMES = 2.5
#: So many lines without a time at its beginning, and an epoch's first time is not of that.
_LATE = 10
#: Fewer values tell no trend.
_FEWEST = 4
#: So far a counter must have come for its epoch to be over.
_NEARLY = 0.9
_LAST = 3
#: Epochs have equally many steps; lines may be so much off their ends.
_UNEQUAL = 0.1
#: An epoch takes no longer than passes from one to the next; whole seconds are rounded twice.
_TOO_LONG, _ROUNDED_S = 1.5, 2.0


def epoch_times(records: Records, steps: Steps, epoch: Floats, numbers: Floats) -> Floats:
    """Seconds of each epoch of `numbers`, NaN where nothing tells. `epoch`: of each record."""
    named = by_epoch(epoch, records, "time", numbers, known(records, "epoch"))
    sources = (
        found for found in _epoch_times(records, steps, epoch, numbers)
        if not _longer_than_passed(found, named)
    )  # fmt: skip
    return _first_known(sources, numbers.size)


def _longer_than_passed(time_s: Floats, named: Floats) -> bool:
    """Whether most epochs would have taken longer than passed since the one before was `named`:
    a value of another unit, or of something else."""
    passed = np.diff(named, prepend=np.nan)
    known = np.isfinite(time_s) & (passed > 0)
    too_long = time_s[known] > _TOO_LONG * passed[known] + _ROUNDED_S
    return bool(known.any()) and float(too_long.mean()) > 0.5


def validation_times(records: Records, epoch: Floats, numbers: Floats) -> Floats:
    """The same for the validation in each epoch; what is over in less than the log counts in is
    not known."""
    found = _first_known(_validation_times(records, epoch, numbers), numbers.size)
    return np.where(found > 0, found, np.nan)


def _first_known(sources: Iterator[Floats], size: int) -> Floats:
    """The first source that knows at least half as many epochs as any other."""
    best = np.full(size, np.nan)
    for values in sources:
        count, most = int(np.isfinite(values).sum()), int(np.isfinite(best).sum())
        if count and count > 2 * most:
            best = values
    return best


def about_epochs(records: Records) -> NDArray[np.bool_]:
    """Rows about an epoch as a whole: they count no steps."""
    found: NDArray[np.bool_] = ~known(records, "step")
    return found


def _epoch_times(
    records: Records, steps: Steps, epoch: Floats, numbers: Floats
) -> Iterator[Floats]:
    training = records.column("phase") != VALIDATION
    yield _shared(by_epoch(epoch, records, "epoch_s_mean", numbers, training))
    if "epoch_s" in records:
        owned = known(records, "epoch") | known(records, "epoch_s")
        owned &= ~_remaining(records, epoch) & ~_so_far(records, epoch)
        yield _settled(by_epoch(epoch, records, "epoch_s", numbers, training & owned), numbers)
    named = known(records, "epoch") & about_epochs(records) & (records.column("phase") == TRAIN)
    for role in ("unclear_s", "elapsed_s"):
        told = named & ~_still_growing(records, role, epoch, named)
        yield _settled(by_epoch(epoch, records, role, numbers, told), numbers)
    if int((named | (training & known(records, "epoch"))).sum()) == numbers.size > 1:
        counted = training & known(records, "epoch")  # a line an epoch, which counts its steps too
        yield _settled(by_epoch(epoch, records, "elapsed_s", numbers, counted), numbers)
    total = _settled(
        by_epoch(epoch, records, "elapsed_s", numbers, training & about_epochs(records)), numbers
    )
    if np.isfinite(total).sum() > 1:
        yield total  # one alone is of the whole run
    train = by_epoch(epoch, records, "train_s", numbers, about_epochs(records))
    validation = by_epoch(epoch, records, "validation_s", numbers, about_epochs(records))
    yield train + np.nan_to_num(validation)
    yield _bar_ends(records, steps, numbers, epoch)
    unnamed = about_epochs(records) & (records.column("phase") == TRAIN)
    each = int((unnamed & known(records, "unclear_s")).sum())
    unnamed &= ~_still_growing(records, "unclear_s", epoch, named)
    if np.isfinite(epoch).any() and numbers.size > 1 and 1 < each <= 2 * numbers.size:
        yield _settled(by_epoch(epoch, records, "unclear_s", numbers, unnamed), numbers)
    yield _from_elapsed(records, steps, epoch, numbers)
    yield _between_sums(records, epoch, numbers, training)
    yield _between_marks(records, numbers)
    yield _between_starts(records, steps, epoch, numbers)
    yield _until_done(records, steps, epoch, numbers)


def by_epoch(
    epoch: Floats, records: Records, role: str, numbers: Floats, rows: NDArray[np.bool_]
) -> Floats:
    """The last value of each epoch among `rows`."""
    found = np.full(numbers.size, np.nan)
    if role not in records:
        return found
    usable = np.flatnonzero(rows & known(records, role) & np.isfinite(epoch))
    if usable.size:
        place = np.searchsorted(numbers, epoch[usable])
        inside = (place < numbers.size) & (numbers[np.minimum(place, numbers.size - 1)]
                                           == epoch[usable])  # fmt: skip
        found[place[inside]] = records.column(role)[usable][inside]
    return found


def _remaining(records: Records, epoch: Floats) -> Bools:
    """ "epoch time: 98 min", "97 min", …: what falls from step to step is what remains of it."""
    rows = np.flatnonzero(known(records, "epoch_s") & known(records, "step") & np.isfinite(epoch))
    found = np.zeros(len(records), dtype=np.bool_)
    if rows.size < _FEWEST:
        return found
    values, inside = records.column("epoch_s")[rows], np.diff(epoch[rows]) == 0
    changes = np.diff(values)[inside]
    falls = (changes < 0).sum() >= 2 and (changes <= 0).mean() >= _GROWING
    found[rows] = bool(falls) and inside.mean() > 0.5
    return found


def _still_growing(records: Records, role: str, epoch: Floats, named: Bools) -> Bools:
    """Rows of the last epoch, if it is told of again and again with a time that grows as the clock
    does: how long it takes in the end no line says."""
    found = np.zeros(len(records), dtype=np.bool_)
    if "time" not in records or role not in records:
        return found
    time = records.column("time")
    rows = np.flatnonzero(named & known(records, role) & np.isfinite(epoch) & np.isfinite(time))
    own = rows[epoch[rows] == epoch[rows[-1]]] if rows.size else rows
    passed, grown = np.diff(time[own]), np.diff(records.column(role)[own])
    if own.size > 1 and (np.abs(grown - passed) <= 0.02 * passed + _ROUNDED_S / 2).all():
        found[own] = (passed > 0).all()
    return found


def _so_far(records: Records, epoch: Floats) -> Bools:
    """ "batches: 100, epoch time so far: 0:00:27": lines before the last step of their epoch."""
    stepped = np.flatnonzero(known(records, "step") & np.isfinite(epoch))
    found = np.zeros(len(records), dtype=np.bool_)
    goes_on = (np.diff(epoch[stepped]) == 0) & (np.diff(records.column("step")[stepped]) > 0)
    found[stepped[:-1][goes_on]] = True
    return found


def _shared(values: Floats) -> Floats:
    """ "6 epochs completed in 2.3 hours": each of them took as long."""
    return forward_fill(values[::-1])[::-1]


def _settled(values: Floats, numbers: Floats) -> Floats:
    """Differences where the values are sums over all epochs; else as they are."""
    finite = values[np.isfinite(values)]
    if finite.size < 3:
        return values
    steps = np.diff(finite)
    first = float(np.median(finite[: max(1, finite.size // 10)]))
    if (steps > 0).mean() < _GROWING or float(finite[-1]) < _MANY_TIMES * first:
        return values
    known_at = np.flatnonzero(np.isfinite(values))
    result = np.full(values.size, np.nan)
    gaps = stands_for(numbers[known_at])
    result[known_at[1:]] = steps / gaps[1:]
    # a sum that began with the run: the first value is of the first epochs
    if known_at[0] == 0 and finite[0] / gaps[0] < 3 * float(np.median(steps / gaps[1:])):
        result[0] = finite[0] / gaps[0]
    return result


def stands_for(numbers: Floats) -> Floats:
    """How many epochs each line is about, where a log tells of every tenth only."""
    apart = np.diff(numbers)
    usual = float(np.median(apart)) if apart.size else 1.0
    before = 0.0 if numbers[0] <= usual else numbers[0] - 1
    found: Floats = np.maximum(np.diff(numbers, prepend=before), 1.0)
    return found


def _bar_ends(records: Records, steps: Steps, numbers: Floats, epoch: Floats) -> Floats:
    """What the progress bar of training says at its end."""
    found = np.full(numbers.size, np.nan)
    if "bar_elapsed_s" not in records or "step_total" not in records:
        return found
    total = records.column("step_total")[steps.rows]
    done = np.flatnonzero(steps.step == total)
    elapsed = records.column("bar_elapsed_s")[steps.rows]
    if _goes_on(elapsed, steps):
        return found
    values = elapsed[done]
    number = epoch[steps.rows][done]
    named = np.isfinite(number)
    if number.size and (named.all() or np.isfinite(steps.epoch[done]).all()):
        place = np.searchsorted(numbers, number[named])
        found[np.minimum(place, numbers.size - 1)] = values[named]
    elif values.size == numbers.size:
        found[:] = values
    return np.where(found > 0, found, np.nan)


def _goes_on(elapsed: Floats, steps: Steps) -> bool:
    """Whether a bar goes on over the ends of epochs, and so is of several of them."""
    over = steps.epoch_start[1:]
    on = (np.diff(elapsed) >= 0) & (np.diff(steps.step) > 0)
    return bool(over.any()) and bool(on[over].all())


def _from_elapsed(records: Records, steps: Steps, epoch: Floats, numbers: Floats) -> Floats:
    """A sum printed with the steps, which either grows over the run or begins in each epoch."""
    found = np.full(numbers.size, np.nan)
    for role in ("elapsed_s", "unclear_s", "bar_elapsed_s"):
        if role not in records or steps.epoch_start.sum() < 2:
            continue
        values = records.column(role)[steps.rows]
        starts = np.flatnonzero(steps.epoch_start)
        ends = np.append(starts[1:], steps.rows.size) - 1
        number = steps.epoch[ends]
        if not np.isfinite(number).all() or not np.isfinite(values).all():
            continue
        inside = ~steps.epoch_start[1:]
        if not inside.any() or (np.diff(values)[inside] >= 0).mean() < _GROWING:
            continue
        anew = (np.diff(values)[~inside] < 0).mean() > 0.5
        if _end_early(steps, ends) if anew else _unequal(np.diff(steps.position[ends])):
            continue  # lines come too seldom to show where an epoch ends
        spent = values[ends] if anew else np.diff(values[ends], prepend=np.nan)
        kept = np.isfinite(epoch[steps.rows[ends]]) & np.isin(number, numbers)
        found[np.searchsorted(numbers, number[kept])] = spent[kept]
        return np.where(found > 0, found, np.nan)
    return found


def _between_sums(records: Records, epoch: Floats, numbers: Floats, training: Bools) -> Floats:
    """A sum that is printed once in each epoch, in a table between lines of steps say."""
    told = training & known(records, "epoch") & known(records, "elapsed_s")
    values = records.column("elapsed_s")[told]
    once = values.size >= _FEWEST and bool((np.diff(epoch[told]) > 0).all())
    if not once or not (np.diff(values) > 0).all() or values[-1] < _MANY_TIMES * values[0]:
        return np.full(numbers.size, np.nan)
    return _settled(by_epoch(epoch, records, "elapsed_s", numbers, told), numbers)


def _end_early(steps: Steps, ends: NDArray[np.int64]) -> bool:
    """Whether a good part of each epoch comes after the last line that counts in it."""
    whole = steps.steps_per_epoch
    return whole is not None and float(np.median(steps.step[ends])) < _NEARLY * whole


def _unequal(steps_between: Floats) -> bool:
    """Whether the last lines of epochs are so many steps apart now, and so many then."""
    known = steps_between[np.isfinite(steps_between)]
    return bool(known.size) and float(np.ptp(known)) > _UNEQUAL * float(np.median(known))


def _between_marks(records: Records, numbers: Floats) -> Floats:
    """From "epoch 3 started" to "epoch 3 finished", by the lines' times."""
    timed = known(records, "time") & (records.column("phase") == TRAIN)
    begins = by_epoch(records.column("epoch_begins"), records, "time", numbers, timed)
    ends = by_epoch(records.column("epoch_ends"), records, "time", numbers, timed)
    return np.where(ends > begins, ends - begins, np.nan)


def _between_starts(records: Records, steps: Steps, epoch: Floats, numbers: Floats) -> Floats:
    """From the first line of an epoch to the first of the next, by the lines' times."""
    found = np.full(numbers.size, np.nan)
    if "time" not in records:
        return found
    time, kept = records.column("time"), np.isfinite(epoch)
    epoch = np.where(kept, epoch, records.whole_epochs)  # where one ends that was lost later
    rows = np.flatnonzero(np.isfinite(time) & np.isfinite(epoch))
    if rows.size < 2:
        return found
    named = np.flatnonzero(np.isfinite(epoch))
    began = named[np.append(True, np.diff(epoch[named]) != 0)]
    begins = np.append(True, np.diff(epoch[rows]) != 0)
    late = rows[begins] - began[np.searchsorted(began, rows[begins], side="right") - 1]
    first, number = np.where(late > _LATE, np.nan, time[rows][begins]), epoch[rows][begins]
    if first.size < 2:
        return found
    if _begins_late(steps, number[0]):
        first[0] = np.nan
    spans = np.diff(first)
    follows = (np.diff(number) == 1) & kept[rows[begins]][:-1]
    place = np.searchsorted(numbers, number[:-1])
    found[place[follows]] = spans[follows]
    return np.where(found > 0, found, np.nan)


def _begins_late(steps: Steps, number: float) -> bool:
    """Whether the log begins in the middle of an epoch, by the counter of its first steps."""
    own = np.flatnonzero(steps.epoch == number)
    if not steps.counted or not own.size or own[0] != 0:
        return False
    apart = np.diff(steps.step)
    usual = float(np.median(apart[apart > 0])) if (apart > 0).any() else np.inf
    return float(steps.step[0]) > 2 * usual


def _until_done(records: Records, steps: Steps, epoch: Floats, numbers: Floats) -> Floats:
    """From the first line of an epoch to the first after its last step that sums it up."""
    found = np.full(numbers.size, np.nan)
    if "time" not in records or "step_total" not in records or not steps.rows.size:
        return found
    time, total = records.column("time"), records.column("step_total")[steps.rows]
    named = np.flatnonzero(known(records, "epoch") & about_epochs(records) & np.isfinite(time))
    for i, number in enumerate(numbers[-_LAST:], start=max(0, numbers.size - _LAST)):
        own = np.flatnonzero((epoch[steps.rows] == number) & np.isfinite(time[steps.rows]))
        if not own.size or not steps.step[own[-1]] >= _NEARLY * total[own[-1]]:
            continue
        after = named[(named > steps.rows[own[-1]]) & (epoch[named] == number)]
        if after.size:
            found[i] = time[after[0]] - time[steps.rows[own[0]]]
    return np.where(found > 0, found, np.nan)


def _validation_times(records: Records, epoch: Floats, numbers: Floats) -> Iterator[Floats]:
    every = np.ones(len(records), dtype=np.bool_)
    yield by_epoch(epoch, records, "validation_s", numbers, every)
    validation = records.column("phase") == VALIDATION
    if "bar_elapsed_s" in records and "step_total" in records:
        done = validation & (records.column("step") == records.column("step_total"))
        yield by_epoch(epoch, records, "bar_elapsed_s", numbers, done)
    lone = ~(np.append(False, validation[:-1]) | np.append(validation[1:], False))
    whole = validation & (about_epochs(records) | lone)
    for role in ("unclear_s", "elapsed_s", "epoch_s"):
        yield by_epoch(epoch, records, role, numbers, whole)
