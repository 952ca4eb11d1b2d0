"""The epochs of a log: how long each took, its validation, and the metrics at its end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.epoch_times import about_epochs, by_epoch, epoch_times, validation_times
from perfdoctor.readers.records import METRIC, VALIDATION, Records
from perfdoctor.readers.rows import known
from perfdoctor.readers.steps import Steps
from perfdoctor.record import Bools, EpochSeries, Floats

_MOST_METRICS = 12
_JUDGES = ("val", "eval", "test", "acc", "map", "miou", "f1", "bleu", "loss", "top")


def epoch_series(
    records: Records, steps: Steps, superseded: Bools | None = None
) -> EpochSeries | None:
    """None where the log does not tell of epochs. `superseded`: rows of epochs that were trained
    again later in the file."""
    epoch = _begun_before(records.whole_epochs, records)
    if superseded is not None and superseded.any():
        epoch = np.where(superseded, np.nan, epoch)
    numbers = _numbers(epoch, records, steps)
    if numbers.size == 0:
        return None
    time_s = epoch_times(records, steps, epoch, numbers)
    validation_s = validation_times(records, epoch, numbers)
    train_s = by_epoch(epoch, records, "train_s", numbers, about_epochs(records))
    at_s, line = _ends(records, epoch, numbers)
    return EpochSeries(
        number=numbers,
        time_s=time_s,
        train_s=train_s if np.isfinite(train_s).any() else None,
        validation_s=validation_s if np.isfinite(validation_s).any() else None,
        at_s=at_s,
        line=line,
        metrics=metrics_of(records, epoch, numbers),
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
    found = different(named[np.isfinite(named)])
    if found.size == 0 and steps.steps_per_epoch and steps.epoch_start.sum() > 1:
        found = np.arange(1.0, steps.epoch_start.sum() + 1)
    return found


def different(values: Floats) -> Floats:
    """The different values in their order; without sorting, where they are in order."""
    changes = np.diff(values)
    if not (changes >= 0).all():
        found: Floats = np.unique(values)
        return found
    return np.append(values[:1], values[1:][changes > 0])


def _ends(
    records: Records, epoch: Floats, numbers: Floats
) -> tuple[Floats | None, NDArray[np.int64] | None]:
    """When and on which line each epoch is last mentioned."""
    # the last row of many alike: no other can be the last of an epoch
    rows = np.flatnonzero(np.isfinite(epoch) & np.append(epoch[1:] != epoch[:-1], True))
    if not rows.size:
        return None, None
    place = np.searchsorted(numbers, epoch[rows])
    last = np.zeros(numbers.size, dtype=np.int64)
    last[place[place < numbers.size]] = rows[place < numbers.size]  # of several, the last stays
    line = records.line[last]
    if "time" not in records:
        return None, line
    time = records.column("time")
    finite = time[np.isfinite(time)]
    return (time[last] - finite[0] if finite.size else None), line


def metrics_of(records: Records, epoch: Floats, numbers: Floats) -> dict[str, Floats]:
    """The last value of each metric in each epoch; those that judge a model come first."""
    found: dict[str, Floats] = {}
    names = [role for role in records.columns if role.startswith(METRIC)]
    names.sort(key=lambda role: not any(word in role for word in _JUDGES))
    validation = records.column("phase") == VALIDATION
    for role in names:
        name = role.removeprefix(METRIC)
        for rows, prefix in ((~validation, ""), (validation, "val_")):
            values = by_epoch(epoch, records, role, numbers, rows)
            if np.isfinite(values).sum() >= 2 and len(found) < _MOST_METRICS:
                judged = prefix and not any(w in name for w in ("val", "test", "eval"))
                found[f"{prefix if judged else ''}{name}"] = values
    return found
