"""`perfdoctor check` as users and CI systems meet it; real git, commands that cost nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest
from builders import make_report

from perfdoctor import schema
from perfdoctor.cli import run
from perfdoctor.gate import against

COMMAND = ["--command", "python3 work.py", "--report", "out.json", "--max-seconds", "60"]
#: Writes the report that is committed beside it, a little disturbed, as any measurement is.
WORK = """
import json, os, random
report = json.load(open("report.json"))
for stat in [report["steps"]["time"], *report["stages"].values()]:
    factor = 1 + random.Random(os.getpid()).uniform(-0.002, 0.002)
    stat.update({k: v * factor for k, v in stat.items() if k.endswith("_s") and v})
report["series"] = {}
json.dump(report, open("out.json", "w"))
"""


def git(*arguments: str) -> str:
    name = ["-c", "user.name=n", "-c", "user.email=e@x"]
    done = subprocess.run(["git", *name, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(step_s: float, work: str = WORK, **fields) -> None:
    stages = {"forward": step_s, "other": step_s / 100}
    made = make_report(stage_s=stages, **fields)
    Path("report.json").write_bytes(schema.to_json(made))
    Path("work.py").write_text(textwrap.dedent(work))
    git("add", "-A")
    git("commit", "--allow-empty", "-qm", f"{step_s}")


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A repository with a branch `work` beside `main`."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    git("init", "-qb", "main")
    Path(".gitignore").write_text("out.json\n__pycache__\n")
    commit(0.1)
    git("checkout", "-qb", "work")
    return folder


def check(*arguments: str) -> int:
    return run(["check", "--against", "main", *COMMAND, *arguments])


def left_behind(tmp: Path) -> list[str]:
    return [*git("worktree", "list").splitlines()[1:], *map(str, tmp.glob("perfdoctor-check-*"))]


def test_slower_code_is_exit_1_with_what_else_differs(project, capsys):
    commit(0.115, configuration={"batch_size": 32, "num_workers": 0})
    git("checkout", "-q", "main")
    commit(0.1, configuration={"batch_size": 32, "num_workers": 4})
    git("checkout", "-q", "work")
    git("rebase", "-q", "-X", "theirs", "main")
    assert check() == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "REGRESSION" in out
    assert "loader workers 4 → 0 in the effective configuration" in out


def test_code_as_fast_as_before_is_exit_0_and_leaves_nothing(project, monkeypatch, capsys):
    monkeypatch.setenv("TMPDIR", str(project.parent))
    monkeypatch.setattr("tempfile.tempdir", None)
    Path("more.py").write_text("pass\n")
    git("add", "-A")
    git("commit", "-qm", "more")
    assert check("--json", "-") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["outcome"] == "pass" and found["pairs"] == 5
    assert found["judged"][0]["seen"] < 0.05
    assert left_behind(project.parent) == []


def test_faster_code_passes_and_is_told(capsys):
    commit(0.08)
    assert check() == 0
    assert "PASS, IMPROVED" in capsys.readouterr().out


def test_changes_that_are_not_committed_are_checked_in_place(capsys):
    stages = {"forward": 0.2, "other": 0.001}
    Path("report.json").write_bytes(schema.to_json(make_report(stage_s=stages)))
    assert check() == 1
    assert "changes that are not committed" in " ".join(capsys.readouterr().out.split())


def test_a_slowdown_of_another_metric_warns_only(capsys):
    commit(0.1)
    stages = {"forward": 0.05, "loss": 0.0501, "other": 0.001}
    Path("report.json").write_bytes(schema.to_json(make_report(stage_s=stages)))
    assert check("--warn-on", "other:p50:5%", "--fail-on", "step:p50:5%") == 0
    assert "pass" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("work", "told"),
    [
        ("raise SystemExit('out of luck')", ["out of luck", "it ended with code 1"]),
        ("import os; os.kill(os.getpid(), 9)", ["it ended"]),
        ("print('measured nothing')", ["measured nothing", "without writing the report out.json"]),
        ("open('out.json', 'w').write('{}')", ["out.json is not a perfdoctor report"]),
    ],
)
def test_a_crash_of_the_new_side_is_an_error_that_shows_it_and_no_regression(work, told, capsys):
    commit(0.1, work)
    assert check() == 2
    err = capsys.readouterr().err
    assert "the after side" in err
    assert all(part in err for part in told)


def test_a_base_that_cannot_run_it_is_an_error_and_no_pass(capsys):
    git("checkout", "-q", "main")
    commit(0.1, "raise SystemExit('too old')")
    git("checkout", "-qB", "work")
    commit(0.1)
    assert check() == 2
    err = capsys.readouterr().err
    assert "the before side" in err and "too old" in err


def test_an_old_report_that_lies_about_does_not_pass_for_a_new_one(capsys):
    Path(".gitignore").write_text("")
    Path("out.json").write_bytes(schema.to_json(make_report()))
    commit(0.1, "pass")
    assert check() == 2
    assert "without writing the report" in capsys.readouterr().err


def test_code_imported_from_another_checkout_is_refused(project, capsys):
    Path("model.py").write_text("")
    trap = f"import sys; sys.path.insert(0, {str(project)!r}); import model\n{WORK}"
    commit(0.1, trap)
    git("branch", "-f", "main")
    assert check() == 2
    assert "which is not its own code" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--against", "nope", *COMMAND], "no revision 'nope'"),
        (["--against", "main"], "measure what?"),
        (["--against", "main", "--command", "true"], "--command and --report go together"),
        (["--against", "main", *COMMAND, "--workload", "a.py"], "measure what?"),
        (["--against", "main", *COMMAND, "--batch-size", "4"], "mean nothing"),
        (["--against", "main", "--workload", "nope.py"], "nope.py does not exist"),
        (["--against", "main", "--", "nope.py"], "no script nope.py"),
        (["--against", "main", "--baseline", "b.json", *COMMAND], "compare with what?"),
        (["--against", "main", *COMMAND, "--fail-on", "step"], "cannot read the criterion"),
        (["--against", "main", *COMMAND, "--junit", "work.py/x"], "cannot write work.py/x"),
        (["--update-baseline", "--against", "main", *COMMAND], "needs --baseline"),
        (COMMAND, "compare with what?"),
        (["--baseline", "b.json", "--setup", "true", *COMMAND], "--setup needs --against"),
    ],
)
def test_wrong_input_is_exit_2_with_a_line_and_nothing_is_measured(arguments, told, capsys):
    assert run(["check", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_an_absolute_path_into_the_checkout_is_refused(project, capsys):
    Path("bench.py").write_text("")
    assert run(["check", "--against", "main", "--workload", str(project / "bench.py")]) == 2
    assert "give it relative to this folder" in capsys.readouterr().err


def test_a_criterion_of_nothing_is_exit_2(capsys):
    commit(0.1)
    assert check("--fail-on", "froward:5%") == 2
    assert "froward p50 was not measured on either side" in capsys.readouterr().err


@pytest.mark.parametrize(("wish", "code"), [(None, 3), ("pass", 0), ("fail", 1)])
def test_what_cannot_be_told_is_what_the_user_says(wish, code, capsys):
    commit(0.1, WORK.replace("0.002", "0.9"))
    assert check("--max-seconds", "1", *(["--inconclusive", wish] if wish else [])) == code


def test_every_file_is_written_and_github_is_told(project, monkeypatch, capsys):
    commit(0.15)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.parent / "summary.md"))
    files = ["--junit", "o/j.xml", "--markdown", "o/m.md", "--gitlab", "o/g.json",
             "--metrics", "o/x.txt", "--picture", "o/p.png", "--json", "o/r.json"]  # fmt: skip
    assert check(*files, "--quiet") == 1
    assert all(Path(name).stat().st_size for name in files[1::2])
    assert "::error title=Slower::step p25 got worse" in capsys.readouterr().out
    assert "❌ regression" in (project.parent / "summary.md").read_text()


FILES = {"--junit": "o/j.xml", "--markdown": "o/m.md", "--gitlab": "o/g.json",
         "--metrics": "o/x.txt", "--picture": "o/p.png", "--json": "o/r.json"}  # fmt: skip


def with_results_of_an_earlier_check() -> list[str]:
    Path("o").mkdir()
    for name in FILES.values():
        Path(name).write_text("of an earlier check")
    return [part for pair in FILES.items() for part in pair]


def test_ci_is_told_of_a_crash_and_finds_no_result_of_an_earlier_check(
    project, monkeypatch, capsys
):
    commit(0.1, "raise SystemExit('out of luck')")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.parent / "summary.md"))
    assert check(*with_results_of_an_earlier_check()) == 2
    out = capsys.readouterr().out
    assert out.startswith("::error title=Cannot be measured::the after side (")
    assert "%0Aout of luck" in out and out.count("\n") == 1
    summary = (project.parent / "summary.md").read_text()
    assert "## 💥 error: python3 work.py" in summary and "    out of luck" in summary
    suite = ElementTree.parse(FILES["--junit"]).getroot()[0]
    assert (suite.get("tests"), suite.get("errors"), suite.get("failures")) == ("1", "1", "0")
    assert "out of luck" in suite.find("testcase/error").text
    assert json.loads(Path(FILES["--json"]).read_text())["outcome"] == "error"
    assert json.loads(Path(FILES["--gitlab"]).read_text())[0]["check_name"].endswith("side-failed")
    assert Path(FILES["--metrics"]).read_text() == "# EOF\n"
    assert not Path(FILES["--picture"]).exists()


def test_wrong_input_leaves_no_result_of_an_earlier_check(capsys):
    files = with_results_of_an_earlier_check()
    assert run(["check", "--against", "main", *files]) == 2
    assert json.loads(Path(FILES["--json"]).read_text())["slug"] == "usage"
    assert "measure what?" in Path(FILES["--markdown"]).read_text()


def test_a_fault_of_our_own_is_exit_2_and_no_regression(monkeypatch, capsys):
    def fails(*_):
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr(against, "check", fails)
    assert check("--json", "r.json") == 2
    assert "perfdoctor itself has failed: ZeroDivisionError: by chance" in capsys.readouterr().err
    assert json.loads(Path("r.json").read_text())["slug"] == "internal-error"


def test_setup_runs_on_each_side_in_an_environment_of_its_own(project, capsys):
    commit(0.1)
    write = "import sys, os; open(os.environ['LOG'], 'a').write(sys.prefix + chr(10))"
    os.environ["LOG"] = str(project.parent / "log")
    try:
        assert check("--setup", f'python -c "{write}"') == 0
    finally:
        del os.environ["LOG"]
    prefixes = (project.parent / "log").read_text().split()
    assert len(set(prefixes)) == 2
    assert all(prefix.endswith("venv") for prefix in prefixes)


def test_a_setup_that_fails_is_shown(capsys):
    commit(0.1)
    assert check("--setup", "echo no such wheel; false") == 2
    err = capsys.readouterr().err
    assert "no such wheel" in err and "--setup 'echo no such wheel; false' failed" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_worktree_and_no_process(project, number):
    commit(0.1, "import time, os; open('../started', 'a').close(); time.sleep(600)")
    environment = {**os.environ, "TMPDIR": str(project.parent)}
    started = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program = f"{started}import sys; from perfdoctor.cli import run; sys.exit(run(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", program, "check", "--against", "work~0", *COMMAND, "-q"],
        env=environment, stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        _once(lambda: any(project.parent.glob("perfdoctor-check-*/started")), process)
        process.send_signal(number)
        assert process.wait(20) == 130
    assert left_behind(project.parent) == []


def _once(happened, process) -> None:
    """Until it has; fails if the process ends before, or it takes too long."""
    tick = threading.Event()
    for _ in range(400):
        if happened():
            return
        assert process.poll() is None
        tick.wait(0.05)
    raise AssertionError("it did not happen")


def test_two_checks_at_once_in_one_repository_both_pass(project):
    commit(0.1)
    command = [sys.executable, "-m", "perfdoctor", "check", "--against", "main", *COMMAND, "-q"]
    environment = {**os.environ, "TMPDIR": str(project.parent)}
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert left_behind(project.parent) == []


def test_checking_imports_neither_torch_nor_pandas_nor_matplotlib(project):
    commit(0.1)
    program = (
        "import sys\n"
        "for name in ('torch', 'matplotlib', 'pandas'): sys.modules[name] = None\n"
        "import perfdoctor.gate.with_baseline, perfdoctor.gate.with_history\n"
        "from perfdoctor.cli import run\n"
        "sys.exit(run(['check', '--against', 'main', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-c", program, *COMMAND, "-q"]
    assert subprocess.run(command, check=False).returncode == 0
