"""`perfdoctor analyze` as a user meets it: files, output, exit codes."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perfdoctor import schema
from perfdoctor.cli import run
from perfdoctor.cli.progress import shown_progress
from perfdoctor.report import Report

#: The trainer_state.json of a run that was killed while it wrote it.
TORN_STATE = (
    '{"epoch": 1.0, "global_step": 5, "log_history": [{"epoch": 0.1, "loss": 1.0, "step": 1},'
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def analyze(*arguments: str) -> int:
    return run(["analyze", *arguments])


def imagenet(path: Path, *, epochs: int = 2, slow_from: int = 10**9, data_s: float = 0.02) -> Path:
    """Lines of PyTorch's ImageNet example; from step `slow_from` on, steps take twice as long."""
    lines = []
    for epoch in range(epochs):
        spent_s = 0.0
        for step in range(1000):
            time_s = 0.2 + 0.001 * (step // 10 % 5)
            time_s *= 2 if epoch * 1000 + step >= slow_from else 1
            spent_s += time_s
            if step % 10 == 0:
                lines.append(
                    f"Epoch: [{epoch}][{step}/1000]\tTime {time_s:.3f} ({spent_s / (step + 1):.3f})"
                    f"\tData {data_s:.3f} ({data_s:.3f})\tLoss 1.0 (1.0)\n"
                )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))
    return path


def written(folder: Path) -> Report:
    (path,) = folder.glob("performance_report_*.json")
    return schema.from_json(path.read_bytes())


def test_a_log_gives_a_report_pictures_and_a_diagnosis(elsewhere, capsys):
    assert analyze(str(imagenet(elsewhere / "train.log"))) == 0
    report = written(elsewhere)
    assert report.source.format == "pytorch_imagenet"
    assert report.steps is not None and report.steps.time.p50_s == pytest.approx(0.202)
    assert report.stages["data_loading"].share == pytest.approx(0.1, abs=0.01)
    for name in ("throughput.png", "stages.png"):
        assert (elsewhere / name).read_bytes().startswith(b"\x89PNG")
    out = " ".join(capsys.readouterr().out.split())
    assert "pytorch_imagenet" in out
    assert "202 ms" in out


def test_json_on_stdout_stands_alone(elsewhere, capfdbinary):
    log = imagenet(elsewhere / "train.log")
    assert analyze(str(log), "--json", "-", "--no-plots") == 0
    assert json.loads(capfdbinary.readouterr().out)["steps"]["time"]["p50_s"] == 0.202


def test_a_slow_down_is_found_with_its_step_and_line(elsewhere, capsys):
    log = imagenet(elsewhere / "train.log", epochs=4, slow_from=2500)
    assert analyze(str(log), "--no-plots") == 0
    report = written(elsewhere)
    assert report.throughput is not None and report.throughput.trend is not None
    (change,) = report.throughput.trend.change_points
    assert report.throughput.trend.shape == "step"
    assert change.step == pytest.approx(2500, abs=60)
    assert change.where is not None
    assert int(change.where.rsplit(":", 1)[1]) == pytest.approx(251, abs=6)
    assert report.diagnosis is not None and report.diagnosis.verdict == "degrading"
    assert change.where.rsplit(":", 1)[1] in capsys.readouterr().out


def test_several_runs_are_compared_best_first(elsewhere, capsys):
    imagenet(elsewhere / "runs" / "slow" / "train.log", slow_from=0)
    imagenet(elsewhere / "runs" / "fast" / "train.log")
    assert analyze("runs") == 0
    report = written(elsewhere)
    assert report.comparison is not None
    assert [row.label for row in report.comparison.rows] == ["fast", "slow"]
    assert report.comparison.rows[1].relative == pytest.approx(0.5, rel=0.02)
    assert (elsewhere / "comparison.png").exists()
    assert "fast" in capsys.readouterr().out


def test_logs_come_from_a_pipe(elsewhere, monkeypatch):
    data = imagenet(elsewhere / "train.log").read_bytes()
    stdin = io.TextIOWrapper(io.BytesIO(data))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert analyze("-", "--no-plots", "--quiet") == 0
    assert written(elsewhere).name == "standard input"


def test_where_values_are_from_is_shown_on_demand(elsewhere, capsys):
    log = imagenet(elsewhere / "train.log", epochs=4, slow_from=2500)
    analyze(str(log), "--no-plots", "--show-lines")
    assert "train.log:25" in capsys.readouterr().out.replace("\n", "")


def test_a_format_can_be_forced(elsewhere):
    log = imagenet(elsewhere / "train.log")
    assert analyze(str(log), "--format", "generic", "--no-plots", "--quiet") == 0
    assert written(elsewhere).source.format == "generic"


def test_a_users_template_reads_what_nothing_else_could(elsewhere):
    log = elsewhere / "own.log"
    log.write_text("".join(f"<{n}> zeit {41 + n % 3}\n" for n in range(50)))
    assert analyze(str(log), "--pattern", "<{step:d}> zeit {step_time_ms:f}", "--no-plots") == 0
    report = written(elsewhere)
    assert report.steps is not None and report.steps.time.p50_s == pytest.approx(0.042)


