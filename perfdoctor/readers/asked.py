"""What the user asked the files to be read by, and whether that gave anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers.records import Reading

#: The name of the format that the templates of the command line are.
PATTERN = "pattern"


@dataclass(frozen=True)
class Asked:
    """`format_name` counts before `templates`; with neither, any reading will do."""

    format_name: str | None = None
    templates: tuple[str, ...] = ()

    def fits(self, reading: Reading) -> bool:
        """Whether what was asked for gave something."""
        wanted = self.format_name or (PATTERN if self.templates else None)
        return reading.format == wanted and tells(reading)

    def missed(self, reading: Reading) -> bool:
        """Whether what was asked for says nothing about this file.

        Samples of hardware use and reports are no lines that templates are meant for.
        """
        if self.format_name is None and not self.templates:
            return False
        lines = reading.hardware is None and reading.report is None
        return lines and not self.fits(reading)

    def gave_nothing(self, reading: Reading) -> bool:
        """Whether the file is left out: it was read as it was asked for, without result."""
        return self.missed(reading) and not tells(reading)

    def reason(self) -> str:
        """Why a file gave nothing, without its name."""
        if self.format_name is not None:
            return f"nothing in it can be read as {self.format_name}, which --format asks for"
        return f"no line gives a value by the {_templates(self.templates)}"

    def warning(self, reading: Reading) -> str:
        """For the report, of a file that other files' templates do not fit."""
        return f"{Path(reading.path).name}: {self.reason()}; it was read as {reading.format}"

    def failure(self, paths: Sequence[str]) -> PerfdoctorError:
        """None of the files could be read in the way that was asked for."""
        others = f" (nor in {len(paths) - 1} more)" if len(paths) > 1 else ""
        if self.format_name is not None:
            return PerfdoctorError(
                f"{paths[0]}: {self.reason()}{others}; without --format it is found out what "
                "wrote the file",
                slug="format-gives-nothing",
            )
        return PerfdoctorError(
            f"{paths[0]}: {self.reason()}{others}; all but its {{fields}}, .* and the width of "
            "gaps must stand in the line as it is given",
            slug="template-fits-nothing",
        )


def _templates(templates: Sequence[str]) -> str:
    shown = ", ".join(repr(template) for template in templates)
    return f"template {shown}" if len(templates) == 1 else f"templates {shown}"


def tells(reading: Reading) -> bool:
    """Whether anything at all was read."""
    found = len(reading.records) or reading.facts or reading.hotspots
    return bool(found) or reading.hardware is not None or reading.report is not None
