"""Where a report goes: console, JSON, picture."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from perfdoctor import schema
from perfdoctor.errors import PerfdoctorError
from perfdoctor.report import Report

STDOUT = "-"


@dataclass(frozen=True)
class Output:
    """What to write, and where.

    Attributes:
        folder: for the report and the picture.
        json_file: a further file for the report, or `-` for stdout alone.
        quiet: nothing on the console. plots: whether to draw.
    """

    folder: Path
    json_file: str | None
    quiet: bool
    plots: bool

    def check(self) -> None:
        """Makes the folder, before time is spent on measuring.

        Raises:
            PerfdoctorError: it cannot be made or written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.folder, error.strerror or str(error)) from None
        folders = [self.folder]
        if self.json_file not in (None, STDOUT):
            folders.append(Path(str(self.json_file)).absolute().parent)
        for folder in folders:
            if not os.access(folder, os.W_OK | os.X_OK):
                raise _unwritable(folder, "no such folder, or no permission to write")

    def write(self, report: Report) -> None:
        """Writes the files, then prints."""
        data = schema.to_json(report)
        files = self._files(report, data)
        if self.json_file == STDOUT:
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
        elif self.json_file is not None:
            path = Path(self.json_file)
            schema.write_atomically(path, data)
            files.append(path)
        if not self.quiet and self.json_file != STDOUT:
            _print(report, files)

    def _files(self, report: Report, data: bytes) -> list[Path]:
        stamp = datetime.now().strftime("%Y%m%d_%H%M%S")
        files = [self.folder / f"performance_report_{stamp}.json"]
        schema.write_atomically(files[0], data)
        if self.plots:
            from perfdoctor.render.png import graph_benchmark

            files.append(self.folder / "graph_benchmark.png")
            schema.write_atomically(files[1], graph_benchmark(report))
        return files


def _print(report: Report, files: list[Path]) -> None:
    from rich.console import Console

    from perfdoctor.render.console import print_report

    print_report(report, Console(), files)


def _unwritable(folder: Path, reason: str) -> PerfdoctorError:
    return PerfdoctorError(
        f"cannot write to {folder}: {reason}; choose another --output-dir or --json",
        slug="output-unwritable",
    )
