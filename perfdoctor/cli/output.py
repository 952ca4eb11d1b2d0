"""Where a report goes: console, JSON, picture."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
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

    def write(self, report: Report, *, show_lines: bool = False) -> bool:
        """Writes the files, then prints; False if Ctrl-C left the pictures out."""
        data = schema.to_json(report)
        files = [self.folder / f"performance_report_{datetime.now():%Y%m%d_%H%M%S}.json"]
        schema.write_atomically(files[0], data)
        complete = self._draw(report, files)
        if self.json_file == STDOUT:
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
        elif self.json_file is not None:
            path = Path(self.json_file)
            schema.write_atomically(path, data)
            files.append(path)
        if not self.quiet and self.json_file != STDOUT:
            _print(report, files, show_lines)
        return complete

    def write_beside_script(self, report: Report) -> None:
        """As `write`, for a script that has stdout for itself: what people read goes to stderr."""
        data = schema.to_json(report)
        files = [self.folder / f"performance_report_{datetime.now():%Y%m%d_%H%M%S}.json"]
        schema.write_atomically(files[0], data)
        self._draw(report, files)
        if self.json_file is not None and self.json_file != STDOUT:
            path = Path(self.json_file)
            schema.write_atomically(path, data)
            files.append(path)
        if not self.quiet:
            _print(report, files, False, stderr=True)

    def _draw(self, report: Report, files: list[Path]) -> bool:
        """Draws what there is to draw and adds it to `files`."""
        if not self.plots:
            return True
        try:
            for name, picture in _pictures(report):
                schema.write_atomically(self.folder / name, picture)
                files.append(self.folder / name)
        except KeyboardInterrupt:  # what was measured is worth more than the picture
            return False
        return True


def _pictures(report: Report) -> Iterator[tuple[str, bytes]]:
    from perfdoctor.render import png

    if report.source.kind == "bench":
        yield "graph_benchmark.png", png.graph_benchmark(report)
        return
    for draw in (png.throughput, png.stages, png.comparison):
        picture = draw(report)
        if picture is not None:
            yield f"{draw.__name__}.png", picture


def _print(
    report: Report, files: list[Path], show_lines: bool, *, stderr: bool = False
) -> None:
    from rich.console import Console

    from perfdoctor.render.console import print_report

    console = Console(stderr=stderr)
    try:
        print_report(report, console, files)
        if show_lines:
            from perfdoctor.render.lines import show_lines as print_lines

            print_lines(report, console)
    except SystemExit:  # rich's answer to a reader that has gone, as `| head` does
        raise BrokenPipeError from None


def _unwritable(folder: Path, reason: str) -> PerfdoctorError:
    return PerfdoctorError(
        f"cannot write to {folder}: {reason}; choose another --output-dir or --json",
        slug="output-unwritable",
    )
