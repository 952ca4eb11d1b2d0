"""What a script prints under `perfdoctor run`: the same as ever, and its report makes use of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import io
import os
import sys
import torch
from torch.utils.data import DataLoader, TensorDataset

given = sys.argv[1]
torch.manual_seed(0)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), 1e-3)
loader = DataLoader(TensorDataset(torch.rand(80, 8)), batch_size=8)
first, second = sys.stdout, sys.stderr
print(first is sys.__stdout__, first.isatty(), first.fileno(), type(first) is io.TextIOWrapper,
      first.write.__self__ is first, first.encoding, first.line_buffering)
if given == "replaces":
    sys.stdout = open("own.log", "w")
if given == "much":
    for i in range(100_000):
        print("a line of", i, "with acc", 0.5, "x" * 80)
if given == "forks" and os.fork() == 0:
    print("child", "write" in vars(sys.stdout), flush=True)
    os._exit(0)
if given == "forks":
    os.wait()
for epoch in range(12):
    for (x,) in loader:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        print(f"\\r{epoch} {loss.item().hex()}", end="", file=second)
    print(file=second)
    print("epoch", epoch, "val_acc", 0.8 - abs(epoch - 3) / 100)
if given == "raises":
    sys.stdout.close()
    print("no more")
print("the end", first.write is second.write, end="")
"""


def seen(folder: Path, given: str, *command: str) -> tuple[int, bytes, bytes]:
    (folder / "train.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    words = [sys.executable, *command, "train.py", given]
    done = subprocess.run(
        words, cwd=folder, env=environment, check=False, capture_output=True, timeout=300
    )
    return done.returncode, done.stdout, done.stderr


def report_on(folder: Path, given: str, *options: str) -> dict[str, Any]:
    """The report on the script, whose output is the same to the byte."""
    command = ("-m", "perfdoctor", "run", "--quiet", "--no-plots", *options)
    assert seen(folder, given, *command) == seen(folder, given)
    (path,) = folder.glob("performance_report_*.json")
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def economics(report: dict[str, Any]) -> Any:
    return report["epochs"].get("economics")


def test_accuracies_that_peak_early_say_that_training_went_on_too_long(tmp_path: Path) -> None:
    report = report_on(tmp_path, "plain")
    advice = {one["rule"]: one for one in report["recommendations"]}
    quoted = advice["PD504"]["evidence"][-1]
    assert quoted["value"] == 0.8
    assert quoted["where"] == 'the printed line "epoch 3 val_acc 0.8"'
    assert economics(report)["best_epoch"] == 3
    assert report["epochs"]["count"] == 12


@pytest.mark.slow
@pytest.mark.parametrize("given", ["much", "forks", "raises"])
def test_the_output_is_the_same_whatever_the_script_does(tmp_path: Path, given: str) -> None:
    assert economics(report_on(tmp_path, given))["best"] == 0.8


@pytest.mark.slow
def test_what_goes_to_a_stream_of_the_script_s_own_is_not_noted(tmp_path: Path) -> None:
    assert economics(report_on(tmp_path, "replaces")) is None


@pytest.mark.slow
def test_what_is_printed_after_the_observation_is_not_noted(tmp_path: Path) -> None:
    report = report_on(tmp_path, "plain", "--steps", "60")
    assert report["epochs"]["count"] == 6
    assert len(report["series"]["metric:val_acc"]) == 6
    assert report["configuration"]["observed_in_part"] is True
    assert "PD504" not in [one["rule"] for one in report["recommendations"]]
