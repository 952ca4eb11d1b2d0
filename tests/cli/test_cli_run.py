"""`perfdoctor run` from a user's seat: the script cannot tell, and there is a report."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
LOOPS, ENDINGS = HERE / "training_loops.py", HERE / "training_endings.py"
PATIENCE_S = 300
slow = pytest.mark.slow


@dataclass(frozen=True)
class Seen:
    code: int
    stdout: str
    stderr: str


def python(*words: object, cwd: Path, **environment: str) -> Seen:
    given = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=given | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Seen(done.returncode, done.stdout, done.stderr)


def run(*words: object, cwd: Path, quiet: bool = True, **environment: str) -> Seen:
    options = ["--quiet", "--no-plots"] if quiet else ["--no-plots"]
    return python("-m", "perfdoctor", "run", *options, *words, cwd=cwd, **environment)


def report_in(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("performance_report_*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def steps_in(report: dict[str, Any]) -> int:
    return int(report["steps"]["time"]["count"] + report["steps"]["warmup_discarded"])


def parts_of(report: dict[str, Any]) -> dict[str, float]:
    return {part["name"]: part["share"] for part in report["wall"]["parts"]}


def script(folder: Path, text: str, name: str = "script.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


@functools.cache
def unwatched(*names: str) -> Seen:
    """These loops without perfdoctor."""
    return python(LOOPS, *names, cwd=HERE)


def watched(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """The report on these loops, which go as they go without perfdoctor."""
    folder.joinpath("out").mkdir()
    expected = unwatched(*names)
    assert expected.code == 3, expected.stderr
    assert run("--output-dir", "out", LOOPS, *names, cwd=folder) == expected
    report = report_in(folder / "out")
    _, steps, _ = expected.stdout.splitlines()[-1].split()
    assert steps_in(report) == int(steps)
    assert report["ending"] == {"how": "exit", "detail": "", "code": 3}
    assert report["warnings"] == []
    assert sum(parts_of(report).values()) == pytest.approx(1.0)
    return report


# -- the same training ---------------------------------------------------------------------------


def test_losses_and_output_are_the_same_whatever_the_loop(tmp_path):
    names = ["by_hand", "plain", "stream", "nested", "generator", "validation"]
    report = watched(tmp_path, [*names, "accumulation"])
    assert {"data_loading", "forward", "loss", "backward", "optimizer"} <= set(report["stages"])
    assert parts_of(report)["validation"] > 0


def test_losses_and_output_are_the_same_with_unusual_updates(tmp_path):
    watched(tmp_path, ["amp", "lbfgs", "nas", "gan", "checkpointing", "hooks"])


def test_losses_and_output_are_the_same_with_processes_and_threads(tmp_path):
    report = watched(tmp_path, ["copies", "threads", "child", "workers", "persistent"])
    assert parts_of(report)["checkpoint"] > 0


def test_steps_that_are_short_and_alike_are_not_all_looked_into(tmp_path):
    report = watched(tmp_path, ["long"])
    (note,) = report["notes"]
    assert note.endswith("their stages are shared out as in the steps around them.")
    assert 200 < int(note.split()[0]) < 403
    rate = report["throughput"]
    assert rate["samples_per_s"] / rate["steps_per_s"] == pytest.approx(4, rel=0.01)
    assert {"data_loading", "forward", "loss", "backward", "optimizer"} <= set(report["stages"])
    assert parts_of(report)["validation"] > 0
    assert parts_of(report)["checkpoint"] > 0


def test_a_loader_made_anew_each_epoch_stays_the_same_loader(tmp_path):
    report = watched(tmp_path, ["anew"])
    # A look that holds the frame of an epoch keeps its loader alive when the next one is made.
    assert report["loader"]["iterators"] in (29, 30)
    assert report["configuration"]["batch_size"] == 4
    rate = report["throughput"]
    assert rate["samples_per_s"] / rate["steps_per_s"] == pytest.approx(4)
    # A few looks may find that all of the rest is some stage: then there is no "other".
    assert {"data_loading", "validation"} <= set(parts_of(report))


def test_a_loader_may_train_and_validate(tmp_path):
    report = watched(tmp_path, ["one_loader"])
    rate = report["throughput"]
    assert rate["samples_per_s"] / rate["steps_per_s"] == pytest.approx(4)
    assert report["configuration"]["batch_size"] == 4
    assert parts_of(report)["validation"] > 0


def test_of_models_that_are_trained_one_after_another_the_longest_is_told(tmp_path):
    train = script(
        tmp_path,
        """
        import time
        import torch
        from torch.utils.data import DataLoader, TensorDataset

        class Taught(torch.nn.Sequential):
            pass

        def train(model, epochs, pause_s):
            data = TensorDataset(torch.rand(160, 8), torch.rand(160, 1))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for _ in range(epochs):
                for x, y in DataLoader(data, batch_size=4):
                    time.sleep(pause_s)
                    loss = (model(x) - y).square().mean()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()

        train(torch.nn.Linear(8, 1), 3, 0.0)
        train(Taught(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)), 6, 0.01)
        """,
    )
    assert run("--output-dir", ".", train, cwd=tmp_path).code == 0
    report = report_in(tmp_path)
    assert report["configuration"]["model"] == "Taught"
    assert any("steps 121 to 360 of 360" in note for note in report["notes"])
    assert "PD701" not in {advice["rule"] for advice in report["recommendations"]}


@slow
@pytest.mark.parametrize(
    "names",
    [
        ["spawn"],
        ["forkserver"],
        ["stream_workers"],
        ["compiled", "compiled_whole", "compiled_step"],
        ["traced"],
    ],
    ids=lambda names: names[0],
)
def test_losses_and_output_are_the_same_with_what_takes_longer(tmp_path, names):
    watched(tmp_path, names)


@slow
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("plain", {"num_workers": 0, "precision": "fp32", "optimizer": "SGD"}),
        ("workers", {"num_workers": 2, "start_method": "fork", "loader_kind": "map"}),
        ("persistent", {"num_workers": 1, "persistent_workers": True}),
        ("stream_workers", {"num_workers": 2, "loader_kind": "iterable"}),
        ("amp", {"precision": "bf16", "optimizer": "AdamW"}),
        ("lbfgs", {"optimizer": "LBFGS", "batch_size": 4}),
        ("generator", {"model": "Net", "device": "cpu"}),
        ("compiled", {"compile": "default"}),
        ("compiled_step", {"compile": "default"}),
    ],
)
def test_the_configuration_is_that_of_the_training(tmp_path, name, says):
    report = watched(tmp_path, [name])
    assert {key: report["configuration"].get(key) for key in says} == says
    rate = report["throughput"]
    assert rate["samples_per_s"] / rate["steps_per_s"] == pytest.approx(4)


@slow
def test_how_long_workers_take_to_start_and_to_end_is_told(tmp_path):
    report = watched(tmp_path, ["workers"])
    loader = report["loader"]
    assert loader["end"]["count"] == loader["start"]["count"] == loader["iterators"]
    assert report["counters"]["import_torch_s"] > 0


# -- however it ends -----------------------------------------------------------------------------

QUICK = {
    "forward": ("exception", "ArithmeticError: in forward", 1, 4),
    "SIGTERM": ("signal", "SIGTERM", 143, 6),
    "another folder": ("finished", "", 0, 8),
}
LONGER = {
    "dataset": ("exception", "ValueError: bad sample 17", 1, 4),
    "worker": ("exception", "ValueError: Caught ValueError in DataLoader worker process 0.", 1, 4),
    "collate": ("exception", "RuntimeError: cannot collate", 1, 4),
    "loss": ("exception", "RuntimeError: The size of tensor a", 1, 5),
    "backward": ("exception", "ZeroDivisionError: in backward", 1, 5),
    "optimizer": ("exception", "ValueError: in step", 1, 5),
    "validation": ("exception", "RuntimeError: mat1 and mat2", 1, 6),
    "checkpoint": ("exception", "TypeError: cannot be saved", 1, 6),
    "too much memory": ("exception", "RuntimeError: [enforce fail", 1, 6),
    "recursion": ("exception", "RecursionError: maximum recursion", 1, 6),
    "excepthook": ("exception", "KeyError: 'lost'", 1, 6),
    "exit": ("exit", "", 5, 6),
    "exit text": ("exit", "that was all", 1, 6),
    "os._exit": ("os._exit", "", 6, 6),
    "SIGINT": ("interrupted", "KeyboardInterrupt", 130, 6),
    "thread": ("finished", "", 0, 8),
    "warnings": ("finished", "", 0, 8),
    "removed output": ("finished", "", 0, 8),
}


@pytest.mark.parametrize(
    ("where", "ending"),
    [*QUICK.items(), *(pytest.param(*item, marks=slow) for item in LONGER.items())],
)
def test_the_script_ends_as_ever_and_the_report_says_how(tmp_path, where, ending):
    how, detail, code, steps = ending
    expected = python(ENDINGS, where, cwd=tmp_path)
    assert expected.code == (code if code < 128 else 128 - code)
    (tmp_path / "out").mkdir()
    assert run("--output-dir", "out", ENDINGS, where, cwd=tmp_path) == expected
    report = report_in(tmp_path / "out")
    assert (report["ending"]["how"], report["ending"]["code"]) == (how, code)
    assert report["ending"]["detail"].startswith(detail)
    assert steps_in(report) == steps


def test_a_killed_script_leaves_a_report_that_can_be_read(tmp_path):
    waits = script(
        tmp_path,
        """
        import glob, os, signal, time
        import torch
        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        end = time.time() + 120
        while not glob.glob("performance_report_*.json") and time.time() < end:
            optimizer.zero_grad()
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    assert run(waits, cwd=tmp_path).code == -9
    assert report_in(tmp_path)["ending"]["how"] == "running"
    (path,) = tmp_path.glob("performance_report_*.json")
    read = python("-m", "perfdoctor", "analyze", "--no-plots", path, cwd=tmp_path)
    assert read.code == 0, read.stderr
    assert "script.py" in read.stdout


