"""Parts of a step without a unit: what passes between the rows tells seconds from milliseconds."""

from __future__ import annotations

import numpy as np

from perfdoctor.readers.records import TRAIN, Records

_PARTS = (
    "data_loading_s", "h2d_copy_s", "forward_s", "backward_s", "optimizer_s", "communication_s",
    "metrics_s", "logging_s",
)  # fmt: skip
#: So many rows at least that follow each other, and parts of so many kinds.
_FEWEST, _FEWEST_PARTS = 10, 2
#: Milliseconds taken for seconds add up to a thousand times what passed, or to a good part of it.
_LEAST, _MOST = 400.0, 1100.0


def with_parts_in_seconds(records: Records) -> Records:
    """Where the parts of each step add up to about a thousand times the time that passed since the
    step before, they are in milliseconds."""
    parts = [role for role in _PARTS if role in records]
    if len(parts) < _FEWEST_PARTS or "time" not in records or "step" not in records:
        return records
    time, step = records.column("time"), records.column("step")
    rows = np.flatnonzero(np.isfinite(time + step) & ~(records.column("phase") > TRAIN))
    follows = (np.diff(step[rows]) == 1) & (np.diff(time[rows]) > 0)
    told = np.sum([np.nan_to_num(records.column(role)[rows]) for role in parts], axis=0)
    if follows.sum() < _FEWEST:
        return records
    many = float(np.median(told[1:][follows] / np.diff(time[rows])[follows]))
    if not _LEAST < many < _MOST:
        return records
    columns = dict(records.columns)
    for role in parts:
        columns[role] = columns[role] * 1e-3
    return Records(records.line, columns)
