"""The epochs of a log: how long each took, its validation, and the metrics at its end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.records import METRIC, TRAIN, VALIDATION, Records
from perfdoctor.readers.rows import Steps, forward_fill, known, whole_epochs
from perfdoctor.record import Bools, EpochSeries, Floats

_GROWING = 0.9
_MOST_METRICS = 12
#: So many lines without a time at its beginning, and an epoch's first time is not of that.
_LATE = 10
#: Fewer values tell no trend.
_FEWEST = 4
#: So far a counter must have come for its epoch to be over.
_NEARLY = 0.9
_LAST = 3
_JUDGES = ("val", "eval", "test", "acc", "map", "miou", "f1", "bleu", "loss", "top")


def epoch_series(
    records: Records, steps: Steps, superseded: Bools | None = None
) -> EpochSeries | None:
    """None where the log does not tell of epochs. `superseded`: rows of epochs that were trained
    again later in the file."""
    epoch = _begun_before(whole_epochs(records), records)
    if superseded is not None and superseded.any():
        epoch = np.where(superseded, np.nan, epoch)
    numbers = _numbers(epoch, records, steps)
    if numbers.size == 0:
        return None
    time_s = _first_known(_epoch_times(records, steps, epoch, numbers), numbers.size)
    validation_s = _first_known(_validation_times(records, epoch, numbers), numbers.size)
    train_s = _by_epoch(epoch, records, "train_s", numbers, _plain(records))
    at_s, line = _ends(records, epoch, numbers)
    return EpochSeries(
        number=numbers,
        time_s=time_s,
        train_s=train_s if np.isfinite(train_s).any() else None,
        validation_s=validation_s if np.isfinite(validation_s).any() else None,
        at_s=at_s,
        line=line,
        metrics=_metrics(records, epoch, numbers),
    )


def _begun_before(epoch: Floats, records: Records) -> Floats:
    """A log that begins in the middle tells of an epoch before it names one."""
    first = np.flatnonzero(np.isfinite(epoch))
    early = known(records, "epoch_s") & np.isnan(epoch)
    if not first.size or not early.any():
        return epoch
    return np.where(early, epoch[first[0]] - 1, epoch)


def _numbers(epoch: Floats, records: Records, steps: Steps) -> Floats:
    """The epochs' numbers in their order."""
    rows = known(records, "epoch") | known(records, "epoch_s") | known(records, "epoch_s_mean")
    named = epoch[rows]
    found: Floats = np.unique(named[np.isfinite(named)])
    if found.size == 0 and steps.steps_per_epoch and steps.epoch_start.sum() > 1:
        found = np.arange(1.0, steps.epoch_start.sum() + 1)
    return found


def _first_known(sources: Iterator[Floats], size: int) -> Floats:
    """The first source that knows at least half as many epochs as any other."""
    best = np.full(size, np.nan)
    for values in sources:
        count, most = int(np.isfinite(values).sum()), int(np.isfinite(best).sum())
        if count and count > 2 * most:
            best = values
    return best


def _plain(records: Records) -> NDArray[np.bool_]:
    """Rows about an epoch as a whole: they count no steps."""
    plain: NDArray[np.bool_] = ~known(records, "step")
    return plain


def _epoch_times(
    records: Records, steps: Steps, epoch: Floats, numbers: Floats
) -> Iterator[Floats]:
    training = records.column("phase") != VALIDATION
    yield _shared(_by_epoch(epoch, records, "epoch_s_mean", numbers, training))
    owned = (known(records, "epoch") | known(records, "epoch_s")) & ~_remaining(records, epoch)
    yield _settled(_by_epoch(epoch, records, "epoch_s", numbers, training & owned), numbers)
    named = known(records, "epoch") & _plain(records) & (records.column("phase") == TRAIN)
    for role in ("unclear_s", "elapsed_s"):
        yield _settled(_by_epoch(epoch, records, role, numbers, named), numbers)
    if int((named | (training & known(records, "epoch"))).sum()) == numbers.size > 1:
        counted = training & known(records, "epoch")  # a line an epoch, which counts its steps too
        yield _settled(_by_epoch(epoch, records, "elapsed_s", numbers, counted), numbers)
    total = _settled(
        _by_epoch(epoch, records, "elapsed_s", numbers, training & _plain(records)), numbers
    )
    if np.isfinite(total).sum() > 1:
        yield total  # one alone is of the whole run
    train = _by_epoch(epoch, records, "train_s", numbers, _plain(records))
    validation = _by_epoch(epoch, records, "validation_s", numbers, _plain(records))
    yield train + np.nan_to_num(validation)
    yield _bar_ends(records, steps, numbers, epoch)
    unnamed = _plain(records) & (records.column("phase") == TRAIN)
    each = int((unnamed & known(records, "unclear_s")).sum())
    if np.isfinite(epoch).any() and each <= 2 * numbers.size:
        yield _settled(_by_epoch(epoch, records, "unclear_s", numbers, unnamed), numbers)
    yield _from_elapsed(records, steps, epoch, numbers)
    yield _between_marks(records, numbers)
    yield _between_starts(records, steps, epoch, numbers)
    yield _until_done(records, steps, epoch, numbers)


