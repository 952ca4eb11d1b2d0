from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_files import load, train_one_step

from perfdoctor.errors import PerfdoctorError


def frame(rows: int = 40) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "size": np.arange(rows) * 100.0,
            "label": np.arange(rows) % 3,
            "colour": ["red", "green"] * (rows // 2),
        }
    )


def test_a_named_column_is_the_target_and_text_becomes_a_number(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "d.csv", index=False)
    workload = load(tmp_path)
    assert [int(workload.dataset[i][1]) for i in range(4)] == [0, 1, 2, 0]
    assert workload.dataset.x.shape == (40, 2)
    assert workload.dataset.x.mean(0).abs().max() < 1e-5
    assert "40 rows in 1 table: 2 feature columns, target 'label'" in workload.notes[0]
    assert train_one_step(workload) > 0


def test_without_a_named_column_the_last_is_the_target(tmp_path: Path) -> None:
    frame()[["label", "size"]].rename(columns={"label": "kind"}).to_csv(tmp_path / "d.csv")
    workload = load(tmp_path)
    assert "target 'size'" in workload.notes[0]
    assert workload.dataset[0][1].shape == (1,)
    assert train_one_step(workload) < 10


def test_a_text_target_is_a_class(tmp_path: Path) -> None:
    frame()[["size", "colour"]].to_csv(tmp_path / "d.csv", index=False)
    assert [int(load(tmp_path).dataset[i][1]) for i in range(3)] == [0, 1, 0]


@pytest.mark.parametrize(("name", "separator"), [("d.tsv", "\t"), ("d.csv", ";")])
def test_other_separators_are_recognised(tmp_path: Path, name: str, separator: str) -> None:
    frame().to_csv(tmp_path / name, index=False, sep=separator)
    assert load(tmp_path).dataset.x.shape == (40, 2)


def test_a_table_of_bare_numbers_has_no_header(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("1,2,0\n3,4,1\n5,6,0\n")
    workload = load(tmp_path)
    assert len(workload.dataset) == 3
    assert [int(y) for y in workload.dataset.y] == [0, 1, 0]


def test_gaps_infinities_dates_and_truth_values_become_finite_numbers(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "gap": [1.0, np.nan, 3.0, np.inf],
            "empty": [np.nan] * 4,
            "day": pd.to_datetime(["2024-01-01", None, "2024-01-03", "2024-01-09"]),
            "flag": [True, False, True, True],
            "y": pd.array([1, None, 2, 1], dtype="Int64"),
        }
    )
    table.to_parquet(tmp_path / "d.parquet")
    workload = load(tmp_path)
    assert workload.dataset.x.shape == (4, 4)
    assert workload.dataset.x.isfinite().all()
    train_one_step(workload)


def test_parquet_and_csv_files_of_several_folders_are_joined(tmp_path: Path) -> None:
    for run in range(2):
        (tmp_path / f"part_{run}").mkdir()
    frame().to_parquet(tmp_path / "part_0" / "d.parquet")
    frame().to_csv(tmp_path / "part_1" / "d.csv", index=False)
    workload = load(tmp_path / "part_*")
    assert len(workload.dataset) == 80
    assert "80 rows in 2 tables" in workload.notes[0]


def test_unreadable_tables_and_those_with_other_columns_are_skipped(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "b.csv").write_bytes(b"")
    frame().rename(columns={"size": "weight"}).to_csv(tmp_path / "c.csv", index=False)
    (tmp_path / "d.parquet").write_bytes(b"junk")
    dataset = load(tmp_path).dataset
    assert len(dataset) == 40
    skipped = {Path(path).name: reason for path, reason in dataset.skipped}
    assert set(skipped) == {"b.csv", "c.csv", "d.parquet"}
    assert skipped["c.csv"] == (
        "has columns colour, label, weight; the first table has colour, label, size"
    )


def test_strict_refuses_an_unreadable_table(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "b.csv").write_bytes(b"")
    with pytest.raises(PerfdoctorError, match=r"cannot read .*b\.csv"):
        load(tmp_path, strict=True)


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n")
    with pytest.raises(PerfdoctorError, match=r"a\.csv: has no rows"):
        load(tmp_path)


def test_parquet_without_the_extra_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame().to_parquet(tmp_path / "d.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(PerfdoctorError, match=r"pip install 'perfdoctor\[data\]'"):
        load(tmp_path)
