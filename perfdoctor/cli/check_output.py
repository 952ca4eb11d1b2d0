"""Where the result of a check goes: people, files for CI systems, a picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from perfdoctor.compare.checks import CheckResult
    from perfdoctor.render.check_errors import Unmeasured

_OPTIONS = (
    click.option("--json", "json_file", metavar="FILE|-", help="Everything, as JSON."),
    click.option("--junit", metavar="FILE", help="JUnit XML: one test case a criterion."),
    click.option("--markdown", metavar="FILE", help="A summary in Markdown."),
    click.option("--gitlab", metavar="FILE", help="A GitLab code quality report."),
    click.option("--metrics", metavar="FILE", help="OpenMetrics text, as GitLab's metrics report."),
    click.option("--picture", metavar="FILE", help="A picture of what was measured (PNG)."),
    click.option("--quiet", "-q", is_flag=True, help="Print errors only."),
)
_FILES = ("json_file", "junit", "markdown", "gitlab", "metrics", "picture")


def check_output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def writable(given: Mapping[str, Any]) -> None:
    """Looks before anything is measured.

    Raises:
        PerfdoctorError: a file cannot be written.
    """
    from perfdoctor.errors import PerfdoctorError

    for name in _FILES:
        if given[name] in (None, "-"):
            continue
        folder = Path(given[name]).absolute().parent
        while not folder.exists():
            folder = folder.parent
        if not os.access(folder, os.W_OK | os.X_OK) or Path(given[name]).is_dir():
            raise PerfdoctorError(
                f"cannot write {given[name]}; choose another place", slug="output-unwritable"
            )


def remove_old(given: Mapping[str, Any]) -> None:
    """What an earlier check has written must not pass for the result of this one."""
    for name in _FILES:
        if given[name] not in (None, "-") and Path(given[name]).is_file():
            with suppress(OSError):  # then it cannot be written either, which is told
                Path(given[name]).unlink()


def deliver_error(given: Mapping[str, Any], failed: Unmeasured) -> None:
    """Tells CI why there is no result, as far as that can be written; people read it on stderr."""
    from perfdoctor.errors import PerfdoctorError
    from perfdoctor.output import write_document
    from perfdoctor.render import check_errors as of_error
    from perfdoctor.schema import to_json_document

    made: dict[str, Callable[[], bytes]] = {
        "json_file": lambda: to_json_document(failed),
        "junit": lambda: of_error.as_junit(failed),
        "markdown": lambda: of_error.as_markdown(failed).encode(errors="replace"),
        "gitlab": lambda: of_error.as_code_quality(failed),
        "metrics": lambda: of_error.as_metrics(failed),
    }
    for name, make in made.items():
        with suppress(PerfdoctorError, OSError):
            write_document(given[name], make)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        of_error.tell_github(failed, os.environ, commands=given["json_file"] != "-")


def deliver(given: Mapping[str, Any], result: CheckResult) -> None:
    """Writes the files, tells GitHub Actions if it is there, and prints."""
    from perfdoctor.output import on_console, write_document
    from perfdoctor.render import github, gitlab, junit, markdown, sides_picture
    from perfdoctor.schema import to_json_document

    strict = given["inconclusive"] == "fail"
    made: dict[str, Callable[[], bytes]] = {
        "json_file": lambda: to_json_document(result),
        "junit": lambda: junit.of_check(result, strict=strict),
        "markdown": lambda: markdown.check(result).encode(),
        "gitlab": lambda: gitlab.code_quality(result),
        "metrics": lambda: gitlab.metrics(result),
        "picture": lambda: sides_picture.of_check(result),
    }
    files = [write_document(given[name], make) for name, make in made.items()]
    to_stdout = given["json_file"] == "-"
    if os.environ.get("GITHUB_ACTIONS") == "true":
        github.tell(result, os.environ, commands=not to_stdout, strict=strict)
    if not given["quiet"] and not to_stdout:
        from perfdoctor.render.check_console import print_check

        written = [file for file in files if file is not None]
        on_console(lambda console: print_check(result, console, written))
