"""The very commands of the page about CI, in a shell, in a project with two branches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import make_report
from test_ci_page import commands

from perfdoctor import schema

#: Steps so long that a pair of a short check has few of them.
BENCH = """
import time
import perfdoctor, torch

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, index):
        time.sleep(0.001)
        return torch.ones(16), index % 4

def workload():
    return perfdoctor.Workload(model=torch.nn.Linear(16, 4), dataset=Data(), batch_size=8)
"""
TRAIN = """
import torch
model = torch.nn.Linear(16, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(300):
    optimizer.zero_grad()
    model(torch.ones(8, 16)).sum().backward()
    optimizer.step()
"""
LOG = "".join(f"Epoch: [0][{n}/400]\tTime 0.20{n % 9} (0.200)\tData 0.020 (0.020)\n"
              for n in range(0, 400, 10))  # fmt: skip
pytestmark = pytest.mark.slow


def git(folder: Path, *arguments: str) -> None:
    name = ["-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run(["git", *name, *arguments], cwd=folder, check=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone whose branch is at a commit after the remote's main, with what is to be compared."""
    remote = tmp_path_factory.mktemp("remote")
    (remote / "bench.py").write_text(BENCH)
    (remote / "train.py").write_text(TRAIN)
    git(remote, "init", "-qb", "main")
    git(remote, "add", "-A")
    git(remote, "commit", "-qm", "base")
    folder = tmp_path_factory.mktemp("clone") / "project"
    git(remote, "clone", "-q", str(remote), str(folder))
    git(folder, "checkout", "-qb", "work")
    git(folder, "commit", "--allow-empty", "-qm", "nothing")
    git(folder, "fetch", "-q", "origin", "main")
    _things_to_compare(folder)
    return folder


def _things_to_compare(folder: Path) -> None:
    for name in ("old.json", "new.json", "old/1.json", "old/2.json", "new/1.json", "new/2.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(schema.to_json(make_report()))
    for name in ("before.log", "after.log"):
        (folder / name).write_text(LOG)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "reports")


def environment(folder: Path) -> dict[str, str]:
    """Of a job: the variables that CI systems set, and this perfdoctor."""
    found = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("GITHUB_EVENT_NAME", "CI_MERGE_REQUEST_IID"):
        found.pop(name, None)
    path = os.pathsep.join([str(Path(sys.executable).parent), found["PATH"]])
    summary = str(folder.parent / "summary.md")
    return {**found, "PATH": path, "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": summary}


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_page_does_what_it_says(line, project):
    line = line.replace("${{ github.base_ref }}", "main")
    line = line.replace("perfdoctor check", "perfdoctor check --max-seconds 5")
    done = subprocess.run(
        ["sh", "-c", line], cwd=project, env=environment(project), capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip
    if "there is no baseline" in done.stderr:
        pytest.skip("the machine was too busy to store one in the test before")
    assert done.returncode in (0, 3), done.stderr  # 3: five seconds are not enough to tell
    if "perfdoctor check" in line:
        assert "perfdoctor check" not in done.stderr and "error" not in done.stderr
    if "--gitlab" in line:
        assert json.loads((project / "gl-code-quality.json").read_text()) == []
