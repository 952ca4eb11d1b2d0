"""Whole checks of real trainings, in lock step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perfdoctor import schema
from perfdoctor.compare.differences import setting_differences

MODEL = """
import torch
from torch import nn

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 512
    def __getitem__(self, index):
        return torch.ones(16), index % 4

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    def forward(self, x):
        {extra}
        return self.layers(x)
"""
BENCH = """
import perfdoctor
from model import Data, Model

def workload():
    return perfdoctor.Workload(model=Model(), dataset=Data(), batch_size=16)
"""
SLOW = "total = sum(i * i for i in range(60_000))"
pytestmark = pytest.mark.slow


def git(folder: Path, *arguments: str) -> None:
    name = ["-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run(["git", *name, *arguments], cwd=folder, check=True)


@pytest.fixture
def project(tmp_path):
    """main, and a branch with a commit that changes nothing."""
    (tmp_path / "model.py").write_text(MODEL.format(extra="pass"))
    (tmp_path / "bench.py").write_text(BENCH)
    git(tmp_path, "init", "-qb", "main")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "base")
    git(tmp_path, "checkout", "-qb", "work")
    return tmp_path


def check(project: Path, *arguments: str):
    command = [sys.executable, "-m", "perfdoctor", "check", "--against", "main", "--workload",
               "bench.py", "--json", "-", *arguments]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("GITHUB_ACTIONS", None)
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    return done, json.loads(done.stdout) if done.stdout else None


def test_a_step_several_times_as_long_is_a_regression_with_its_hot_line(project):
    (project / "model.py").write_text(MODEL.format(extra=SLOW))
    git(project, "commit", "-qam", "slower")
    done, found = check(project, "--max-seconds", "200")
    assert done.returncode == 1, done.stderr
    assert found["protocol"]["pairs"] == "in lock step"
    hot = [d["name"] for d in found["why"] if d["kind"] == "hot_line"]
    assert any(name.startswith("model.py:16") for name in hot)
    assert next(s for s in found["shifts"] if s["name"] == "forward")["direction"] == "slower"


def test_the_same_code_is_no_regression(project):
    done, found = check(project)
    assert done.returncode in (0, 3), done.stderr  # 3: the machine is too busy to tell
    assert "same commit" in found["notes"][0]
    assert found["seconds"] < 120


def test_a_module_of_the_user_s_own_checkout_is_refused(project):
    trap = f"import sys\nsys.path.insert(0, {str(project)!r})\n{BENCH}"
    (project / "bench.py").write_text(trap)
    git(project, "commit", "-qam", "trap")
    done, _ = check(project)
    assert done.returncode == 2
    assert "wrong-code-imported" in done.stderr


def test_a_script_is_observed_on_both_sides(project):
    (project / "train.py").write_text(
        "import torch\nfrom model import Data, Model\nmodel = Model()\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "for epoch in range(100):\n"
        "    for x, y in torch.utils.data.DataLoader(Data(), batch_size=16):\n"
        "        torch.nn.functional.cross_entropy(model(x), y).backward()\n"
        "        optimizer.step()\n        optimizer.zero_grad()\n"
    )
    git(project, "add", "-A")
    git(project, "commit", "-qm", "script")
    git(project, "branch", "-f", "main")
    (project / "model.py").write_text(MODEL.format(extra=SLOW))
    command = [sys.executable, "-m", "perfdoctor", "check", "--against", "main", "--json", "-",
               "--steps", "60", "--", "train.py"]  # fmt: skip
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["after"]["dirty"] is True


def test_two_observations_of_the_same_code_differ_in_no_setting(project):
    command = [sys.executable, "-m", "perfdoctor", "run", "--no-plots", "-q", "--output-dir", "o",
               "--json", "r.json", "-m", "perfdoctor.gate.stepping", '{"workload": "bench.py"}',
               "{}", "2"]  # fmt: skip
    settings = []
    for _ in range(2):
        subprocess.run(command, cwd=project, check=True)
        report = schema.from_json((project / "r.json").read_bytes(), "r.json")
        settings.append([report.configuration])
    assert list(setting_differences(*settings)) == []
