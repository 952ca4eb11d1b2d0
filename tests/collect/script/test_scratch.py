"""Folders that killed runs have left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from perfdoctor.collect.script.scratch import _namespace, make_scratch


def _ended() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_next_run_removes_what_a_killed_one_has_left(tmp_path: Path) -> None:
    left_over = tmp_path / f"perfdoctor-run-{_ended()}-{_namespace()}-abc"
    of_one_that_runs = tmp_path / f"perfdoctor-run-{os.getppid()}-{_namespace()}-abc"
    of_a_container = tmp_path / f"perfdoctor-run-{_ended()}-{_namespace() + 1}-abc"
    of_someone_else = tmp_path / "perfdoctor-run-notes"
    for folder in (left_over, of_one_that_runs, of_a_container, of_someone_else):
        folder.mkdir()
        (folder / "file").touch()
    made = make_scratch(tmp_path)
    assert not left_over.exists()
    assert {made, of_one_that_runs, of_a_container, of_someone_else} == set(tmp_path.iterdir())
