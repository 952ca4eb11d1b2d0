"""`perfdoctor bench` as a user meets it: files, output, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perfdoctor import schema
from perfdoctor.cli import run

WORKLOAD = Path(__file__).with_name("workload_file.py")
QUICK = ["--device", "cpu", "--iterations", "12", "--max-seconds", "0.5"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch, small_limits):
    """Each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def small_limits():
    """Short measurements of the machine's limits; their results mean nothing."""
    from perfdoctor.collect import limits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "_MATRIX_SIZES", {"cpu": (32,)})
        patch.setattr(limits, "_READ_BYTES", 1 << 20)
        yield


def bench(*arguments: str) -> int:
    return run(["bench", *arguments])


def reports(folder: Path) -> list[Path]:
    return sorted(folder.glob("performance_report_*.json"))


def test_a_workload_gives_a_report_a_picture_and_a_diagnosis(elsewhere, capsys):
    assert bench("--workload", str(WORKLOAD), *QUICK) == 0
    (path,) = reports(elsewhere)
    report = schema.from_json(path.read_bytes())
    assert report.steps.count + report.steps.warmup_discarded == 12
    assert report.diagnosis is not None
    assert (elsewhere / "graph_benchmark.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "data_loading" in out
    assert report.diagnosis.summary.split(".")[0][:40] in " ".join(out.split())
    assert sorted(p.name for p in elsewhere.iterdir()) == ["graph_benchmark.png", path.name]


def test_json_on_stdout_stands_alone(elsewhere, capfdbinary):
    assert bench("--workload", str(WORKLOAD), "--json", "-", "--no-plots", *QUICK) == 0
    out = capfdbinary.readouterr().out
    assert schema.from_json(out).name
    assert len(reports(elsewhere)) == 1


def test_what_user_code_prints_does_not_disturb_the_json(capfdbinary):
    spec = f"{WORKLOAD}:printing"
    assert bench("--workload", spec, "--json", "-", "--no-plots", *QUICK) == 0
    captured = capfdbinary.readouterr()
    assert schema.from_json(captured.out).name
    assert b"hello from the workload" in captured.err


def test_ctrl_c_while_drawing_costs_the_picture_only(elsewhere, capsys, monkeypatch):
    from perfdoctor.render import png

    def interrupt(report):
        raise KeyboardInterrupt

    monkeypatch.setattr(png, "graph_benchmark", interrupt)
    assert bench("--workload", str(WORKLOAD), *QUICK) == 130
    assert len(reports(elsewhere)) == 1
    assert "data_loading" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("redirect", "code"),
    [("| head -n 1 > /dev/null; exit ${PIPESTATUS[0]}", 0), ("> /dev/full", 2)],
)
def test_output_that_goes_nowhere_is_no_traceback(redirect, code, elsewhere):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    command = f"{sys.executable} -m perfdoctor rules {redirect}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == code


def test_files_go_where_they_are_wanted(elsewhere, capsys):
    assert (
        bench(
            "--workload", f"{WORKLOAD}:workload", "--output-dir", "new/folder", "--json", "r.json",
            "--no-plots", *QUICK,
        )
        == 0
    )  # fmt: skip
    assert len(reports(elsewhere / "new/folder")) == 1
    assert json.loads((elsewhere / "r.json").read_bytes())["schema_version"] == 1
    assert not list(elsewhere.rglob("*.png"))


def test_quiet_prints_nothing(capfd):
    assert bench("--workload", str(WORKLOAD), "--quiet", "--no-plots", *QUICK) == 0
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_progress_is_told_on_stderr(capfd):
    assert bench("--workload", str(WORKLOAD), "--no-plots", *QUICK) == 0
    assert "measuring the training loop" in capfd.readouterr().err


def test_parts_can_be_named_without_writing_a_file(elsewhere):
    assert (
        bench(
            "--model", f"{WORKLOAD}:Net", "--model-args", '{"width": 16}',
            "--dataset", f"{WORKLOAD}:Data", "--dataset-args", '{"count": 40}',
            "--batch-size", "10", "--no-plots", "--quiet", *QUICK,
        )
        == 0
    )  # fmt: skip
    report = schema.from_json(reports(elsewhere)[0].read_bytes())
    assert report.configuration["dataset_size"] == 40
    assert report.configuration["batch_size"] == 10


def test_several_values_are_compared_in_one_table(elsewhere, capsys):
    assert (
        bench(
            "--workload", str(WORKLOAD), "--batch-size", "4,8", "--precision", "fp32,bf16", *QUICK
        )
        == 0
    )
    comparison = schema.from_json(reports(elsewhere)[0].read_bytes()).comparison
    assert [row.configuration for row in comparison.rows] == [
        {"batch_size": b, "precision": p} for b in (4, 8) for p in ("fp32", "bf16")
    ]
    assert comparison.varied == ("batch_size", "precision")
    assert comparison.best
    assert "★" in capsys.readouterr().out


