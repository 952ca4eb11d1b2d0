"""`perfdoctor whatif`: a measured training with other workers, batches, cores or GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perfdoctor.cli.values import Count, ListOf

if TYPE_CHECKING:
    from perfdoctor.whatif import Asked

_COUNT = Count(min=1)
_SWITCHES = ("persistent_workers",)


@click.command("whatif")
@click.argument("report", metavar="REPORT.json")
@click.option("--num-workers", type=ListOf(Count(0, 1024)), help="Loader workers for each GPU.")
@click.option("--prefetch-factor", type=ListOf(_COUNT), help="Batches each worker makes ahead.")
@click.option(
    "--persistent-workers/--no-persistent-workers",
    default=None,
    help="Whether workers are kept between epochs.",
)
@click.option("--batch-size", type=ListOf(_COUNT), help="Samples per batch, on each GPU.")
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
    from perfdoctor.output import STDOUT, on_console, write_document
    from perfdoctor.pipeline import what_if
    from perfdoctor.schema import to_json_document

    found = what_if(Path(report), _asked(given))
    file = write_document(json_file, lambda: to_json_document(found))
    if json_file != STDOUT:
        from perfdoctor.render.whatif import print_whatif

        on_console(lambda console: print_whatif(found, console, file))


def _asked(given: Mapping[str, Any]) -> Asked:
    from perfdoctor.whatif import Asked

    persistent = given["persistent_workers"]
    lists = {name: tuple(value or ()) for name, value in given.items() if name not in _SWITCHES}
    return Asked(**lists, persistent_workers=() if persistent is None else (persistent,))
