"""A scratch folder is gone with its processes, however they end."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from perfdoctor.collect.sandbox.scratch import hold, remove_leftovers, scratch_folder

USING = """
import time
from perfdoctor.collect.sandbox import scratch_folder
with scratch_folder() as folder:
    (folder / "layer").mkdir()
    print(folder, flush=True)
    time.sleep(100)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Where temporary folders are made, also by other processes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def killed(by: int) -> Path:
    """The folder of a process that was."""
    process = subprocess.Popen([sys.executable, "-c", USING], stdout=-1, stderr=-1, text=True)
    folder = Path(process.stdout.readline().strip())
    assert folder.is_dir()
    remove_leftovers()
    assert folder.is_dir()  # it is used
    process.send_signal(by)
    process.communicate()
    return folder


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_process_that_is_asked_to_end_leaves_nothing_behind(by):
    assert not killed(by).exists()


def test_what_a_killed_process_left_is_removed_at_the_next_start():
    left = killed(signal.SIGKILL)
    assert (left / "layer").is_dir()
    with scratch_folder() as folder:
        assert folder.is_dir() and not left.exists()
    assert not folder.exists()


def test_it_stays_as_long_as_a_process_of_a_script_uses_it(place):
    left = killed(signal.SIGKILL)
    hold(left)  # until this process ends
    remove_leftovers()
    assert left.is_dir()


def test_other_folders_stay(place):
    (place / "perfdoctor-check-x").mkdir()
    (place / "link").mkdir()
    (place / "perfdoctor-scratch-x").symlink_to(place / "link")
    remove_leftovers()
    assert (place / "link").is_dir() and (place / "perfdoctor-check-x").is_dir()
