"""`perfdoctor compare` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from builders import make_report

from perfdoctor import schema
from perfdoctor.cli import run


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report(path: str, step_s: float, minute: int = 0) -> str:
    made = make_report(
        stage_s={"forward": step_s, "other": step_s / 100},
        created_at=f"2026-01-02T03:{minute:02d}:00+00:00",
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(schema.to_json(made))
    return path


def compare(*arguments: str) -> int:
    return run(["compare", *arguments])


def test_two_reports_give_a_table_a_picture_and_an_honest_basis(elsewhere, capsys):
    assert compare(report("old.json", 0.1), report("new.json", 0.2)) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Slower: step p50 101 ms → 202 ms (+100 %" in out
    assert "how much runs of the same code differ here is not known" in out
    assert (elsewhere / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_groups_stand_on_both_sides_of_vs(capsys):
    old = [report(f"old/{n}.json", 0.1 + n / 1e4, 2 * n) for n in range(4)]
    new = [report(f"new/{n}.json", 0.107 + n / 1e4, 2 * n + 1) for n in range(4)]
    assert compare(*old, "vs", *new, "--no-plots") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Slower: step p50" in out and "which took turns" in out


def test_two_folders_are_two_groups(capsysbinary):
    for n in range(3):
        report(f"old/{n}.json", 0.1 + n / 1e4, 2 * n)
        report(f"new/{n}.json", 0.1 + n / 1e4, 2 * n + 1)
    assert compare("old", "new", "--json", "-", "--no-plots") == 0
    found = json.loads(capsysbinary.readouterr().out)
    assert (len(found["before"]["reports"]), found["took_turns"]) == (3, True)
    assert found["shifts"][0]["direction"] == "same"


def test_logs_are_read_and_compared(elsewhere, capsys):
    for name, step_s in (("old.log", 0.2), ("new.log", 0.4)):
        lines = [
            f"Epoch: [0][{n}/1000]\tTime {step_s + 0.001 * (n // 10 % 5):.3f} ({step_s:.3f})"
            f"\tData 0.020 (0.020)\n"
            for n in range(0, 1000, 10)
        ]
        (elsewhere / name).write_text("".join(lines))
    assert compare("old.log", "new.log", "--markdown", "out.md", "--no-plots") == 0
    assert "Slower: step p50 202 ms → 402 ms" in " ".join(capsys.readouterr().out.split())
    assert "| step p50 | 202 ms | 402 ms | +99.0 % |" in (elsewhere / "out.md").read_text()


def test_markdown_alone_on_stdout(capsys):
    old, new = report("old.json", 0.1), report("new.json", 0.2)
    assert compare(old, new, "--markdown", "-", "--no-plots") == 0
    assert capsys.readouterr().out.startswith("## perfdoctor compare\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["old.json"], "give two sides"),
        (["old.json", "old.json", "old.json"], "give two sides"),
        (["vs", "old.json"], "give two sides"),
        (["old.json", "nope.json"], "no such file"),
        (["old.json", "old.json", "--json", "-", "--markdown", "-"], "exclude each other"),
    ],
)
def test_wrong_input_is_exit_2_with_a_line(arguments, told, capsys):
    report("old.json", 0.1)
    assert compare(*arguments) == 2
    assert told in capsys.readouterr().err


def test_a_newer_report_is_refused(elsewhere, capsys):
    data = json.loads(Path(report("old.json", 0.1)).read_text())
    (elsewhere / "new.json").write_text(json.dumps({**data, "schema_version": 99}))
    assert compare("old.json", "new.json") == 2
    assert "schema version 99" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "{}", "[1", "nothing of interest\n" * 20])
def test_a_file_that_tells_of_no_time_is_no_side(text, elsewhere, capsys):
    (elsewhere / "new.json").write_text(text)
    assert compare(report("old.json", 0.1), "new.json", "--no-plots") == 2
    assert "nothing in new.json tells how long anything took" in capsys.readouterr().err


def test_where_nothing_is_in_common_no_interval_is_explained(elsewhere, capsys):
    epochs = "".join(f"epoch {n} loss 0.{n} time 12.{n} s\n" for n in range(9))
    (elsewhere / "epochs.log").write_text(epochs)
    made = replace(make_report(stage_s={"forward": 0.1}), throughput=None, epochs=None)
    Path("old.json").write_bytes(schema.to_json(made))
    assert compare("old.json", "epochs.log", "--no-plots") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "no time in common" in out and "intervals" not in out


def test_a_file_of_a_group_that_cannot_be_read_is_told(elsewhere, capsys):
    old = [report(f"old/{n}.json", 0.1) for n in range(2)]
    half = Path(report("old/2.json", 0.1))
    half.write_bytes(half.read_bytes()[:900])
    assert compare(*old, str(half), "vs", report("new.json", 0.1), "--no-plots") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "old/2.json is left out: " in out and "2 runs before, 1 after" in out


def test_comparing_needs_neither_torch_nor_matplotlib(elsewhere):
    old, new = report("old.json", 0.1), report("new.json", 0.2)
    program = (
        "import sys\n"
        "for name in ('torch', 'matplotlib', 'pandas'): sys.modules[name] = None\n"
        "from perfdoctor.cli import run\n"
        f"sys.exit(run(['compare', {old!r}, {new!r}, '--no-plots', '-q']))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_long_name_is_shortened_in_the_middle_and_breaks_no_line(elsewhere, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    folder = "runs/of-a-long-experiment-with-many-words-in-its-name"
    old, new = (f"{folder}/performance_report_2026010203{n}.json" for n in (1, 2))
    assert compare(report(old, 0.1), report(new, 0.2)) == 0
    lines = capsys.readouterr().out.splitlines()
    box = lines[: next(i for i, line in enumerate(lines) if line.startswith("╰"))]
    assert len(box) == 3  # the border, and one line for each side
    assert "…" in box[1] and "02031.json ·" in box[1] and box[2].startswith("│ after")
