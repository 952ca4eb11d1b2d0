"""`perfdoctor compare`: what changed between two sides."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perfdoctor.errors import EXIT_DONE

if TYPE_CHECKING:
    from perfdoctor.compare.shifts import Sides

_PICTURE = "compare.png"
#: Stands between the two sides where a side is more than one file.
_VERSUS = "vs"


@click.command("compare")
@click.argument("paths", nargs=-1, required=True, metavar="BEFORE... [vs] AFTER...")
@click.option(
    "--margin",
    type=click.FloatRange(min=0, max=50, min_open=True),
    default=5.0,
    show_default=True,
    metavar="PERCENT",
    help="A change below this is called the same.",
)
@click.option("--json", "json_file", metavar="FILE|-", help="Write the comparison as JSON.")
@click.option("--markdown", "markdown_file", metavar="FILE|-", help="Write it as Markdown.")
@click.option(
    "--output-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where the picture goes. [default: here]",
)
@click.option("--no-plots", is_flag=True, help="Draw no picture.")
@click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Say what changed between two reports, groups of reports, logs or folders of a run.

    \b
    perfdoctor compare old.json new.json
    perfdoctor compare old/*.json vs new/*.json
    perfdoctor compare runs/before/ runs/after/

    Several reports a side tell how much runs of the same code differ; with one a side only large
    changes can be told. To decide whether code became slower, use `perfdoctor check`.
    """
    ctx.exit(_run(given, *_sides(given["paths"])))


def _sides(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """The paths before and after `vs`, or the two there are."""
    found = list(paths)
    if found.count(_VERSUS) == 1:
        where = found.index(_VERSUS)
        before, after = found[:where], found[where + 1 :]
        if before and after:
            return before, after
    elif len(found) == 2:
        return found[:1], found[1:]
    raise click.UsageError(
        "give two sides: `compare OLD NEW`, or groups of files with `vs` between them: "
        "`compare old/*.json vs new/*.json`"
    )


def _run(given: Mapping[str, Any], before: list[str], after: list[str]) -> int:
    to_stdout = [given["json_file"], given["markdown_file"]].count("-")
    if to_stdout > 1:
        raise click.UsageError("--json - and --markdown - exclude each other")
    with redirect_stdout(sys.stderr) if to_stdout else nullcontext():
        found = _compared(given, before, after)
    _write(given, found, alone=bool(to_stdout))
    return EXIT_DONE


def _compared(given: Mapping[str, Any], before: list[str], after: list[str]) -> Sides:
    from perfdoctor import pipeline, settings
    from perfdoctor.cli.progress import shown_progress

    rules = settings.load(Path.cwd())
    with shown_progress(quiet=given["quiet"], only_long=True) as progress:
        return pipeline.compare(
            pipeline.AnalyzeRequest(paths=before),
            pipeline.AnalyzeRequest(paths=after),
            (_label(before), _label(after)),
            given["margin"] / 100,
            rules,
            progress,
        )


def _label(paths: list[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def _write(given: Mapping[str, Any], found: Sides, *, alone: bool) -> None:
    from perfdoctor.output import on_console, write_document
    from perfdoctor.render import markdown, sides_picture
    from perfdoctor.schema import to_json_document

    files = [
        write_document(given["json_file"], lambda: to_json_document(found)),
        write_document(given["markdown_file"], lambda: markdown.sides(found).encode()),
    ]
    if not given["no_plots"] and (picture := sides_picture.png(found)) is not None:
        files.append(write_document(str(given["output_dir"] / _PICTURE), lambda: picture))
    if not alone and not given["quiet"]:
        from perfdoctor.render.compare_console import print_sides

        written = [file for file in files if file is not None]
        on_console(lambda console: print_sides(found, console, written))
