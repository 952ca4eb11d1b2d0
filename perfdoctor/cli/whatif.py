"""`perfdoctor whatif`: a measured training with other workers, batches, cores or GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perfdoctor.cli.values import ListOf

if TYPE_CHECKING:
    from perfdoctor.whatif import Asked, WhatIf

_COUNT = click.IntRange(min=1)
_SWITCHES = ("persistent_workers",)


@click.command("whatif")
@click.argument("report", metavar="REPORT.json")
@click.option("--num-workers", type=ListOf(click.IntRange(0, 1024)), help="Of each GPU.")
@click.option("--prefetch-factor", type=ListOf(_COUNT), help="Batches each worker makes ahead.")
@click.option(
    "--persistent-workers/--no-persistent-workers",
    default=None,
    help="Whether workers are kept between epochs.",
)
@click.option("--batch-size", type=ListOf(_COUNT), help="Of each GPU.")
@click.option("--dataset-size", type=ListOf(_COUNT), help="Samples in an epoch.")
@click.option("--gpus", type=ListOf(_COUNT), help="GPUs of the machine, one process for each.")
@click.option("--cores", type=ListOf(click.FloatRange(min=0.5)), help="Cores, shared by all GPUs.")
@click.option("--json", "json_file", metavar="FILE|-", help="Write the answer as JSON.")
def command(report: str, json_file: str | None, **given: Any) -> None:
    """Predict a training with other settings, from a report of `bench` or `run`.

    Values may be lists such as 2,4,8: every combination is answered. Without any it shows what
    more workers would do. Both tell how many workers and cores each GPU needs, on this machine or
    another. Nothing is run.
    """
    from perfdoctor.pipeline import what_if

    found = what_if(Path(report), _asked(given))
    if json_file is not None:
        _write(json_file, found)
    if json_file != "-":
        from rich.console import Console

        from perfdoctor.render.whatif import print_whatif

        print_whatif(found, Console())


def _asked(given: Mapping[str, Any]) -> Asked:
    from perfdoctor.whatif import Asked

    persistent = given["persistent_workers"]
    lists = {name: tuple(value or ()) for name, value in given.items() if name not in _SWITCHES}
    return Asked(**lists, persistent_workers=() if persistent is None else (persistent,))


def _write(json_file: str, found: WhatIf) -> None:
    from perfdoctor.schema import to_json_document, write_atomically

    data = to_json_document(found)
    if json_file == "-":
        click.echo(data.decode(), nl=False)
    else:
        write_atomically(Path(json_file), data)
