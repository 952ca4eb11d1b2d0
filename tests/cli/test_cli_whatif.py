"""`perfdoctor whatif` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from builders import make_log_report, make_report

from perfdoctor.cli import run
from perfdoctor.record import LoaderRecord
from perfdoctor.report import Report
from perfdoctor.schema import to_json
from perfdoctor.summarise import summarise


def measured() -> Report:
    """Batches that are waited for: 82 ms each, without workers."""
    import numpy as np
    from builders import make_run

    made = np.full(64, 0.082)
    loader = LoaderRecord(batch_s=made, collate_s=made * 0.1, cpu_s=made, first_batch_s=made[:1])
    run_ = make_run(loader=loader, step_cpu_s=0.033)
    return summarise(run_)


@pytest.fixture
def report(tmp_path: Path) -> str:
    path = tmp_path / "report.json"
    path.write_bytes(to_json(measured()))
    return str(path)


def test_it_shows_workers_and_what_is_needed(
    report: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["whatif", report]) == 0
    out = capsys.readouterr().out
    assert "TinyNet as measured: 0 workers" in out
    assert "Needed" in out
    assert "num_workers=" in out


def test_values_and_lists_are_answered_as_json_alone(
    report: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--num-workers", "1,2", "--gpus", "4", "--cores", "16", "--json", "-"]
    assert run(["whatif", report, *arguments]) == 0
    answer = json.loads(capsys.readouterr().out)
    rows = [option["configuration"] for option in answer["options"]]
    assert [row["num_workers"] for row in rows] == [1, 2]
    assert {row["gpus"] for row in rows} == {4}
    assert answer["needs"]["gpus"] == 4
    assert answer["now"]["speedup"] == 1.0


def test_the_answer_is_written_to_a_file(report: str, tmp_path: Path) -> None:
    path = tmp_path / "answer.json"
    assert run(["whatif", report, "--no-persistent-workers", "--json", str(path)]) == 0
    assert json.loads(path.read_bytes())["options"]


@pytest.mark.parametrize(
    ("content", "slug"),
    [
        (None, "report-unreadable"),
        (b"no json", "report-not-json"),
        (to_json(make_log_report()), "no-loader-measured"),
        (to_json(make_report()), "no-loader-measured"),
    ],
)
def test_what_cannot_be_answered_is_said_in_one_line(
    content: bytes | None, slug: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_bytes(content)
    assert run(["whatif", str(path)]) == 2
    error = capsys.readouterr().err
    assert f"[{slug}]" in error
    assert error.count("\n") == 1


def test_impossible_values_are_refused(report: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["whatif", report, "--num-workers", "-1"]) == 2
    assert run(["whatif", report, "--gpus", "0"]) == 2
    assert "not in the range" in capsys.readouterr().err


def test_torch_is_never_imported(report: str) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'pandas', 'matplotlib'): sys.modules[name] = None\n"
        "from perfdoctor.cli import run\n"
        f"sys.exit(run(['whatif', {report!r}, '--num-workers', '2']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