def test_without_room_for_the_report_it_is_said_and_still_shown(tmp_path):
    limited = script(
        tmp_path,
        f"""
        import resource, runpy, sys
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))
        sys.argv = [{str(LOOPS)!r}, "plain"]
        runpy.run_path(sys.argv[0], run_name="__main__")
        """,
    )
    expected = python(limited, cwd=tmp_path)
    found = run(limited, cwd=tmp_path, quiet=False)
    assert (found.code, found.stdout) == (expected.code, expected.stdout)
    last = found.stderr.splitlines()[-1]
    assert last.startswith("perfdoctor: warning: the report was not finished: cannot write ")
    assert "Diagnosis" in found.stderr
    assert list(tmp_path.iterdir()) == [limited]


# -- what it is asked for ------------------------------------------------------------------------


def test_the_observation_ends_after_so_many_steps_and_the_training_goes_on(tmp_path):
    assert run("--steps", 4, LOOPS, "validation", cwd=tmp_path) == unwatched("validation")
    assert steps_in(report_in(tmp_path)) == 4


def test_the_script_can_end_with_the_observation(tmp_path):
    found = run("--steps", 4, "--stop-after", LOOPS, "validation", cwd=tmp_path)
    assert found.code == 0
    assert found.stdout.count("loss=") == 3  # it ends within the fourth step
    report = report_in(tmp_path)
    assert report["ending"]["how"] == "stopped"
    assert steps_in(report) == 4