def _by_epoch(
    epoch: Floats, records: Records, role: str, numbers: Floats, rows: NDArray[np.bool_]
) -> Floats:
    """The last value of each epoch among `rows`."""
    found = np.full(numbers.size, np.nan)
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
    if (steps > 0).mean() < _GROWING or float(finite[-1]) < 2.5 * first:
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
    values = records.column("bar_elapsed_s")[steps.rows][done]
    number = epoch[steps.rows][done]
    named = np.isfinite(number)
    if number.size and (named.all() or np.isfinite(steps.epoch[done]).all()):
        place = np.searchsorted(numbers, number[named])
        found[np.minimum(place, numbers.size - 1)] = values[named]
    elif values.size == numbers.size:
        found[:] = values
    return np.where(found > 0, found, np.nan)


def _from_elapsed(records: Records, steps: Steps, epoch: Floats, numbers: Floats) -> Floats:
    """A sum printed with the steps, which either grows over the run or begins in each epoch."""
    found = np.full(numbers.size, np.nan)
    for role in ("elapsed_s", "unclear_s"):
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
        spent = values[ends] if anew else np.diff(values[ends], prepend=np.nan)
        kept = np.isfinite(epoch[steps.rows[ends]])
        found[np.searchsorted(numbers, number[kept])] = spent[kept]
        return np.where(found > 0, found, np.nan)
    return found


def _between_marks(records: Records, numbers: Floats) -> Floats:
    """From "epoch 3 started" to "epoch 3 finished", by the lines' times."""
    timed = known(records, "time") & (records.column("phase") == TRAIN)
    begins = _by_epoch(records.column("epoch_begins"), records, "time", numbers, timed)
    ends = _by_epoch(records.column("epoch_ends"), records, "time", numbers, timed)
    return np.where(ends > begins, ends - begins, np.nan)


def _between_starts(records: Records, steps: Steps, epoch: Floats, numbers: Floats) -> Floats:
    """From the first line of an epoch to the first of the next, by the lines' times."""
    found = np.full(numbers.size, np.nan)
    if "time" not in records:
        return found
    time, kept = records.column("time"), np.isfinite(epoch)
    epoch = np.where(kept, epoch, whole_epochs(records))  # where one ends that was lost later
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
    named = np.flatnonzero(known(records, "epoch") & _plain(records) & np.isfinite(time))
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
    yield _by_epoch(epoch, records, "validation_s", numbers, every)
    validation = records.column("phase") == VALIDATION
    if "bar_elapsed_s" in records and "step_total" in records:
        done = validation & (records.column("step") == records.column("step_total"))
        yield _by_epoch(epoch, records, "bar_elapsed_s", numbers, done)
    lone = ~(np.append(False, validation[:-1]) | np.append(validation[1:], False))
    whole = validation & (_plain(records) | lone)
    for role in ("unclear_s", "elapsed_s", "epoch_s"):
        yield _by_epoch(epoch, records, role, numbers, whole)


def _ends(
    records: Records, epoch: Floats, numbers: Floats
) -> tuple[Floats | None, NDArray[np.int64] | None]:
    """When and on which line each epoch is last mentioned."""
    rows = np.flatnonzero(np.isfinite(epoch))
    if not rows.size:
        return None, None
    place = np.searchsorted(numbers, epoch[rows])
    last = np.zeros(numbers.size, dtype=np.int64)
    np.maximum.at(last, place[place < numbers.size], rows[place < numbers.size])
    line = records.line[last]
    if "time" not in records:
        return None, line
    time = records.column("time")
    finite = time[np.isfinite(time)]
    return (time[last] - finite[0] if finite.size else None), line


def _metrics(records: Records, epoch: Floats, numbers: Floats) -> dict[str, Floats]:
    """The last value of each metric in each epoch; those that judge a model come first."""
    found: dict[str, Floats] = {}
    names = [role for role in records.columns if role.startswith(METRIC)]
    names.sort(key=lambda role: not any(word in role for word in _JUDGES))
    validation = records.column("phase") == VALIDATION
    for role in names:
        name = role.removeprefix(METRIC)
        for rows, prefix in ((~validation, ""), (validation, "val_")):
            values = _by_epoch(epoch, records, role, numbers, rows)
            if np.isfinite(values).sum() >= 2 and len(found) < _MOST_METRICS:
                judged = prefix and not any(w in name for w in ("val", "test", "eval"))
                found[f"{prefix if judged else ''}{name}"] = values
    return found
