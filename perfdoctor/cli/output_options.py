"""The options that say where a report goes, the same in every command that makes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from perfdoctor.output import Output

_OPTIONS = (
    click.option(
        "--output-dir",
        type=click.Path(file_okay=False, readable=False, path_type=Path),
        default=Path(),
        help="Where files are written. [default: here]",
    ),
    click.option("--json", "json_file", metavar="FILE|-", help="Also write the report there."),
    click.option("--quiet", "-q", is_flag=True, help="Print errors only."),
    click.option("--no-plots", is_flag=True, help="Draw no pictures."),
)


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --output-dir, --json, --quiet and --no-plots."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def checked_output(given: Mapping[str, Any]) -> Output:
    """Where these options send a report. Raises `PerfdoctorError` if it cannot be written there."""
    from perfdoctor.output import Output

    output = Output(given["output_dir"], given["json_file"], given["quiet"], not given["no_plots"])
    output.check()
    return output
