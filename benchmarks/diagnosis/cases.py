"""What `score.py` and `measure.py` share: the cases of a folder and how a script is run.

A case is a folder with `train.py` and `truth.json`; cases with a fault have `train_fixed.py` too.
Where a rule advises another mending, which brings something else, that is `train_fixed_RULE.py`.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
POLL_S = 0.02

# OpenMP threads that spin while they wait distort every time on a machine that others use too.
PASSIVE = {"OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True)
class Case:
    """One script with its truth."""

    folder: Path
    truth: dict[str, Any]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def train(self) -> Path:
        return self.folder / "train.py"

    @property
    def fixed(self) -> Path:
        return self.folder / "train_fixed.py"

    @property
    def others(self) -> dict[str, Path]:
        """Rule → the script mended as that rule has it, where its advice is another one."""
        found = sorted(self.folder.glob("train_fixed_*.py"))
        return {path.stem.removeprefix("train_fixed_"): path for path in found}

    @property
    def accepted(self) -> set[str]:
        """The bottlenecks that count as right."""
        return {self.truth["bottleneck"], *self.truth.get("also_accepted_bottlenecks", [])}


@dataclass(frozen=True)
class Outcome:
    """How one run of a script went; `waited_s` is what its main thread waited for a core."""

    returncode: int
    wall_s: float
    waited_s: float
    stdout: str
    stderr: str

    @property
    def idle_s(self) -> float:
        """An estimate of the wall time on an idle machine."""
        return self.wall_s - self.waited_s


def load_cases(folder: Path, only: Sequence[str] = ()) -> list[Case]:
    """The cases of `folder` by name; `only` holds parts of names (all if empty)."""
    truths = sorted(folder.glob("*/truth.json"))
    cases = [Case(path.parent, json.loads(path.read_text())) for path in truths]
    return [case for case in cases if not only or any(part in case.name for part in only)]


def missing_packages(script: Path) -> list[str]:
    """The top-level packages that `script` imports and that are not installed."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return sorted(name for name in names if importlib.util.find_spec(name) is None)


def run_script(arguments: Sequence[str | Path], cwd: Path, timeout_s: float = 600.0) -> Outcome:
    """Runs `python ARGUMENTS` in `cwd`; a run past `timeout_s` is killed (exit code negative)."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **PASSIVE},
        )
        waited_s = _wait(process, started + timeout_s)
        wall_s = time.perf_counter() - started
        out.seek(0)
        err.seek(0)
        return Outcome(process.returncode, wall_s, waited_s, out.read(), err.read())


def _wait(process: subprocess.Popen[bytes], deadline: float) -> float:
    """Waits for the end; the seconds its main thread stood ready without a core (0 if unknown)."""
    waited_s = 0.0
    path = Path(f"/proc/{process.pid}/schedstat")
    while process.poll() is None:
        with contextlib.suppress(OSError, IndexError):  # not Linux, or it ended just now
            waited_s = max(waited_s, int(path.read_text().split()[1]) / 1e9)
        if time.perf_counter() > deadline:
            process.kill()
        time.sleep(POLL_S)
    return waited_s
