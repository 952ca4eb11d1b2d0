"""`perfdoctor bench --verify` as a user meets it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from builders import make_report

from perfdoctor import pipeline, schema
from perfdoctor.cli import run
from perfdoctor.collect.options import BenchOptions, no_progress
from perfdoctor.report import Verification

WORKLOAD = Path(__file__).with_name("workload_file.py")
QUICK = ["--device", "cpu", "--iterations", "12", "--max-seconds", "0.5", "--no-plots"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "60s"], "--budget is for --verify"),
        (["--verify", "--budget", "soon"], "'soon' is no duration; write 90, 120s or 2m"),
        (["--verify", "--budget", "-3"], "must be more than none"),
        (["--verify", "--batch-size", "8,16"], "give one value for --batch-size"),
        (["--verify", "--model", "a:A,b:B", "--dataset", "c:C"], "one value for --model"),
    ],
)
def test_what_cannot_be_verified_is_refused_at_once(arguments, message, capsys):
    assert run(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("120s", 120), ("2m", 120), ("1h", 3600), ("0.5m", 30)]
)
def test_durations_are_read_as_people_write_them(text, seconds):
    from perfdoctor.cli.values import Duration

    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("verified", "no profile 'verified' in the settings: there are none"),
        ("typo", "has no option 'num_werkers' of bench to set"),
    ],
)
def test_a_profile_that_is_not_there_or_not_right_is_an_error(elsewhere, profile, message, capsys):
    if profile == "typo":
        text = "[tool.perfdoctor.profiles.typo]\nnum_werkers = 2\n"
        (elsewhere / "pyproject.toml").write_text(text)
    assert run(["bench", "--profile", profile, "--workload", str(WORKLOAD)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_profile_gives_what_the_command_line_does_not(elsewhere):
    text = "[tool.perfdoctor.profiles.verified]\nbatch_size = 4\nprecision = 'bf16'\n"
    (elsewhere / "pyproject.toml").write_text(text)
    quick = ["--workload", str(WORKLOAD), "--json", "r.json", *QUICK]
    assert run(["bench", "--profile", "verified", "--batch-size", "2", *quick]) == 0
    found = schema.from_json(Path("r.json").read_bytes()).configuration
    assert (found["batch_size"], found["precision"]) == (2, "bf16")


def started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "perfdoctor", "bench", "--verify", *arguments]
    waiting = ["--model", f"{WORKLOAD}:Net", "--dataset", f"{WORKLOAD}:Slower"]
    return subprocess.Popen(
        [*command, *waiting, "--json", "r.json", *QUICK],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_every_recommendation_is_tried_and_nothing_of_the_users_changes(elsewhere):
    before = WORKLOAD.read_bytes()
    process = started("--budget", "20s")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    report = schema.from_json(Path("r.json").read_bytes())
    assert report.verification is not None
    tried = [one for one in report.recommendations if one.change]
    assert all(one.verified is not None for one in tried)
    assert report.verification.ceilings["free-loading"].outcome != "refuted"
    assert "What was tried here" in out
    assert "verify: trying" in err
    assert WORKLOAD.read_bytes() == before


@pytest.mark.slow
def test_ctrl_c_during_the_trials_leaves_the_report_and_no_process(elsewhere):
    process = started("--budget", "300s")
    family = psutil.Process(process.pid)
    children: list[psutil.Process] = []
    errors: list[str] = []

    def press() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            errors.append(line)
            if line.startswith("perfdoctor: verify: control"):
                children.extend(family.children(recursive=True))
                os.kill(process.pid, signal.SIGINT)

    watching = threading.Thread(target=press)
    watching.start()
    assert process.stdout is not None
    process.stdout.read()
    process.wait(120)
    watching.join()
    report = schema.from_json(Path("r.json").read_bytes())
    assert any("verify: trying" in line for line in errors)
    assert process.returncode == 130
    assert report.verification.interrupted
    assert children
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_twice_leaves_the_report(elsewhere, monkeypatch, capsys):
    """The second one comes when the trials are over, and nothing is written yet."""
    ended = Verification(budget_s=60.0, spent_s=1.0, interrupted=True)

    def bench(request, rules, progress):
        with suppress(KeyboardInterrupt):
            press()
        press()
        return make_report(verification=ended)

    monkeypatch.setattr(pipeline, "bench", bench)
    arguments = ["bench", "--verify", "--workload", str(WORKLOAD), "--json", "r.json"]
    assert run(arguments) == 130
    assert schema.from_json(Path("r.json").read_bytes()).verification == ended
    assert not list(elsewhere.glob("*.png"))


def test_ctrl_c_before_the_first_trial_leaves_the_report(monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_tried", pressed)
    request = pipeline.VerifyRequest({}, 60.0, lambda line: None)
    report = pipeline._verified(make_report(), BenchOptions(), request, no_progress)
    assert report.verification == Verification(budget_s=60.0, spent_s=0.0, interrupted=True)


def test_ctrl_c_while_the_report_is_written_leaves_it(monkeypatch, capsys):
    made = schema.to_json

    def to_json(report):
        press()
        return made(report)

    monkeypatch.setattr(pipeline, "bench", lambda *_: make_report())
    monkeypatch.setattr(schema, "to_json", to_json)
    arguments = ["bench", "--verify", "--workload", str(WORKLOAD), "--json", "r.json"]
    assert run([*arguments, "--no-plots"]) == 0
    assert schema.from_json(Path("r.json").read_bytes()) == make_report()
