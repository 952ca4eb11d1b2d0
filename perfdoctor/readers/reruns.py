"""Epochs that a later start of the run trained again: the last time counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perfdoctor.readers.epochs import epoch_series
from perfdoctor.readers.records import TRAIN, Records
from perfdoctor.readers.rows import known
from perfdoctor.readers.steps import Steps
from perfdoctor.record import Bools, EpochSeries, Floats

#: Lines about the epoch before come late at times; nothing falls further back without a restart.
_FALL = 2
_MOST_STARTS = 50
#: Of the changes of the epoch's number, so many may be restarts.
_MOST_FALLS = 0.2


def superseded(records: Records, steps: Steps) -> Bools:
    """Rows of epochs that come again after a restart."""
    lost = np.zeros(len(records), dtype=np.bool_)
    epoch = records.whole_epochs
    starts = list(_restarts(epoch, records, steps)) or list(_falls(epoch, records, steps))
    for row, number in starts[:_MOST_STARTS]:
        lost[:row] |= epoch[:row] >= number
    return lost


def every_time(records: Records, steps: Steps, lost: Bools, last: EpochSeries) -> EpochSeries:
    """The epochs of `last`, and before them what was trained again."""
    first = epoch_series(records, steps, ~lost)
    if first is None:
        return last
    sizes = (first.number.size, last.number.size)
    return EpochSeries(
        number=np.concatenate([first.number, last.number]),
        time_s=np.concatenate([first.time_s, last.time_s]),
        train_s=_joined(first.train_s, last.train_s, sizes),
        validation_s=_joined(first.validation_s, last.validation_s, sizes),
    )


def _joined(a: Floats | None, b: Floats | None, sizes: tuple[int, int]) -> Floats | None:
    if a is None and b is None:
        return None
    pair = (a, b)
    return np.concatenate(
        [np.full(n, np.nan) if v is None else v for v, n in zip(pair, sizes, strict=True)]
    )


def _restarts(epoch: Floats, records: Records, steps: Steps) -> Iterator[tuple[int, float]]:
    """Where each start of the training begins in the file, and the first epoch that is new in it:
    one that it goes on with in the middle was not trained again."""
    told = np.floor(records.column("epoch"))
    for i in np.flatnonzero(np.diff(steps.stretch) != 0).tolist()[:_MOST_STARTS]:
        before, row = int(steps.rows[i]), int(steps.rows[i + 1])
        number = float(steps.epoch[i + 1])
        if not np.isfinite(number):
            continue
        own = steps.epoch[: i + 1] == number
        middle = bool(own.any()) and steps.step[i + 1] > float(steps.step[: i + 1][own].min())
        yield _header(epoch, told, before, row, number), number + middle


def _header(epoch: Floats, told: Floats, before: int, row: int, number: float) -> int:
    """The first line of a start: where the epoch falls, else the last line that names it."""
    between = slice(before + 1, row)
    fell = np.flatnonzero(epoch[between] < epoch[before])
    if fell.size:
        return before + 1 + int(fell[0])
    named = np.flatnonzero(told[between] == number)
    return before + 1 + int(named[-1]) if named.size else row


def _falls(epoch: Floats, records: Records, steps: Steps) -> Iterator[tuple[int, float]]:
    """The same for a log that tells of whole epochs only."""
    if steps.rows.size and steps.counted:
        return
    rows = np.flatnonzero(known(records, "epoch") & (records.column("phase") == TRAIN))
    named = epoch[rows]
    falls = np.flatnonzero(np.diff(named) <= -_FALL)
    if falls.size > _MOST_FALLS * (np.diff(named) > 0).sum():
        return  # some other number, or epochs that are told of in turns
    for i in falls.tolist():
        yield int(rows[i + 1]), float(named[i + 1])
