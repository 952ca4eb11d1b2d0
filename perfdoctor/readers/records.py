"""What a reader gives: the lines of a file as columns, and what the file says once.

Columns are named by role, with the unit in the name. NaN is "this line does not say".

    epoch epoch_total step step_total   as printed; a fraction where the log counts so
    env_steps                           of a simulated environment: no steps of the training
    rank phase                          phase: TRAIN, VALIDATION or OTHER
    time                                of the line: seconds since 1970
    step_s data_loading_s STAGE_s       one training step, or the part of it that a stage takes
    step_mean_s data_loading_mean_s     the same as running averages since the epoch began
    elapsed_s                           since the run (or a part of it) began
    epoch_s validation_s                a whole epoch, the validation in it
    trained_s maintenance_s             since the line before: training, and what is between
    unclear_s                           a "time" that only the data can tell the meaning of
    samples_per_s tokens_per_s steps_per_s, and with _mean   rates
    batch_size tokens_per_step          samples, tokens in a step
    memory_bytes gpu gpu_memory cpu gpu_power_w swap_bytes ram   hardware, percentages as 0–100
    metric:NAME                         anything else with a name, as "metric:val_loss"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfdoctor.record import Floats, Hotspot, UnreadLine
from perfdoctor.report import Report

TRAIN, VALIDATION, OTHER_PHASE = 0.0, 1.0, 2.0
METRIC = "metric:"
#: No training takes a century.
LONGEST_S = 3.2e9


@dataclass(frozen=True)
class Records:
    """Rows in the order of the file; row i came from line `line[i]` (1-based; a row's number where
    a file has no lines)."""

    line: NDArray[np.int64]
    columns: Mapping[str, Floats]

    def __len__(self) -> int:
        return int(self.line.size)

    def __contains__(self, role: str) -> bool:
        return role in self.columns

    def column(self, role: str) -> Floats:
        """The column, all NaN where no line says it."""
        found = self.columns.get(role)
        return np.full(len(self), np.nan) if found is None else found

    def at(self, role: str, rows: NDArray[np.int64]) -> Floats:
        """The column at rows that are in order, not to be written to: where these are all, or all
        have one value, it is no copy."""
        found = self.columns.get(role)
        if found is None:
            return np.broadcast_to(np.float64(np.nan), rows.shape)
        if is_constant(found):
            return np.broadcast_to(found[0], rows.shape)
        return found if rows.size == found.size else found[rows]

    @cached_property
    def whole_epochs(self) -> Floats:
        """The epoch of every row, carried on from the last row that names one; NaN before it.

        Fractions of epochs, as some trainers count, are cut off; 1.0 among them ends the first.
        """
        told = self.column("epoch")
        filled = forward_fill(told) if "epoch" in self else told
        whole: Floats = np.floor(filled)
        if (told > np.floor(told)).sum() > 0.5 * np.isfinite(told).sum():
            whole = np.maximum(np.ceil(filled) - 1, np.fmin(whole, 0.0))
        whole.flags.writeable = False
        return whole

    def take(self, rows: NDArray[Any]) -> Records:
        """Some of the rows: a mask or indices."""
        return Records(self.line[rows], {role: c[rows] for role, c in self.columns.items()})


def is_constant(values: Floats) -> bool:
    """Whether it was kept as a single value."""
    return values.size > 1 and values.strides[0] == 0


def forward_fill(values: Floats) -> Floats:
    """Every NaN takes the last value before it."""
    known = np.isfinite(values)
    if known.all():
        return values
    place = np.where(known, np.arange(values.size), -1)
    np.maximum.accumulate(place, out=place)
    filled: Floats = np.where(place >= 0, values[np.maximum(place, 0)], np.nan)
    return filled


def empty() -> Records:
    """No rows."""
    return Records(np.empty(0, np.int64), {})


def from_rows(rows: Sequence[Mapping[str, float]], lines: Sequence[int] | None = None) -> Records:
    """Records from one mapping a row."""
    roles = list(dict.fromkeys(role for row in rows for role in row))
    columns = {
        role: np.array([row.get(role, np.nan) for row in rows], dtype=np.float64) for role in roles
    }
    numbers = range(1, len(rows) + 1) if lines is None else lines
    return Records(np.array(numbers, dtype=np.int64), columns)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One file, read.

    Attributes:
        path: as the user gave it. format: its name. framework: what wrote it.
        records: of the training. hardware: samples of hardware use, with `time` where known.
        configuration: settings that the file itself tells (arguments it printed).
        settings: lines that print settings, and what these say; anywhere in the file.
        fences: lines that begin or end a block of Markdown.
        facts: what is said once for the whole run: wall_s, epochs, samples_per_s, steps_per_s,
            steps, peak_bytes, and STAGE_s totals.
        device_rates: rates are of one device of several.
        single_steps: each record is one step, of which only some are printed; no window's mean.
        lines: in the file. unread: lines that look like records and gave none.
        hotspots: where a profile names functions. report: a perfdoctor report read back.
        notes: how it was read, for the user.
    """

    path: str
    format: str
    framework: str | None = None
    records: Records = field(default_factory=empty)
    hardware: Records | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)
    settings: tuple[tuple[int, Mapping[str, Any]], ...] = ()
    fences: tuple[int, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)
    device_rates: bool = False
    single_steps: bool = False
    reason: str = ""
    lines: int = 0
    unread: int = 0
    unread_samples: tuple[UnreadLine, ...] = ()
    hotspots: tuple[Hotspot, ...] = ()
    report: Report | None = None
    notes: tuple[str, ...] = ()
