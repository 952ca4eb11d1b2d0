"""`perfdoctor explain`: one rule in full."""

from __future__ import annotations

import sys

import click


@click.command("explain")
@click.argument("rule", metavar="CODE|NAME")
def command(rule: str) -> None:
    """Explain one cause of slow training: why, evidence and threshold, what to change."""
    from perfdoctor.rules import catalogue

    found = catalogue.find(catalogue.load().rules, rule)
    text = f"{catalogue.explanation(found)}\n*{catalogue.attributes(found)}*\n"
    if sys.stdout.isatty():
        _print_formatted(text)
    else:
        click.echo(text, nl=False)


def _print_formatted(text: str) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    Console(width=min(100, Console().width)).print(Markdown(text))