def test_the_observation_ends_after_so_many_seconds(tmp_path):
    found = run("--max-seconds", 1e-9, "--json", "x.json", LOOPS, "validation", cwd=tmp_path)
    assert found == unwatched("validation")
    assert steps_in(json.loads((tmp_path / "x.json").read_text())) == 1


def test_a_script_sees_nothing_imported_and_its_settings_count(tmp_path):
    path = script(
        tmp_path,
        """
        import os, sys
        heavy = {"numpy", "torch", "msgspec", "rich", "pandas", "psutil", "matplotlib"}
        print(sorted({name.partition(".")[0] for name in sys.modules} & heavy))
        os.environ["OMP_NUM_THREADS"] = "1"
        import torch
        print(torch.get_num_threads())
        with torch.no_grad():
            torch.nn.Linear(4, 1)(torch.ones(2, 4))
        """,
    )
    found = run(path, cwd=tmp_path, quiet=False, OMP_NUM_THREADS="2")
    assert found.stdout == "[]\n1\n"
    assert "No step of a training was seen" in " ".join(found.stderr.replace("│", " ").split())
    report = report_in(tmp_path)
    assert report["configuration"]["threads"] == 1
    assert report["recommendations"] == []


def test_a_script_may_ask_whether_there_is_torch_before_it_imports_it(tmp_path):
    path = script(
        tmp_path,
        """
        import importlib.util  # as transformers and datasets do
        assert importlib.util.find_spec("torch") is not None
        import torch
        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(4):
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
        """,
    )
    run(path, cwd=tmp_path)
    assert steps_in(report_in(tmp_path)) == 4