def test_one_unreadable_file_among_many_is_reported(elsewhere, capsys):
    imagenet(elsewhere / "runs" / "train.log")
    (elsewhere / "runs" / "other.log").write_bytes(bytes(range(256)) * 40)
    assert analyze("runs", "--no-plots") == 0
    report = written(elsewhere)
    assert [Path(file.path).name for file in report.skipped] == ["other.log"]
    assert "other.log" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "arguments", "slug"),
    [
        (lambda folder: None, ["missing.log"], "log-missing"),
        (lambda folder: None, ["none/*.log"], "log-missing"),
        (lambda folder: (folder / "e.log").write_bytes(b""), ["e.log"], "log-empty"),
        (lambda folder: (folder / "b.log").write_bytes(bytes(range(256)) * 40), ["b.log"],
         "log-binary"),
        (lambda folder: (folder / "d").mkdir(), ["d"], "log-folder-empty"),
        (lambda folder: imagenet(folder / "t.log"), ["t.log", "--format", "nonsense"],
         "format-unknown"),
        (lambda folder: imagenet(folder / "t.log"), ["t.log", "--format", "nvidia_dmon"],
         "format-gives-nothing"),
        (lambda folder: (folder / "b.png").write_bytes(bytes(range(256)) * 40),
         ["b.png", "--format", "csv"], "log-binary"),
        (lambda folder: imagenet(folder / "t.log"), ["t.log", "--pattern", "no {step:d} so"],
         "template-fits-nothing"),
        (lambda folder: imagenet(folder / "t.log"), ["t.log", "--pattern", "no fields"],
         "template-without-fields"),
        (lambda folder: (folder / "t.gz").write_bytes(b"\x1f\x8b\x08broken"), ["t.gz"],
         "log-unreadable"),
        (lambda folder: (folder / "s.json").write_text(TORN_STATE), ["s.json"],
         "json-unreadable"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_line_and_exit_code_2(elsewhere, capsys, make, arguments, slug):
    make(elsewhere)
    assert analyze(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("perfdoctor: error: ")
    assert line.endswith(f"[{slug}]")
    assert not list(elsewhere.glob("performance_report_*"))


def test_a_log_without_times_is_said_to_have_none(elsewhere, capsys):
    log = elsewhere / "loss.log"
    log.write_text("".join(f"Epoch: {n}\nTraining Loss: {1 / (n + 1):.3f}\n" for n in range(30)))
    assert analyze(str(log)) == 0
    report = written(elsewhere)
    assert report.steps is None
    assert "no timing information" in capsys.readouterr().out.lower()


def test_follow_shows_what_is_new_and_reports_at_ctrl_c(elsewhere):
    log = imagenet(elsewhere / "train.log", epochs=1)
    command = [sys.executable, "-m", "perfdoctor", "analyze", str(log), "--follow"]
    process = subprocess.Popen(
        [*command, "--interval", "0.2", "--no-plots"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=elsewhere,
    )  # fmt: skip
    assert process.stderr is not None
    first = process.stderr.readline()
    assert "perfdoctor:" in first
    imagenet(log, epochs=2)
    second = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert first != second
    assert "train.log" in out
    assert written(elsewhere).epochs is not None


def test_reading_logs_needs_neither_torch_nor_pandas(elsewhere):
    program = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "pandas"):
            raise ImportError(f"{name} must not be imported here")
sys.meta_path.insert(0, Refuse())
from perfdoctor.cli import run
sys.exit(run(["analyze", "train.log"]))
"""
    imagenet(elsewhere / "train.log")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_formats_are_listed(capsys):
    assert run(["formats", "--json"]) == 0
    names = {row["name"] for row in json.loads(capsys.readouterr().out)}
    assert {"pytorch_imagenet", "tensorboard_events", "csv", "generic"} <= names
    assert run(["formats"]) == 0
    assert "timm" in capsys.readouterr().out


def test_terminal_escapes_of_a_log_do_nothing(elsewhere, capsys):
    log = elsewhere / "evil\x1b[31m[bold].log"
    imagenet(log)
    with log.open("a") as out:
        out.write("Epoch: [9][0/1000]\tTime \x1b]0;owned\x07 broken [link=evil] sec\n" * 3)
    assert analyze(str(log)) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_report_of_earlier_is_shown_again(elsewhere, capsys):
    imagenet(elsewhere / "train.log")
    analyze("train.log", "--no-plots", "--quiet")
    (path,) = elsewhere.glob("performance_report_*.json")
    path.rename("before.json")
    assert analyze("before.json", "--no-plots") == 0
    assert "pytorch_imagenet" in capsys.readouterr().out


def test_terminal_escapes_of_a_file_s_name_do_nothing_while_it_is_read(capsys):
    with shown_progress(quiet=False) as progress:
        progress("reading we\x1b[31mird\nname.log", 0.0, 0.0)
    assert "\x1b" not in capsys.readouterr().err
