"""The callbacks in the frameworks' own loops; those take long to import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LIGHTNING = """
    import torch, logging, warnings
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    import lightning as L
    from torch.utils.data import DataLoader, TensorDataset
    from perfdoctor.callbacks.lightning import TrainingMonitorCallback

    class Net(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)
        def training_step(self, batch, i):
            if FAILS and i == 10:
                raise ValueError("as planned")
            return (self.layer(batch[0]) ** 2).mean()
        def validation_step(self, batch, i):
            self.layer(batch[0])
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    loader = DataLoader(TensorDataset(torch.rand(64, 4)), batch_size=4)
    watch = TrainingMonitorCallback(quiet=True)
    trainer = L.Trainer(max_epochs=2, callbacks=[watch], accelerator="cpu", logger=False,
                        enable_progress_bar=False, enable_checkpointing=False)
    try:
        trainer.fit(Net(), loader, loader)
    except ValueError as error:
        print(error)
"""
TRANSFORMERS = """
    import os, torch, warnings
    warnings.simplefilter("ignore")
    from transformers import Trainer, TrainingArguments
    from perfdoctor.callbacks.transformers import TrainingMonitorCallback

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)
        def forward(self, x):
            return {"loss": (self.layer(x) ** 2).mean()}

    data = [{"x": torch.rand(4)} for _ in range(64)]
    args = TrainingArguments("made", per_device_train_batch_size=4, num_train_epochs=2,
                             report_to=[], save_strategy="no", disable_tqdm=True, use_cpu=True,
                             remove_unused_columns=False)
    watch = TrainingMonitorCallback(quiet=True)
    Trainer(Net(), args, train_dataset=data, callbacks=[watch]).train()
"""


def trained(folder: Path, text: str) -> tuple[list[str], dict]:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("performance_report_*.json")
    return done.stdout.splitlines(), json.loads(path.read_text())


def made(report: dict) -> int:
    return report["steps"]["time"]["count"] + report["steps"]["warmup_discarded"]


def test_lightning_s_fit_is_observed(tmp_path):
    pytest.importorskip("lightning")
    _, report = trained(tmp_path, f"FAILS = False\n{textwrap.dedent(LIGHTNING)}")
    assert made(report) == 32
    assert report["name"] == "Net"
    assert {"forward", "backward", "optimizer", "data_loading"} <= set(report["stages"])
    assert "validation" in {part["name"] for part in report["wall"]["parts"]}


def test_lightning_s_fit_may_fail(tmp_path):
    pytest.importorskip("lightning")
    printed, report = trained(tmp_path, f"FAILS = True\n{textwrap.dedent(LIGHTNING)}")
    assert printed[-1] == "as planned"
    assert made(report) == 10
    assert report["ending"]["how"] == "exception"


def test_transformers_trainer_is_observed(tmp_path):
    pytest.importorskip("transformers")
    _, report = trained(tmp_path, TRANSFORMERS)
    assert made(report) == 32
    assert {"forward", "backward", "optimizer", "data_loading"} <= set(report["stages"])
    assert report["configuration"]["batch_size"] == 4
