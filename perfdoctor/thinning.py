"""Series for a report: columns of one family thinned alike, so that they stay side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfdoctor.pace import record_count
from perfdoctor.record import EpochSeries, Floats, Run
from perfdoctor.stages import OTHER

#: Points kept of each series in the report.
POINTS = 2_000
#: The slowest records are kept besides, since thinning may miss them.
_SLOWEST = 20
#: Columns whose digits all count; of the others, six do.
_EXACT = frozenset({"step", "line", "file", "slow_step", "slow_line", "epoch", "epoch_line"})
_GOLDEN = 0.6180339887498949
#: Powers of ten up to this one are exact.
_EXACT_POWER = 22

Column = tuple[float | None, ...]


def report_series(run: Run, kept: slice, epoch_s: Floats) -> dict[str, Column]:
    """All columns of the report: of records, of the slowest records, of epochs, of the loader."""
    families = [_records(run, kept), _epochs(run.epochs, epoch_s), _loader(run)]
    found: dict[str, Column] = {}
    for family in families:
        found |= thinned(family)
    return found | _slowest(families[0])


def thinned(columns: Mapping[str, NDArray[Any]]) -> dict[str, Column]:
    """The same elements of each column, at most `POINTS`; all columns must have one length."""
    count = max((values.size for values in columns.values()), default=0)
    chosen = _chosen(count)
    return {name: _plain(name, values[chosen]) for name, values in columns.items()}


def _chosen(count: int) -> NDArray[np.int64]:
    """One element of each of up to `POINTS` equal stretches, all where there are no more.

    Not always the first: what comes every so many records would be seen always or never. The
    multiples of the golden ratio are spread as evenly as can be, and the same every time.
    """
    if count <= POINTS:
        return np.arange(count)
    stride = -(-count // POINTS)
    starts = np.arange(0, count - stride + 1, stride)
    offsets = np.floor(np.arange(starts.size) * _GOLDEN % 1.0 * stride).astype(np.int64)
    chosen: NDArray[np.int64] = starts + offsets
    chosen[-1] = count - 1  # how far the run came
    return chosen


def _plain(name: str, values: NDArray[Any]) -> Column:
    if name in _EXACT:
        return _finite(values.astype(np.float64))
    return _finite(_rounded(values.astype(np.float64), 10 if name.endswith("at_s") else 6))


def _finite(values: Floats) -> Column:
    if np.isfinite(values).all():
        return tuple(values.tolist())
    return tuple(v if math.isfinite(v) else None for v in values.tolist())


def _rounded(values: Floats, digits: int) -> Floats:
    """So many digits of each; whole numbers over powers of ten, which are as short as `%g`'s."""
    with np.errstate(divide="ignore", invalid="ignore"):
        places = digits - 1 - np.floor(np.log10(np.abs(values)))
    places = np.where(np.isfinite(places), np.clip(places, -_EXACT_POWER, _EXACT_POWER), 0.0)
    up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
    rounded: Floats = np.rint(values * up / down) / up * down
    return rounded


def _records(run: Run, kept: slice) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {"step_s": run.step_s, "samples": run.samples}
    columns |= {f"{s.name}_s": s.exposed_s for s in run.stages if s.name != OTHER}
    columns |= run.rates
    if run.track is not None:
        columns |= {"line": run.track.line, "file": run.track.file}
        told = (("step", run.track.step), ("at_s", run.track.at_s))
        columns |= {name: values for name, values in told if values is not None}
    count = record_count(run)
    return {name: values[kept] for name, values in columns.items() if values.size == count}


def _slowest(records: Mapping[str, NDArray[Any]]) -> dict[str, Column]:
    """The slowest records that thinning may have left out, in their order."""
    step_s = records.get("step_s")
    if step_s is None or "line" not in records or step_s.size <= POINTS:
        return {}
    slowness = np.nan_to_num(step_s, nan=-np.inf)
    chosen = np.sort(np.argpartition(slowness, -_SLOWEST)[-_SLOWEST:])
    names = [name for name in ("step_s", "step", "at_s", "line", "file") if name in records]
    short = {name: f"slow_{name.removeprefix('step_')}" for name in names}
    return {short[name]: _plain(short[name], records[name][chosen]) for name in names}


def _epochs(epochs: EpochSeries | None, epoch_s: Floats) -> dict[str, Floats]:
    if epochs is None:
        return {}
    line = None if epochs.line is None else epochs.line.astype(np.float64)
    columns = {
        "epoch": epochs.number,
        "epoch_s": epoch_s,
        "epoch_train_s": epochs.train_s,
        "validation_s": epochs.validation_s,
        "epoch_at_s": epochs.at_s,
        "epoch_line": line,
    }
    found = {name: values for name, values in columns.items() if values is not None}
    found |= {f"metric:{name}": values for name, values in epochs.metrics.items()}
    return {n: values for n, values in found.items() if values.size == epochs.number.size}


def _loader(run: Run) -> dict[str, Floats]:
    if run.loader is None:
        return {}
    return {"loader_batch_s": run.loader.batch_s, "loader_batch_cpu_s": run.loader.cpu_s}
