"""Where reports are written."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from builders import make_report

from perfdoctor import schema
from perfdoctor.errors import PerfdoctorError
from perfdoctor.output import Output

_BEGAN = datetime(2024, 1, 2, 3, 4, 5)


def _output(folder: Path) -> Output:
    return Output(folder, None, quiet=True, plots=False, began=_BEGAN).anchored()


def test_runs_that_begin_in_the_same_second_do_not_replace_each_others_report(
    tmp_path: Path,
) -> None:
    first, second = _output(tmp_path), _output(tmp_path)
    first.write_partial(make_report())
    second.write_beside_script(make_report())
    first.write_beside_script(make_report())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "performance_report_20240102_030405.json",
        "performance_report_20240102_030405_2.json",
    ]
    assert first.report_path.name == "performance_report_20240102_030405.json"
    assert second.report_path.name == "performance_report_20240102_030405_2.json"


def test_on_a_full_disk_no_empty_report_is_left_behind(tmp_path: Path, monkeypatch: Any) -> None:
    def full(path: Path, data: bytes) -> None:
        raise PerfdoctorError("no space left", slug="output-unwritable")

    output = _output(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "write_atomically", full)
        with pytest.raises(PerfdoctorError):
            output.write_partial(make_report())
    assert list(tmp_path.iterdir()) == []
    output.write_partial(make_report())
    assert [path.name for path in tmp_path.iterdir()] == ["performance_report_20240102_030405.json"]


def test_a_name_that_is_taken_by_something_else_is_left_alone(tmp_path: Path) -> None:
    output = _output(tmp_path)
    (tmp_path / output.report_path.name).mkdir()
    output.write_partial(make_report())
    assert output.report_path.name.endswith("_2.json")
    assert output.report_path.is_file()
