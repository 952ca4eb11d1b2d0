"""Where reports are written."""

from __future__ import annotations

import errno
import json
import os
import signal
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from builders import make_report

from perfdoctor import interrupts
from perfdoctor.errors import PerfdoctorError
from perfdoctor.output import Output

_BEGAN = datetime(2024, 1, 2, 3, 4, 5)


def _output(folder: Path) -> Output:
    return Output(folder, None, quiet=True, plots=False, began=_BEGAN).anchored()


def _first(monkeypatch: Any, name: str, look: Any) -> None:
    original = getattr(Path, name)

    def looked(self: Path, *args: Any, **kwargs: Any) -> Any:
        look(self)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Path, name, looked)


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


def test_on_a_full_disk_nothing_is_left_behind(tmp_path: Path, monkeypatch: Any) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    output = _output(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)
        with pytest.raises(PerfdoctorError, match="No space left"):
            output.write_partial(make_report())
    assert list(tmp_path.iterdir()) == []
    output.write_partial(make_report())
    assert [path.name for path in tmp_path.iterdir()] == ["performance_report_20240102_030405.json"]


def test_who_waits_for_the_first_report_finds_it_whole(tmp_path: Path, monkeypatch: Any) -> None:
    seen: list[bytes] = []

    def look(self: Path, *args: Any) -> None:
        seen.extend(path.read_bytes() for path in tmp_path.glob("performance_report_*.json"))

    for name in ("chmod", "hardlink_to", "replace", "unlink"):
        _first(monkeypatch, name, look)
    _output(tmp_path).write_partial(make_report())
    assert seen
    assert all(map(json.loads, seen))


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_where_files_cannot_be_linked_reports_are_written_all_the_same(
    tmp_path: Path, monkeypatch: Any, number: int
) -> None:
    def refused(self: Path, _: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "hardlink_to", refused)
    for _ in range(2):
        assert _output(tmp_path).write_partial(make_report())
    reports = sorted(tmp_path.iterdir())
    assert len(reports) == 2
    assert all(json.loads(path.read_bytes()) for path in reports)


def test_a_name_that_is_taken_by_something_else_is_left_alone(tmp_path: Path) -> None:
    output = _output(tmp_path)
    (tmp_path / output.report_path.name).mkdir()
    output.write_partial(make_report())
    assert output.report_path.name.endswith("_2.json")
    assert output.report_path.is_file()


@pytest.mark.parametrize("before", [0, 1])
def test_a_second_ctrl_c_leaves_the_report_and_no_pictures(tmp_path: Path, before: int) -> None:
    drawn: list[str] = []

    def draw(report: Any) -> Any:
        drawn.append("begun")
        signal.raise_signal(signal.SIGINT)
        yield "picture.png", b""

    output = replace(_output(tmp_path), plots=True, draw=draw)
    with interrupts.heard():
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)  # it has ended the trials
        with interrupts.kept():
            for _ in range(before):
                signal.raise_signal(signal.SIGINT)
            assert output.write(make_report()) is False
    assert drawn == ([] if before else ["begun"])
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