def test_what_reports_need_is_imported_with_torch_and_not_while_it_trains(tmp_path):
    path = script(
        tmp_path,
        """
        import gc, sys
        assert not any(name.startswith("perfdoctor.rules") for name in sys.modules)
        gc.set_threshold(701, 11, 12)
        import torch
        needed = {"perfdoctor.rules.gains", "perfdoctor.schema", "perfdoctor.summarise"}
        print(sorted(needed - set(sys.modules)), gc.isenabled(), gc.get_threshold())
        """,
    )
    assert run(path, cwd=tmp_path).stdout == "[] True (701, 11, 12)\n"


def test_a_script_without_torch_is_told_so_and_goes_its_way(tmp_path):
    path = script(tmp_path, "import sys; print(sys.argv[1:]); sys.exit(4)")
    for words in ([path], ["-m", "script"]):
        found = run(*words, "--steps", 3, "-q", cwd=tmp_path)
        assert (found.code, found.stdout) == (4, "['--steps', '3', '-q']\n")
        hint, told = found.stderr.splitlines()
        assert "--steps stands behind" in hint
        assert "did not import torch" in told
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--json", "-", "script.py"], "stdout belongs to the script"),
        (["--stpes", "3", "script.py"], "No such option '--stpes'"),
        (["--steps", "0", "script.py"], "--steps"),
        (["--max-seconds", "-1", "script.py"], "--max-seconds"),
        (["--stop-after", "script.py"], "--stop-after needs --steps or --max-seconds"),
        ([], "Missing argument 'SCRIPT'"),
        (["nothing.py"], "there is no file 'nothing.py'"),
        (["-m", "nothing.at.all"], "cannot run -m nothing.at.all"),
        (["folder"], "it holds no __main__.py"),
        (["--output-dir", "script.py", "script.py"], "is a file"),
        (["--output-dir", "/proc/nowhere", "script.py"], "cannot write to /proc/nowhere"),
        (["--json", "nowhere/x.json", "script.py"], "no such folder"),
    ],
)
def test_what_cannot_be_run_so_is_said_before_anything_runs(tmp_path, words, says):
    script(tmp_path, "print('it ran')")
    (tmp_path / "folder").mkdir()
    found = run(*words, cwd=tmp_path)
    assert (found.code, found.stdout) == (2, "")
    assert says in found.stderr
    assert "Traceback" not in found.stderr
