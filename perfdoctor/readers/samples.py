"""Samples of hardware use: what all of these formats share.

Columns of `Reading.hardware`, percentages as 0–100: `gpu` (busy), `gpu_memory` (used of all),
`gpu_memory_busy` (the memory controller; not how full it is), `memory_bytes`, `gpu_power_w`,
`gpu_temperature_c`, `gpu_clock_mhz`, and in perfdoctor's own files what its sampler writes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.cells import line_count
from perfdoctor.readers.records import Reading, Records
from perfdoctor.record import Floats, UnreadLine

TIME = "time"
#: Of several GPUs the fullest and the hottest count; all else is their mean.
_MAXIMUM = ("memory_bytes", "gpu_memory", "gpu_temperature_c")
#: Gaps up to this part of the time between two rounds lie inside one round.
_INSIDE_ROUND = 0.25
#: A round may have up to about 30 GPUs: then one gap in 30 is one between rounds.
_BETWEEN_ROUNDS = 0.97
_REGULAR = 0.8
_SAMPLES_OF_UNREAD = 5
_UNREAD_LENGTH = 200


@dataclass(frozen=True)
class Rows:
    """One row a GPU and sample: its line, its columns, which GPU (None: the file does not say)."""

    line: Sequence[int]
    columns: Mapping[str, Floats]
    gpu: Sequence[str] | None = None


@dataclass(frozen=True)
class Rounds:
    """Rows of all GPUs at one time made into one. `gpus`: the most seen in one round."""

    records: Records
    gpus: int
    busiest: str | None = None


def rounds(rows: Rows) -> Rounds:
    """One record for each time at which the GPUs were asked."""
    known = {role: c for role, c in rows.columns.items() if not np.isnan(c).all()}
    line = np.asarray(rows.line, np.int64)
    if not line.size or not known:
        return Rounds(Records(line, known), 0)
    starts = _starts(rows.gpu, known.get(TIME), line.size)
    columns = {role: _merged(role, column, starts) for role, column in known.items()}
    gpus = int(np.diff(np.append(starts, line.size)).max())
    return Rounds(Records(line[starts], columns), gpus, _busiest(rows, gpus))


def _starts(gpu: Sequence[str] | None, time: Floats | None, size: int) -> NDArray[np.int64]:
    if gpu is not None:
        return np.array(_repeats(gpu), np.int64)
    every = np.arange(size)
    return every if time is None else _bursts(time, every)


def _repeats(gpu: Sequence[str]) -> list[int]:
    """A round ends where a GPU comes again."""
    starts: list[int] = []
    seen: set[str] = set()
    for index, label in enumerate(gpu):
        if not starts or label in seen:
            starts.append(index)
            seen = set()
        seen.add(label)
    return starts


def _bursts(time: Floats, every: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rounds of GPUs that have no name: rows close together, the same number each time."""
    gaps = np.nan_to_num(np.diff(time), nan=math.inf)
    if gaps.size < 2:
        return every
    between = gaps > _INSIDE_ROUND * float(np.quantile(gaps, _BETWEEN_ROUNDS))
    starts = np.concatenate(([0], np.flatnonzero(between) + 1))
    sizes = np.diff(np.append(starts, time.size))
    usual = int(np.bincount(sizes).argmax())
    regular = float(np.mean(sizes == usual)) >= _REGULAR
    return starts.astype(np.int64) if usual > 1 and regular else every


def _merged(role: str, column: Floats, starts: NDArray[np.int64]) -> Floats:
    if role == TIME:
        return column[starts]
    if role in _MAXIMUM:
        highest: Floats = np.fmax.reduceat(column, starts)
        return highest
    total = np.add.reduceat(np.nan_to_num(column), starts)
    count = np.add.reduceat((~np.isnan(column)).astype(np.float64), starts)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _busiest(rows: Rows, gpus: int) -> str | None:
    use = rows.columns.get("gpu")
    if rows.gpu is None or use is None or gpus < 2 or np.isnan(use).all():
        return None
    labels, which = np.unique(np.asarray(rows.gpu), return_inverse=True)
    count = np.bincount(which, ~np.isnan(use), labels.size)
    means = np.bincount(which, np.nan_to_num(use), labels.size) / np.maximum(count, 1)
    best = int(means.argmax())
    return f"{labels[best]} with {means[best]:.0f} %"


def reading(
    name: str,
    framework: str,
    path: str,
    text: str,
    rows: Rows,
    unread: Sequence[tuple[int, str]] = (),
    notes: Sequence[str] = (),
) -> Reading:
    """The Reading of a file that holds nothing but hardware samples."""
    found = rounds(rows)
    said = list(notes)
    if found.gpus > 1:
        busiest = f"; busiest: {found.busiest}" if found.busiest else ""
        said.append(f"{found.gpus} GPUs: their mean, of memory and temperature the most{busiest}")
    return Reading(
        path=path,
        format=name,
        framework=framework,
        hardware=found.records if len(found.records) and found.records.columns else None,
        lines=line_count(text),
        unread=len(unread),
        unread_samples=tuple(
            UnreadLine(path=path, line=line, text=what[:_UNREAD_LENGTH])
            for line, what in unread[:_SAMPLES_OF_UNREAD]
        ),
        notes=tuple(said),
    )
