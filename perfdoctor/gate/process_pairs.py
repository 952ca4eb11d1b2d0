"""Pairs of processes one after the other, for what cannot be stepped from outside.

AB, BA, AB, …: whatever drifts evenly hits both sides alike. On a busy machine the spread is five
times that of processes in lock step, and a check stays inconclusive.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfdoctor import schema
from perfdoctor.compare.judging import PairValues
from perfdoctor.errors import PerfdoctorError, UserCodeError
from perfdoctor.gate import origins
from perfdoctor.gate.measured import of_reports
from perfdoctor.gate.sides import RunningSide, last_lines, on_side
from perfdoctor.report import Report


@dataclass
class _Processes:
    """One process of each side a pair, which may take `patience_s`.

    `reports` are those of both sides so far.
    """

    sides: tuple[RunningSide, RunningSide]
    patience_s: float
    reports: tuple[list[Report], list[Report]] = field(default_factory=lambda: ([], []), init=False)

    def measure(self, number: int) -> PairValues:
        """One pair.

        Raises:
            PerfdoctorError: a side fails, writes no report, or runs code that is not its own.
        """
        for i in (0, 1) if number % 2 == 0 else (1, 0):
            try:
                self.reports[i].append(self._run(self.sides[i], number))
            except PerfdoctorError as error:
                raise on_side(self.sides[i], error) from None
        return of_reports(self.reports[0][-1], self.reports[1][-1])

    @property
    def cannot_shorten(self) -> bool:
        """A process takes as long as it takes."""
        return True

    def protocol(self) -> dict[str, Any]:
        """How a pair is measured."""
        return {"pairs": "one after the other", "order": "AB, BA, …"}

    def one(self, number: int) -> Report:
        """One process of the new side.

        Raises:
            PerfdoctorError: it fails, or writes no report.
        """
        return self._run(self.sides[1], number)

    def _run(self, side: RunningSide, number: int) -> Report:
        raise NotImplementedError


@dataclass
class ScriptPairs(_Processes):
    """A training script, observed for some steps and then ended."""

    script: tuple[str, ...]
    steps: int

    def _run(self, side: RunningSide, number: int) -> Report:
        path = side.checkout.scratch / f"{number}.json"
        command = [
            side.python, "-m", "perfdoctor", "run", "--steps", str(self.steps), "--stop-after",
            "--no-plots", "-q", "--output-dir", str(side.checkout.scratch / "reports"),
            "--json", str(path), *self.script,
        ]  # fmt: skip
        run_observed(command, side, self.patience_s)
        return read_report(path, side)

    def protocol(self) -> dict[str, Any]:
        """How a pair is measured."""
        return {**super().protocol(), "steps": self.steps}


@dataclass
class CommandPairs(_Processes):
    """Any command that writes a perfdoctor report; `report` is relative to where it runs."""

    command: str
    report: str

    def _run(self, side: RunningSide, number: int) -> Report:
        path = side.cwd / self.report
        with suppress(FileNotFoundError):
            path.unlink()  # an old one must not pass for a new one
        run_observed([shutil.which("bash") or "/bin/sh", "-c", self.command], side, self.patience_s)
        return read_report(path, side)


def run_observed(command: Sequence[str], side: RunningSide, patience_s: float) -> None:
    """Runs a command to its end, and looks which code its Python processes have loaded.

    Raises:
        UserCodeError: it fails, or does not end, with the end of what it printed.
        PerfdoctorError: it loaded code of another checkout.
    """
    folder = side.checkout.scratch / "origins"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    environment = {**os.environ, **origins.environment(side.environment, folder)}
    log = side.checkout.scratch / "output.log"
    code = _run(command, side.cwd, environment, log, patience_s)
    if code is None or code:
        raise UserCodeError(
            _ended(code, patience_s),
            slug="side-failed",
            details=last_lines(log.read_text(errors="replace")),
        )
    side.check_origins(origins.loaded(folder))


def _ended(code: int | None, patience_s: float) -> str:
    if code is None:
        return f"it had not ended after {patience_s:.0f} s; a longer --max-seconds waits longer"
    return f"it ended by signal {-code}" if code < 0 else f"it ended with code {code}"


def _run(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str], log: Path, patience_s: float
) -> int | None:
    """Its exit code; None where it does not end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            return process.wait(patience_s)
        except subprocess.TimeoutExpired:
            return None
        finally:  # Ctrl-C, or what it has left running
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def read_report(path: Path, side: RunningSide) -> Report:
    """The report that a process has written.

    Raises:
        PerfdoctorError: it has written none that can be read, or one without steps.
    """
    try:
        data = path.read_bytes()
    except OSError:
        log = side.checkout.scratch / "output.log"
        raise UserCodeError(
            f"it ended without writing the report {path.name}",
            slug="report-not-written",
            details=last_lines(log.read_text(errors="replace")),
        ) from None
    report = schema.from_json(data, str(path))
    if report.steps is None:
        raise PerfdoctorError(f"{path.name} tells of no step", slug="no-steps")
    return report
