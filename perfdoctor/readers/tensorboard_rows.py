"""Scalars that were logged one by one → rows: what was logged together is one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.records import METRIC, Records, empty
from perfdoctor.readers.tensorboard_scalars import Scalars, joined
from perfdoctor.record import Floats

#: Scalars of one step that were logged further apart are rows of their own: train at the end of
#: the epoch's training, validation minutes later.
_TOGETHER_S = 1.0
#: Columns may take this much for every scalar, or the constant if that is more; tags that are
#: never logged together would else need rows × tags.
_BYTES_PER_SCALAR, _BYTES_AT_LEAST = 32, 1 << 27


@dataclass(frozen=True)
class Tag:
    """One tag: the role of its values (see records.py), and their unit in the role's."""

    name: str
    role: str
    scale: float = 1.0


def to_records(parts: list[Scalars], tags: Sequence[Tag]) -> tuple[Records, list[str]]:
    """One row for each step and burst of logging, and the names of tags that found no room.

    Empties `parts`, and lets go of what it no longer needs: a file may hold many millions.
    """
    scalars = joined(parts)
    if scalars is None:
        return empty(), []
    row_of, first = _rows(scalars)
    line, columns = scalars.record[first], _step_and_time(scalars, first)
    tag, value = scalars.tag, scalars.value
    del scalars, first
    by_tag = np.argsort(tag, kind="stable")
    counts = np.bincount(tag, minlength=len(tags))
    ends = np.cumsum(counts)
    kept, left_out = _that_fit(tags, counts, line.size)
    kept.sort(key=lambda index: int(by_tag[ends[index] - counts[index]]))  # as they first appear
    for index, role in _roles(tags, kept, taken=set(columns)).items():
        mine = by_tag[ends[index] - counts[index] : ends[index]]
        column = np.full(line.size, np.nan)
        column[row_of[mine]] = value[mine]
        column *= tags[index].scale
        columns[role] = column
    return Records(line, columns), left_out


def _rows(scalars: Scalars) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The row of each scalar, and each row's first scalar.

    A burst has one step and no pause in it. A tag that comes several times in a burst makes as
    many rows, so that nothing is lost where a step is not counted.
    """
    new = np.ones(scalars.step.size, dtype=np.bool_)
    new[1:] = scalars.step[1:] != scalars.step[:-1]
    with np.errstate(invalid="ignore"):
        pause = np.diff(scalars.time_s)
    new[1:] |= np.abs(pause, out=pause) > _TOGETHER_S
    del pause
    burst = np.cumsum(new, dtype=np.int32) - np.int32(1)
    starts = np.flatnonzero(new)
    again = None if new.all() else _times_before(burst, scalars.tag)
    if again is None:
        return burst, starts
    rows = np.maximum.reduceat(again, starts) + 1
    row_of = (np.cumsum(rows, dtype=np.int32) - rows)[burst] + again
    first = np.empty(int(rows.sum()), dtype=np.int64)
    first[row_of[::-1]] = np.arange(row_of.size)[::-1]  # of several the last to be written stays
    return row_of, first


def _times_before(burst: NDArray[np.int32], tag: NDArray[np.int32]) -> NDArray[np.int32] | None:
    """How often the scalar's tag came before in its burst; None if none ever does."""
    key = burst * (np.int64(tag.max()) + 1) + tag
    order = np.argsort(key, kind="stable")
    key = key[order]
    new = np.ones(key.size, dtype=np.bool_)
    new[1:] = key[1:] != key[:-1]
    del key
    if new.all():
        return None
    place = np.arange(new.size, dtype=np.int32)
    place -= np.maximum.accumulate(np.where(new, place, np.int32(0)))
    again = np.empty(new.size, dtype=np.int32)
    again[order] = place
    return again


def _step_and_time(scalars: Scalars, first: NDArray[np.int64]) -> dict[str, Floats]:
    """The columns that every scalar has. A step that is always 0 was not given."""
    step, time_s = scalars.step[first], scalars.time_s[first]
    columns = {"step": step} if first.size == 1 or step.any() else {}
    known = np.isfinite(time_s) & (time_s > 0)
    if known.any():
        columns["time"] = np.where(known, time_s, np.nan)
    return columns


def _that_fit(
    tags: Sequence[Tag], counts: NDArray[np.int64], rows: int
) -> tuple[list[int], list[str]]:
    """Which tags get a column: times and rates first, then those with few values, which are
    logged once an epoch and tell more than a gradient's norm at each step."""
    room = max(_BYTES_AT_LEAST, _BYTES_PER_SCALAR * int(counts.sum())) // (8 * rows)
    order = sorted(
        range(len(tags)),
        key=lambda tag: (tags[tag].role.startswith(METRIC), counts[tag] < 3, counts[tag]),
    )
    return order[:room], [tags[tag].name for tag in order[room:]]


def _roles(tags: Sequence[Tag], kept: Sequence[int], taken: set[str]) -> Mapping[int, str]:
    """Tag → role. The first tag of a role has it; the others are metrics under their names."""
    roles: dict[int, str] = {}
    for tag in kept:
        role = tags[tag].role
        role = METRIC + tags[tag].name if role in taken else role
        while role in taken:
            role += "'"
        roles[tag] = role
        taken.add(role)
    return roles
