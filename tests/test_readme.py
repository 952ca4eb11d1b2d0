"""Every command and every piece of code in the README works as written."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import make_run

from perfdoctor import settings
from perfdoctor.cli import run
from perfdoctor.record import LoaderRecord
from perfdoctor.schema import to_json
from perfdoctor.summarise import summarise

README = Path(__file__).parents[1] / "README.md"
PROJECT = """
import torch
from torch import nn


class MyModel(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


class MyDataset(torch.utils.data.Dataset):
    def __init__(self, root="data"):
        self.root = root

    def __len__(self):
        return 200

    def __getitem__(self, index):
        return torch.full((4,), float(index)), index % 2


class CachedDataset(MyDataset):
    pass
"""
SCRIPT = """
import argparse

import torch
from my_project import MyDataset, MyModel

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--config")
arguments = parser.parse_args()
model = MyModel()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for epoch in range(arguments.epochs):
    for x, y in torch.utils.data.DataLoader(MyDataset(), batch_size=20):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print("trained")
"""
QUICK = ["--max-seconds", "0.4", "--iterations", "8", "--device", "cpu", "--no-plots"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("perfdoctor ")]


#: A training of three epochs, in two forms, and one of the reader's own.
STEPS = [(epoch, step) for epoch in range(3) for step in range(0, 200, 10)]
LOGS = {
    "train.log": "Epoch: [{e}][{s}/200]\tTime 0.25{t} (0.250)\tData 0.01{t} (0.010)\n",
    "own.log": "it {n} took 25{t}.0 ms, loss 1.0, data 1{t}.0\n",
}


def _logs(folder: Path) -> None:
    for place in (folder, folder / "runs" / "a", folder / "runs" / "b"):
        place.mkdir(parents=True, exist_ok=True)
        for name, line in LOGS.items():
            rows = [line.format(e=e, s=s, n=200 * e + s, t=s // 10 % 7) for e, s in STEPS]
            (place / name).write_text("".join(rows))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with what the README's examples name."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "my_project.py").write_text(PROJECT)
    module = next(block for block in blocks("python") if "my_module.py" in block)
    (folder / "my_module.py").write_text(module)
    (folder / "package").mkdir()
    for place in (folder / "train.py", folder / "package" / "train.py"):
        place.write_text(SCRIPT)
    _images(folder / "photos")
    _logs(folder)
    _report(folder / "report.json")
    for name in ("data_simulation_1", "data_simulation_2"):
        (folder / name).mkdir()
        np.save(folder / name / "x.npy", np.zeros((64, 10, 3), np.float32))
    return folder


def _images(folder: Path) -> None:
    from PIL import Image

    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for index in range(20):
            Image.new("RGB", (64, 48), (index, 80, 90)).save(folder / label / f"{index}.jpg")


def _report(path: Path) -> None:
    """One that knows how batches are made."""
    made = np.full(64, 0.082)
    loader = LoaderRecord(batch_s=made, collate_s=made / 9, cpu_s=made, first_batch_s=made[:1])
    path.write_bytes(to_json(summarise(make_run(loader=loader, step_cpu_s=0.033))))


@pytest.mark.parametrize("command", commands())
def test_each_command_of_the_readme_runs(command, project, monkeypatch, tmp_path, capsys):
    from perfdoctor.collect import limits

    monkeypatch.setattr(limits, "_MATRIX_SIZES", {"cpu": (32,)})
    monkeypatch.chdir(project)
    arguments = ["3s" if word in ("60s", "5m") else word for word in shlex.split(command)[1:]]
    if arguments[0] == "run":  # the script takes the process over
        observes(arguments[1:], tmp_path)
        return
    if arguments[0] == "bench":
        arguments += [*QUICK, "--output-dir", str(tmp_path)]
    if arguments[0] == "analyze":
        arguments += ["--output-dir", str(tmp_path)]
    assert run(arguments) == 0, capsys.readouterr().err


def observes(arguments, folder):
    options = ["--output-dir", str(folder), "--no-plots"]
    command = [sys.executable, "-m", "perfdoctor", "run", *options, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if "[no-sandbox]" in done.stderr:
        pytest.skip("this machine does not allow user namespaces")
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
    assert list(folder.glob("performance_report_*.json")), done.stderr


def test_the_monitored_loop_of_the_readme_works(monkeypatch, tmp_path):
    code = next(block for block in blocks("python") if "TrainingMonitor(" in block)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    assert names["monitor"].get_summary()["steps"] >= 10
    assert list(tmp_path.glob("performance_report_*.json"))


def test_there_are_commands_to_run():
    assert len(commands()) >= 10


def test_named_stages_of_the_readme_are_what_the_package_offers():
    code = next(block for block in blocks("python") if "perfdoctor.stage" in block)
    import perfdoctor

    exec(code, {"perfdoctor": perfdoctor, "build_graph": len, "batch": []})


def test_the_settings_of_the_readme_are_understood(tmp_path):
    (tmp_path / "pyproject.toml").write_text("".join(reversed(blocks("toml"))))
    found = settings.load(tmp_path)
    assert found.disable == {"PD105"}
    assert found.thresholds == {"min_speedup": 1.05}
    assert "step_time_ms" in found.formats["own"][0]


def test_the_files_that_the_readme_names_exist():
    text = README.read_text(encoding="utf-8")
    for name in re.findall(r"(?:benchmarks|docs)/[\w/]+\.(?:py|sh|md)", text):
        assert (README.parent / name).exists(), name
