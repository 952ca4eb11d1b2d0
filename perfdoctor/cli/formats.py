"""`perfdoctor formats`: which logs can be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.text import Text


@click.command("formats")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> None:
    """List the formats that `perfdoctor analyze` reads.

    It finds out by itself which one a file is; `--format NAME` overrides. Formats of your own are
    templates of lines, given with `--pattern` or under [tool.perfdoctor.formats].
    """
    from perfdoctor import settings
    from perfdoctor.readers import formats, templates

    own = [templates.parse(n, t) for n, t in settings.load(Path.cwd()).formats.items()]
    found = formats.all_formats(own)
    if as_json:
        import msgspec

        rows = [{"name": f.name, "title": f.title, "example": f.example} for f in found]
        click.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
        return
    _print([(f.name, f.title, f.example) for f in found])


def _print(rows: list[tuple[str, str, str]]) -> None:
    from rich.table import Table

    from perfdoctor.output import on_console
    from perfdoctor.render.text import clean, shorten

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("name", "written by", "a line of it"):
        table.add_column(name, no_wrap=name == "name", overflow="fold")
    for name, title, example in rows:
        table.add_row(clean(name), clean(title), _literal(shorten(clean(example), 60)))
    on_console(lambda console: console.print(table))


def _literal(text: str) -> Text:
    from rich.text import Text

    return Text(text, "dim", no_wrap=True, overflow="ellipsis")
