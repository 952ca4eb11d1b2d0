"""`perfdoctor run` of a dataset that reads the same for every sample, and of one that does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import sys
import numpy as np, torch
from torch.utils.data import DataLoader, Dataset

class Rows(Dataset):
    def __init__(self, path, each):
        self.path, self.each = path, each
    def __len__(self):
        return 160
    def __getitem__(self, i):
        if self.each:
            return self.own(i)
        with np.load(self.path) as archive:
            return archive["x"][i]
    def own(self, i):
        with np.load(f"{self.path}.{i % 4}.npz") as archive:
            return archive["x"][i]

if __name__ == "__main__":
    x = np.arange(160 * 2000, dtype=np.float32).reshape(160, 2000)
    for name in ("x", "x.0.npz", "x.1.npz", "x.2.npz", "x.3.npz"):
        with open(name, "wb") as file:
            np.savez_compressed(file, x=x)
    rows = Rows("x", sys.argv[1] == "each")
    model = torch.nn.Linear(2000, 1)
    optimizer = torch.optim.SGD(model.parameters(), 1e-12)
    for _ in range(2):
        for batch in DataLoader(rows, 4, num_workers=int(sys.argv[2])):
            optimizer.zero_grad()
            model(batch).mean().backward()
            optimizer.step()
"""


def hot_reading(folder: Path, *words: str) -> dict[str, Any]:
    (folder / "train.py").write_text(SCRIPT)
    given = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    options = ["--quiet", "--no-plots", "train.py", *words]
    command = [sys.executable, "-m", "perfdoctor", "run", *options]
    subprocess.run(command, cwd=folder, env=given, check=True, capture_output=True, timeout=300)
    (path,) = folder.glob("performance_report_*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def reading(report: dict[str, Any], process: str) -> dict[str, Any]:
    spots = [spot for spot in report["hotspots"] if spot["process"] == process]
    return next(spot for spot in spots if spot["library"] == "NpzFile.__getitem__")


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "process"), [("0", "main"), ("1", "worker")])
def test_reading_the_same_anew_is_told_from_the_source(
    tmp_path: Path, workers: str, process: str
) -> None:
    report = hot_reading(tmp_path, "one", workers)
    assert reading(report, process)["same_each_time"] is True
    advice = next(one for one in report["recommendations"] if one["rule"] == "PD107")
    assert advice["change"] == {"read_once": True}


@pytest.mark.slow
def test_a_file_for_each_sample_is_no_reproach(tmp_path: Path) -> None:
    report = hot_reading(tmp_path, "each", "0")
    assert reading(report, "main")["same_each_time"] is False
    changes = [one["change"] for one in report["recommendations"]]
    assert {"read_once": True} not in changes