def test_two_datasets_are_compared(elsewhere):
    assert (
        bench(
            "--model", f"{WORKLOAD}:Net", "--dataset", f"{WORKLOAD}:Slower,{WORKLOAD}:Data",
            "--no-plots", "--quiet", *QUICK,
        )
        == 0
    )  # fmt: skip
    comparison = schema.from_json(reports(elsewhere)[0].read_bytes()).comparison
    assert [row.label.rpartition(":")[2] for row in comparison.rows] == ["Slower", "Data"]
    assert comparison.best  # which one is a matter of timing, and none of this test


BAD_INPUT = [
    (["--data-dir", "nowhere"], "nowhere"),
    (["--data-dir", "empty"], "empty"),
    (["--workload", "missing.py"], "missing.py"),
    (["--workload", f"{WORKLOAD}:nothing"], "nothing"),
    (["--workload", "no.such.module:f"], "no module named 'no'"),
    (["--model", f"{WORKLOAD}:Net"], "--dataset is missing"),
    (["--model", f"{WORKLOAD}:Net", "--dataset", f"{WORKLOAD}:Data", "--model-args", "{"], "JSON"),
    (["--workload", "a.py", "--data-dir", "b"], "exclude each other"),
    (["--workload", str(WORKLOAD), "--iterations", "0"], "--iterations"),
    (["--workload", str(WORKLOAD), "--batch-size", "8,,9"], "--batch-size"),
    (["--workload", str(WORKLOAD), "--batch-size", "1000"], "larger than the dataset"),
    (["--workload", str(WORKLOAD), "--num-workers", "-1"], "--num-workers"),
    (["--workload", str(WORKLOAD), "--precision", "fp8"], "fp8"),
    (["--workload", str(WORKLOAD), "--device", "cuda"], "--device c"),
    (["--workload", str(WORKLOAD), "--max-seconds", "0"], "--max-seconds"),
    (["--workload", str(WORKLOAD), "--json", "no/such/folder/r.json"], "no/such/folder"),
    (["--workload", str(WORKLOAD), "--output-dir", "file/inside"], "file"),
]


@pytest.mark.parametrize(("arguments", "named"), BAD_INPUT, ids=lambda v: str(v)[-40:])
def test_bad_input_is_one_line_and_exit_2(arguments, named, elsewhere, capfd):
    if "cuda" in arguments:
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
    (elsewhere / "empty").mkdir()
    (elsewhere / "file").write_text("")
    before = sorted(p.name for p in elsewhere.iterdir())
    assert bench(*arguments) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert named in captured.err
    assert "Traceback" not in captured.err
    said = [line for line in captured.err.splitlines() if "rror: " in line]
    assert len(said) == 1
    assert sorted(p.name for p in elsewhere.iterdir()) == before


def test_a_folder_that_cannot_be_written_is_told_before_measuring(elsewhere, capfd, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *args, **kwargs: False)
    assert bench("--workload", str(WORKLOAD), *QUICK) == 2
    err = capfd.readouterr().err
    assert "cannot write to ." in err
    assert "measuring" not in err


def test_the_users_failure_shows_their_traceback_and_not_ours(capfd):
    assert bench("--workload", f"{WORKLOAD}:failing", *QUICK) == 2
    err = capfd.readouterr().err
    assert "workload_file.py" in err
    assert "perfdoctor/collect" not in err
    assert err.splitlines()[-1].startswith(
        "perfdoctor: error: the forward of the model failed: ValueError: my own mistake"
    )


def test_a_comparison_in_which_all_fail_shows_the_users_traceback_too(capfd):
    assert bench("--workload", f"{WORKLOAD}:failing", "--batch-size", "4,8", *QUICK) == 2
    err = capfd.readouterr().err
    assert "workload_file.py" in err
    assert err.splitlines()[-1].startswith("perfdoctor: error: the forward of the model failed")


@pytest.mark.parametrize(("at", "report"), [(30, True), (1, False)])
def test_ctrl_c_reports_what_was_measured_and_exits_130(at, report, elsewhere):
    done = subprocess.run(
        [sys.executable, "-m", "perfdoctor", "bench", "--workload", f"{WORKLOAD}:interrupted",
         "--device", "cpu", "--max-seconds", "20", "--no-plots"],
        env=os.environ | {"INTERRUPT_AT": str(at)},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert len(reports(elsewhere)) == report
    assert ("interrupted" in done.stdout) == report
    assert ("interrupted; there is no result" in done.stderr) != report
