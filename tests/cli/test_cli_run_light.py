"""`perfdoctor run` of steps so short that most of them are observed as a whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), 1e-3)
data = TensorDataset(torch.randn(1800, 8))
for epoch in range(2):
    for i, (x,) in enumerate(DataLoader(data, batch_size=2, shuffle=True)):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if i % 300 == 0:
            with torch.no_grad():
                held = model(torch.ones(4, 8)).sum()
            torch.save(model.state_dict(), "last.pt")
            print(epoch, i, loss.item().hex(), held.item().hex())
"""


def _told(folder: Path, *options: str) -> str:
    (folder / "train.py").write_text(SCRIPT)
    given = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, *options, "train.py"]
    ended = subprocess.run(
        command, cwd=folder, env=given, check=True, capture_output=True, text=True, timeout=300
    )
    return ended.stdout


def test_short_steps_are_counted_and_divided_and_the_script_cannot_tell(tmp_path: Path) -> None:
    ours = "-m", "perfdoctor", "run", "--quiet", "--no-plots", "--json", "out.json"
    assert _told(tmp_path, *ours) == _told(tmp_path)
    report = json.loads((tmp_path / "out.json").read_text())
    assert any("which are short, only the whole" in note for note in report["notes"])
    assert report["steps"]["count"] + report["steps"]["warmup_discarded"] == 1800
    parts = {part["name"]: part["share"] for part in report["wall"]["parts"]}
    assert {"data_loading", "forward", "loss", "backward", "optimizer", "checkpoint"} <= set(parts)
    assert abs(sum(parts.values()) - 1) < 1e-6
    assert min(parts["forward"], parts["backward"]) > 0
