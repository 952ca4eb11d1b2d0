"""`perfdoctor analyze`: what the logs of earlier runs tell."""

from __future__ import annotations

import gc
import os
import shlex
import sys
from collections.abc import Mapping
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perfdoctor.cli.output_options import checked_output, output_options
from perfdoctor.cli.values import Seconds
from perfdoctor.errors import EXIT_DONE, EXIT_INTERRUPTED

if TYPE_CHECKING:
    from perfdoctor.pipeline import AnalyzeRequest
    from perfdoctor.report import Report
    from perfdoctor.settings import Settings


@click.command("analyze")
@click.argument("paths", nargs=-1, required=True, metavar="LOG...")
@click.option(
    "--format", "format_name", metavar="NAME", help="Read as this format, whatever it looks like."
)
@click.option(
    "--pattern",
    multiple=True,
    metavar="TEMPLATE",
    help="Your own lines: 'step {step:d} .* {step_time_ms:f}'. Types: d whole number, f number, "
    "t time or duration, w word; .* stands for anything. May be given several times.",
)
@click.option("--follow", is_flag=True, help="Go on as the file grows, until Ctrl-C.")
@click.option(
    "--interval",
    type=Seconds(min=0.2),
    default=5.0,
    show_default=True,
    help="Seconds between two looks at a growing file.",
)
@click.option("--show-lines", is_flag=True, help="Show which line each value is from.")
@output_options
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Read the logs that earlier runs left behind, and say what made them slow.

    LOG is a file, a folder, a pattern such as 'runs/*.log', or - for standard input; .gz, .xz,
    .zst and .bz2 are unpacked. What wrote the file is found out (see `perfdoctor formats`).
    A folder is one run: its logs, metrics, TensorBoard events and hardware samples together.
    Several runs are compared.
    """
    if given["follow"] and (len(given["paths"]) != 1 or given["paths"][0] == "-"):
        raise click.UsageError("--follow needs exactly one file; a pipe ends by itself")
    ctx.exit(_run(given))


def _run(given: Mapping[str, Any]) -> int:
    gc.set_threshold(500_000)  # importing makes many objects and no garbage to look for
    if "numpy" not in sys.modules:  # logs have no matrices, and threads that wait for some spin
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from perfdoctor import settings
    from perfdoctor.output import STDOUT
    from perfdoctor.painting import painter

    output = checked_output(given)
    drawn_once = output.plots and not given["follow"]
    with painter(given["paths"] if drawn_once else ()) as draw:
        rules = settings.load(Path.cwd())
        with redirect_stdout(sys.stderr) if output.json_file == STDOUT else nullcontext():
            if given["follow"]:
                from perfdoctor.cli.following import follow

                report = follow(_request(given), rules, given["interval"], quiet=given["quiet"])
            else:
                report = _once(given, rules)
        complete = replace(output, draw=draw).write(report, show_lines=given["show_lines"])
    return EXIT_DONE if complete else EXIT_INTERRUPTED


def _once(given: Mapping[str, Any], rules: Settings) -> Report:
    from perfdoctor import pipeline
    from perfdoctor.cli.progress import shown_progress

    with shown_progress(quiet=given["quiet"], only_long=True) as progress:
        return pipeline.analyze(_request(given), rules, progress)


def _request(given: Mapping[str, Any]) -> AnalyzeRequest:
    from perfdoctor.pipeline import AnalyzeRequest

    return AnalyzeRequest(
        paths=given["paths"],
        format_name=given["format_name"],
        templates=given["pattern"],
        command=shlex.join(["perfdoctor", *sys.argv[1:]]),
    )
