"""Where a report goes: console, JSON, picture."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from perfdoctor.errors import PerfdoctorError
from perfdoctor.interrupts import hasty
from perfdoctor.painting import Pictures, pictures

if TYPE_CHECKING:  # numpy comes with the first, and `run` must not import that before the script
    from rich.console import Console

    from perfdoctor.report import Report

STDOUT = "-"
#: Reports of one folder and one second; of more, the last ones replace each other.
_MOST_ALIKE = 100


@dataclass(frozen=True)
class Output:
    """What to write, and where.

    Attributes:
        folder: for the report and the picture.
        json_file: a further file for the report, or `-` for stdout alone.
        quiet: nothing on the console. plots: whether to draw.
        began: gives the report its name. draw: what makes the pictures.
    """

    folder: Path
    json_file: str | None
    quiet: bool
    plots: bool
    began: datetime = field(default_factory=datetime.now)
    draw: Callable[[Report], Pictures] = field(default=pictures, compare=False, repr=False)
    _taken: list[Path] = field(default_factory=list, compare=False, repr=False)

    @property
    def report_path(self) -> Path:
        """Where the report is written."""
        return self._taken[0] if self._taken else self._path("")

    def _path(self, further: str) -> Path:
        return self.folder / f"performance_report_{self.began:%Y%m%d_%H%M%S}{further}.json"

    def _write(self, report: Report) -> Path:
        """Under a name that is this report's alone: two runs may have begun in the same second."""
        from perfdoctor import schema

        data = schema.to_json(report)
        if self._taken or not self._written_anew(data):
            schema.write_atomically(self.report_path, data)
        return self.report_path

    def _written_anew(self, data: bytes) -> bool:
        """Whether a name was free. The file comes whole: scripts may wait for it."""
        from perfdoctor import schema

        for number in range(1, _MOST_ALIKE):
            path = self._path("" if number == 1 else f"_{number}")
            if schema.write_atomically(path, data, replace=False):
                self._taken.append(path)
                return True
        return False

    def anchored(self) -> Output:
        """The same files, whatever folder the process changes to."""
        json_file = self.json_file
        if json_file not in (None, STDOUT):
            json_file = str(Path(str(json_file)).absolute())
        return replace(self, folder=self.folder.absolute(), json_file=json_file)

    def check(self) -> None:
        """Makes the folder, before time is spent on measuring.

        Raises:
            PerfdoctorError: it cannot be made or written.
        """
        self._make_folder()
        folders = [self.folder]
        if self.json_file not in (None, STDOUT):
            folders.append(Path(str(self.json_file)).absolute().parent)
        for folder in folders:
            if not os.access(folder, os.W_OK | os.X_OK):
                raise _unwritable(folder, "no such folder, or no permission to write")

    def write(self, report: Report, *, show_lines: bool = False) -> bool:
        """Writes the files, then prints; False if Ctrl-C left the pictures out."""
        files, complete = self._files(report)
        if self.json_file == STDOUT:
            from perfdoctor import schema

            sys.stdout.buffer.write(schema.to_json(report))
            sys.stdout.flush()
        elif not self.quiet:
            print_report(report, files, show_lines=show_lines)
        return complete

    def write_beside_script(self, report: Report) -> None:
        """As `write`, for a script that has stdout for itself: what people read is on stderr."""
        files: list[Path] = []
        try:
            files, _ = self._files(report)
        finally:  # on a full disk it is still worth reading
            if not self.quiet:
                print_report(report, files, stderr=True)

    def write_partial(self, report: Report) -> Path | None:
        """The report so far, where the final one will replace it; None where there is no folder."""
        if not self.folder.is_dir():  # the script has removed it, and may be about to make it
            return None
        return self._write(report)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.folder, error.strerror or str(error)) from None

    def _files(self, report: Report) -> tuple[list[Path], bool]:
        """The files written, and whether all were."""
        from perfdoctor import schema

        self._make_folder()  # the script may have removed it
        path = self._write(report)
        drawn, complete = write_pictures(path.parent, self.draw(report) if self.plots else ())
        files = [path, *drawn]
        if self.json_file not in (None, STDOUT):
            path = Path(str(self.json_file))
            schema.write_atomically(path, schema.to_json(report))
            files.append(path)
        return files, complete


def write_pictures(folder: Path, drawn: Pictures) -> tuple[list[Path], bool]:
    """Writes the pictures; False with the paths if Ctrl-C left some out.

    Raises:
        PerfdoctorError: one cannot be written.
    """
    from perfdoctor import schema

    files: list[Path] = []
    try:
        with hasty():
            for name, picture in drawn:
                schema.write_atomically(folder / name, picture)
                files.append(folder / name)
    except KeyboardInterrupt:  # what was measured is worth more than the picture
        return files, False
    return files, True


def write_document(place: str | None, make: Callable[[], bytes]) -> Path | None:
    """Writes what `make` gives to a file, made whole or not at all, or to stdout for `-`.

    Returns the path of the file; None where there is none.

    Raises:
        PerfdoctorError: it cannot be written.
    """
    from perfdoctor import schema

    if place is None:
        return None
    if place == STDOUT:
        sys.stdout.buffer.write(make())
        sys.stdout.flush()
        return None
    path = Path(place)
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path.parent, error.strerror or str(error)) from None
    schema.write_atomically(path, make())
    return path


def print_report(
    report: Report, files: Sequence[Path], *, show_lines: bool = False, stderr: bool = False
) -> None:
    """What people read."""
    from perfdoctor.render import console as text

    def show(console: Console) -> None:
        text.print_report(report, console, files)
        if show_lines:
            from perfdoctor.render.lines import show_lines as print_lines

            print_lines(report, console)

    on_console(show, stderr=stderr)


def on_console(show: Callable[[Console], None], *, stderr: bool = False) -> None:
    """Prints.

    Raises:
        BrokenPipeError: its reader has gone, as `| head` does.
    """
    from rich.console import Console

    try:
        show(Console(stderr=stderr))
    except SystemExit:  # how rich says so
        raise BrokenPipeError from None


def _unwritable(folder: Path, reason: str) -> PerfdoctorError:
    return PerfdoctorError(
        f"cannot write to {folder}: {reason}; choose another --output-dir or --json",
        slug="output-unwritable",
    )
