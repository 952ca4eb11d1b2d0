"""`perfdoctor run --verify`: the advice for a script is tried, and no file of it changes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from builders import make_report, make_stages, make_stat, make_wall

from perfdoctor import verifying
from perfdoctor.cli import run
from perfdoctor.collect.channel import Channel
from perfdoctor.collect.options import no_progress
from perfdoctor.collect.script.main_module import Script
from perfdoctor.collect.script.session import Limits
from perfdoctor.ending import Ending
from perfdoctor.report import Epochs, Report, Trial
from perfdoctor.verifying import of_whole_run, share_tried, with_first_start

#: Loading waits, so that a worker more brings what can be foretold; and it writes in many ways.
TRAIN = """
import sqlite3, sys, time
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

class Slow(Dataset):
    def __len__(self):
        return 256
    def __getitem__(self, index):
        time.sleep(0.004)
        return torch.full((8,), float(index)), index % 2

torch.manual_seed(0)
elsewhere = Path(sys.argv[1])
model = nn.Linear(8, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
database = sqlite3.connect("runs.db")
database.execute("create table if not exists losses(value)")
log = open("log.txt", "a")
loader = DataLoader(Slow(), batch_size=8)
for epoch in range(15):
    for x, y in loader:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        log.write(f"{loss.item()}\\n")
    database.execute("insert into losses values (?)", (loss.item(),))
    database.commit()
    torch.save(model.state_dict(), elsewhere / "model.pt")
print("trained")
sys.exit(7)
"""


def contents(*folders: Path) -> dict[str, str]:
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def verified(folder: Path, text: str, *arguments: str, budget: str = "90s"):
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(textwrap.dedent(text))
    report = folder.parent / "report.json"
    command = [sys.executable, "-m", "perfdoctor", "run", "--verify", "--budget", budget]
    options = ["--output-dir", str(folder.parent / "out"), "--no-plots", "--json", str(report)]
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [*command, *options, "train.py", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if "[no-sandbox]" in done.stderr:
        pytest.skip("this machine does not allow user namespaces")
    return done, json.loads(report.read_text()) if report.exists() else None


@pytest.mark.slow
def test_the_advice_is_tried_and_every_file_stays_as_it_was(tmp_path):
    folder, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "model.pt").write_bytes(b"the best one")
    (folder / "log.txt").write_text("before\n")
    (folder / "train.py").write_text(textwrap.dedent(TRAIN))
    before = contents(folder, elsewhere)
    done, report = verified(folder, TRAIN, str(elsewhere))
    assert (done.returncode, done.stdout) == (7, "trained\n"), done.stderr
    assert contents(folder, elsewhere) == before
    trials = [one["verified"] for one in report["recommendations"] if one["verified"]]
    assert "verified" in [trial["outcome"] for trial in trials], done.stderr
    assert max(trial["speedup"] or 0 for trial in trials) > 1.2
    assert report["verification"]["control"]["outcome"] == "inconclusive"
    assert "the script runs in a sandbox" in done.stderr


@pytest.mark.slow
def test_a_script_that_fails_is_reported_and_not_tried(tmp_path):
    done, report = verified(tmp_path / "project", "import torch\nraise ValueError('no data')\n")
    assert done.returncode == 1
    assert "ValueError: no data" in done.stderr
    assert "nothing is tried, since the script ended early (exception)" in done.stderr
    assert report["verification"] is None


def test_a_script_without_torch_says_so(tmp_path):
    done, report = verified(tmp_path / "project", "print('hello')\n")
    assert (done.returncode, done.stdout, report) == (0, "hello\n", None)
    assert "did not import torch" in done.stderr


def test_a_script_that_is_not_there_is_one_line(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):  # the whole of it, in a child: so the code is the child's
        sys.exit(run(["run", "--verify", "nowhere.py"]))
    error = capfd.readouterr().err
    assert "there is no file 'nowhere.py' to run" in error or "no-sandbox" in error


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["--budget", "10s"], {}, "--budget is for --verify"),
        (["--verify", "--live"], {}, "--live and --verify exclude each other"),
        (["--verify"], {"WORLD_SIZE": "2"}, "start it without torchrun"),
        (["--verify", "--budget", "soon"], {}, "soon"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, environment, told, monkeypatch, capsys):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run(["run", *arguments, "train.py"]) == 2
    assert told in capsys.readouterr().err


def test_a_gain_in_the_steps_is_less_of_the_whole_run():
    trial = Trial(outcome="verified", speedup=2.0, low=1.5, high=3.0)
    whole = of_whole_run(trial, 0.5)
    assert whole.speedup == pytest.approx(1 / 0.75)
    assert whole.low < whole.speedup < whole.high
    assert of_whole_run(trial, 1.0) == trial


def test_what_was_not_measured_stays_so():
    assert of_whole_run(Trial(outcome="not_testable"), 0.5).speedup is None


def observed(parts: dict[str, float], how: str = "finished", **calls: float) -> Report:
    """A report whose run took so many seconds for each part; stages that are not in each step."""
    stages = {
        name: replace(stage, calls_per_step=calls.get(name, 1.0))
        for name, stage in make_stages({n: s for n, s in parts.items() if n != "start_up"}).items()
    }
    return make_report(stages=stages, wall=make_wall(parts), ending=Ending(how=how))


def test_trials_are_of_what_is_done_in_most_steps():
    parts = {"start_up": 1.0, "forward": 7.0, "checkpoint": 1.0, "validation": 1.0}
    report = observed(parts, checkpoint=0.02, validation=0.02)
    assert share_tried(report, {"threads": 2}) == pytest.approx(0.7)
    assert share_tried(report, {"checkpoint_every_times": 5}) == pytest.approx(0.8)
    assert share_tried(observed(parts), {"threads": 2}) == pytest.approx(0.9)
    leaves = replace(report, counters={"import_torch_s": 1.0})
    assert share_tried(leaves, {"threads": 2}) == pytest.approx(7 / 10.4)


def test_the_start_of_epochs_is_tried_by_changes_of_the_loader_alone():
    parts = {"data_loading": 5.0, "forward": 5.0}
    epochs = Epochs(count=4, steps_per_epoch=10, start=make_stat(1.0))
    report = replace(observed(parts), epochs=epochs)
    step_s = report.steps.time.p50_s
    starts = 4 * max(0, 1 - step_s) / 10
    assert share_tried(report, {"prefetch_factor": 4}) == 1.0
    assert share_tried(report, {"persistent_workers": True}) == 1.0
    assert share_tried(report, {"threads": 2}) == pytest.approx(1 - starts)
    many = replace(report, epochs=replace(epochs, count=100, start=make_stat(100.0)))
    assert share_tried(many, {"threads": 2}) == pytest.approx(0.5)


def test_workers_that_are_kept_have_to_be_started_once():
    parts = {"data_loading": 8.0, "forward": 4.0}  # of which the four starts took 6 s
    epochs = Epochs(count=4, steps_per_epoch=10, start=make_stat(1.5))
    report = replace(observed(parts), epochs=epochs)
    trial = Trial(outcome="verified", speedup=2.0, change={"persistent_workers": True})
    assert with_first_start(trial, report).speedup == pytest.approx(12 / (1.5 + 6))
    both = replace(trial, change={"persistent_workers": True, "num_workers": 4})
    stopped = replace(report, ending=Ending(how="stopped"))
    assert with_first_start(both, report) == both
    assert with_first_start(trial, stopped) == trial
    assert with_first_start(trial, replace(report, epochs=None)) == trial


def test_of_a_run_that_was_stopped_only_the_training_counts():
    parts = {"start_up": 5.0, "forward": 4.0, "validation": 1.0}
    report = observed(parts, how="stopped", validation=0.01)
    assert share_tried(report, {}) == pytest.approx(0.8)


@pytest.mark.slow
def test_a_terminated_observation_is_reported_and_leaves_nothing_behind(tmp_path):
    folder, scratch = tmp_path / "project", tmp_path / "tmp"
    folder.mkdir()
    scratch.mkdir()
    endless = TRAIN.replace("range(15)", "range(10**6)").replace(
        "for x, y in loader:", "print(epoch, flush=True)\n    for x, y in loader:"
    )
    (folder / "train.py").write_text(textwrap.dedent(endless))
    report = tmp_path / "report.json"
    options = ["--output-dir", str(tmp_path / "out"), "--no-plots", "--json", str(report)]
    process = subprocess.Popen(
        [sys.executable, "-m", "perfdoctor", "run", "--verify", *options, "train.py", "."],
        cwd=folder, env={**os.environ, "TMPDIR": str(scratch)}, stdout=-1, stderr=-1, text=True,
    )  # fmt: skip
    shown = [process.stdout.readline() for _ in range(3)]
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    if "[no-sandbox]" in told:
        pytest.skip("this machine does not allow user namespaces")
    assert (shown[2], process.returncode) == ("2\n", 128 + signal.SIGTERM), told
    assert json.loads(report.read_text())["ending"]["how"] == "signal"
    assert "nothing is tried" in told
    assert list(scratch.glob("perfdoctor-*")) == []


def test_nothing_is_drawn_before_the_script_has_had_the_terminal(monkeypatch, capsys):
    drawn = []

    def verify_script(request, rules, progress, tell):
        drawn.append(capsys.readouterr().err)
        return None, 0

    monkeypatch.setattr(verifying, "verify_script", verify_script)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with pytest.raises(SystemExit):
        run(["run", "--verify", "train.py"])
    assert drawn == [""]


def test_ctrl_c_before_the_first_trial_leaves_what_was_observed(monkeypatch, tmp_path):
    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(verifying, "_with_trials", pressed)
    request = verifying.VerifyScript(Script("train.py", ()), Limits(), 60.0)
    report = verifying._tried(make_report(), request, tmp_path, no_progress, print)
    assert report.verification.interrupted
    assert replace(report, verification=None) == make_report()


def test_ctrl_c_again_while_the_observed_script_is_summed_up_changes_nothing():
    sent = []

    class Ended:
        def finish(self, ending):
            signal.raise_signal(signal.SIGINT)

    channel = SimpleNamespace(send=sent.append)
    verifying._send_report(channel, Ended(), Ending("interrupted", "", 130))
    assert sent == [{"report": None}]


#: Leaves a child behind that holds what it has inherited, says one thing, and is killed.
LEAVES_ONE = """
import os, sys, time
from multiprocessing.connection import Connection
out = Connection(int(sys.argv[1]), readable=False)
out.send_bytes(b'{"way": "mounts"}')
if os.fork() == 0:
    time.sleep(60)
os.kill(os.getpid(), 9)
"""


def test_a_killed_observation_is_not_waited_for_whoever_holds_its_pipe():
    ours_in, theirs_out = os.pipe()
    nothing, ours_out = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVES_ONE, str(theirs_out)],
        pass_fds=(theirs_out,),
        start_new_session=True,
    )
    channel = Channel(ours_in, ours_out)
    try:
        assert verifying._answer(channel, process) == {"way": "mounts"}
        assert verifying._answer(channel, process) is None
        assert process.returncode == -signal.SIGKILL
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        channel.close()
        for fd in (theirs_out, nothing):
            os.close(fd)


@pytest.mark.slow
def test_ctrl_c_twice_during_the_trials_leaves_the_report_and_nothing_else(tmp_path):
    folder, scratch = tmp_path / "project", tmp_path / "tmp"
    folder.mkdir()
    scratch.mkdir()
    (folder / "train.py").write_text(textwrap.dedent(TRAIN))
    report = tmp_path / "report.json"
    options = ["--output-dir", str(tmp_path / "out"), "--json", str(report), "--steps", "60"]
    process = subprocess.Popen(
        [sys.executable, "-m", "perfdoctor", "run", "--verify", *options, "train.py", "."],
        cwd=folder, env={**os.environ, "TMPDIR": str(scratch)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    told = ""
    for line in process.stderr:
        told += line
        if "verify: control" in line:
            for _ in range(2):
                os.killpg(process.pid, signal.SIGINT)
                time.sleep(0.3)  # or both are one
    process.wait(120)
    if "[no-sandbox]" in told:
        pytest.skip("this machine does not allow user namespaces")
    assert process.returncode == 130, told
    assert json.loads(report.read_text())["verification"]["interrupted"], told
    assert "What was tried here" in told
    assert list(scratch.glob("perfdoctor-*")) == []
