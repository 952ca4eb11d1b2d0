"""Columns of a log's records, as one value for each row of steps."""

from __future__ import annotations

import numpy as np

from perfdoctor.readers.records import Records
from perfdoctor.readers.steps import Steps
from perfdoctor.record import Floats

#: A column tells something with so many values, or with all it has.
_FEWEST = 3


def column(records: Records, steps: Steps, role: str) -> Floats | None:
    """A column at the rows of steps, None where it is empty there; not to be written to."""
    if role not in records:
        return None
    values = records.at(role, steps.rows)
    if not (np.isfinite(values[:1]).any() or np.isfinite(values).any()):
        return None
    if role in ("unclear_s", "elapsed_s") and _is_index(records.columns[role]):
        return None
    return values


def _is_index(values: Floats) -> bool:
    """0, 1, 2, …: an index, whatever it is called."""
    values = values[np.isfinite(values)]
    if values.size < 5 or float(values.min()) >= 2:
        return False
    return bool((np.diff(values) == 1.0).all())


def enough(values: Floats | None) -> bool:
    """Whether a column has values in enough of its rows to tell anything."""
    if values is None:
        return False
    count = int(np.isfinite(values).sum())
    return count >= min(_FEWEST, values.size) and count >= 0.3 * values.size


def grain_of(values: Floats) -> float:
    """How finely values are printed: 1, 0.1 or 0.01 s; 0 where finer."""
    known = values[np.isfinite(values)][:1000]
    for grain in (1.0, 0.1, 0.01):
        if np.allclose(known / grain, np.round(known / grain), rtol=0, atol=1e-4):
            return grain
    return 0.0


def differences(values: Floats, steps: Steps) -> Floats:
    """To the row before; NaN across restarts, and where a sum began anew."""
    found = np.diff(values, prepend=np.nan)
    found[~steps.goes_on] = np.nan
    found[found < 0] = np.nan
    return found


def over_rows(values: Floats, rows: int) -> Floats:
    """Sums of so many values up to each; NaN counts as nothing, and where all are NaN."""
    sums = np.cumsum(np.nan_to_num(values))
    found: Floats = sums - np.concatenate([np.zeros(rows), sums[:-rows]])
    found[~np.isfinite(values)] = np.nan
    return found
