"""Tables: numeric and categorical columns, and a column to predict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from perfdoctor.workloads.arrayfiles import Y_NAMES
from perfdoctor.workloads.kinds import Found, Recognised, counted, missing_extra, read_each
from perfdoctor.workloads.reference import reference_for
from perfdoctor.workloads.targets import Targets, targets_of

if TYPE_CHECKING:
    import pandas as pd

#: More rows of one file are not read: memory, and the speed of a step does not depend on them.
MAX_ROWS = 1_000_000
_LONGEST_HEADER = 2**20
_TARGET_NAMES = {*Y_NAMES, "class"}


class TableRows(Dataset[tuple[Tensor, Tensor]]):
    """Rows held in memory, one a sample.

    `skipped` holds (path, reason) of the files that could not be used.
    """

    def __init__(self, x: Tensor, targets: Targets, skipped: list[tuple[str, str]]) -> None:
        self.x, self.y, self.skipped = x, targets.values, skipped

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


def recognise(found: Found) -> Recognised:
    """A dataset of all rows and an MLP.

    Raises:
        PerfdoctorError: no file can be read; with `strict`, one cannot; pyarrow is missing.
    """
    columns: list[list[str]] = []

    def read(path: Path) -> pd.DataFrame:
        frame = _read_table(path)
        _check_columns(frame, columns)
        return frame

    done, skipped = read_each(found.files, read, strict=found.strict)
    frame = _joined([part for _, part in done])
    target = _target_column(list(frame.columns))
    features = [c for c in frame.columns if c != target] or [target]
    x = np.stack([_numbers(frame[c]) for c in features], axis=1)
    targets = _targets(frame[target])
    what = f"{counted(len(x), 'row')} in {counted(len(done), 'table')}"
    how = f"{counted(len(features), 'feature column')}, target {target!r}"
    return Recognised(
        dataset=TableRows(torch.from_numpy(x), targets, skipped),
        samples=len(x),
        reference=reference_for((len(features),), targets.task),
        notes=(
            f"Recognised {what}: {how} ({found.where}).",
            *_truncated_notes([part for _, part in done]),
        ),
    )


def _read_table(path: Path) -> pd.DataFrame:
    frame = _READERS[path.suffix.lower()](path)
    frame.columns = frame.columns.map(str)
    if frame.empty:
        raise ValueError("has no rows")
    return frame


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline(_LONGEST_HEADER)
    separator = max("\t;,", key=first.count)
    has_names = not all(map(_is_number, first.strip().split(separator)))
    header: Literal["infer"] | None = "infer" if has_names else None
    return pd.read_csv(path, sep=separator, header=header, nrows=MAX_ROWS)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise missing_extra("pyarrow", str(path)) from None
    frame: pd.DataFrame = pq.read_table(path).slice(0, MAX_ROWS).to_pandas()
    return frame


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_columns(frame: pd.DataFrame, expected: list[list[str]]) -> None:
    """The first table that can be read says which columns the others must have."""
    names = sorted(frame.columns)
    if not expected:
        expected.append(names)
    elif names != expected[0]:
        raise ValueError(f"has columns {_few(names)}; the first table has {_few(expected[0])}")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(parts, ignore_index=True)


def _target_column(columns: Sequence[str]) -> str:
    """The column named like a target, else the last."""
    return next((c for c in columns if c.strip().lower() in _TARGET_NAMES), columns[-1])


def _numbers(column: pd.Series) -> NDArray[np.float32]:
    """A column as float32, mean 0 and variance 1; text becomes category codes."""
    from pandas.api import types

    if types.is_datetime64_any_dtype(column.dtype):
        values = (column - column.min()).dt.total_seconds().to_numpy(np.float64)
    elif types.is_numeric_dtype(column.dtype):
        values = column.to_numpy(np.float64, na_value=np.nan)
    else:
        values = _codes(column).astype(np.float64)
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(len(values), np.float32)
    mean, spread = values[known].mean(), values[known].std() or 1.0
    scaled: NDArray[np.float32] = np.where(known, (values - mean) / spread, 0).astype(np.float32)
    return scaled


def _codes(column: pd.Series) -> NDArray[np.int64]:
    import pandas as pd

    return pd.factorize(column.astype(str))[0].astype(np.int64)


def _targets(column: pd.Series) -> Targets:
    from pandas.api import types

    values: NDArray[Any]
    if types.is_float_dtype(column.dtype) or types.is_datetime64_any_dtype(column.dtype):
        values = _numbers(column)
    elif types.is_numeric_dtype(column.dtype):
        values = column.to_numpy(np.float64, na_value=0).astype(np.int64)
    else:
        values = _codes(column)
    targets = targets_of(values)
    assert targets is not None  # one value a row is never too many
    return targets


def _truncated_notes(parts: Sequence[pd.DataFrame]) -> tuple[str, ...]:
    cut = sum(len(part) == MAX_ROWS for part in parts)
    return (f"Read only the first {MAX_ROWS} rows of {cut} of the tables.",) if cut else ()
