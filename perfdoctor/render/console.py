"""A report on the console, in the order in which it is read."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from perfdoctor.render import words
from perfdoctor.render.advice import recommendations, verdict
from perfdoctor.render.facts import Fact, fact_grid, heading, numbers
from perfdoctor.render.tables import comparison_table, stage_table
from perfdoctor.render.text import clean, number
from perfdoctor.report import Abstained, Report

_SKIPPED_SHOWN = 5
_MISSING_SHOWN = 4
#: What stands for the characters that perfdoctor draws with where only ASCII can be written.
_ASCII = {
    "–": "-",
    "—": "-",
    "×": "x",
    "±": "+/-",
    "µ": "u",
    "÷": "/",
    "·": "|",
    "…": "...",
    "★": "*",
    "█": "#",
    "°": "deg ",
    **dict.fromkeys("▉▊▋▌▍▎▏", "-"),
}


def print_report(report: Report, console: Console, files: Sequence[Path] = ()) -> None:
    """Prints everything that the report says; `files` are the files written from it.

    Text of the user's (names, paths, code) is shown as it is: neither markup nor control
    characters in it have an effect.
    """
    with _encodable(console):
        for part in _parts(report, console.width, files):
            console.print(part)


def _parts(report: Report, width: int, files: Sequence[Path]) -> Iterator[RenderableType]:
    yield _header(report)
    yield heading("Where the time of a step goes")
    yield stage_table(report, width)
    yield heading("Numbers")
    yield fact_grid(numbers(report))
    if report.diagnosis is not None:
        yield heading("Diagnosis")
        yield verdict(report.diagnosis)
        yield from recommendations(report)
    if report.comparison is not None:
        yield heading("Comparison")
        yield comparison_table(report.comparison, width)
    closing = list(_closing(report, files))
    if closing:
        yield Text()
        yield Group(*closing)


def _header(report: Report) -> RenderableType:
    environment = report.environment
    facts: list[Fact] = [
        ("device", words.device(environment)),
        ("machine", words.machine(environment)),
        ("software", words.software(environment)),
        ("settings", words.configuration(report.configuration) or None),
        ("measured", words.measured(report.steps, report.sampling)),
    ]
    facts += [("note" if not i else "", clean(note)) for i, note in enumerate(report.notes)]
    title = Text.assemble(" ", (clean(report.name), "bold"), " ")
    return Panel(fact_grid(facts), title=title, title_align="left", border_style="cyan")


def _closing(report: Report, files: Sequence[Path]) -> Iterator[RenderableType]:
    for warning in report.warnings:
        yield _hanging("!", "bold yellow", clean(warning))
    if report.skipped:
        yield _skipped(report)
    if report.abstained:
        yield Text(_abstained(report.abstained), "dim")
    for path in files:
        yield Text.assemble(("wrote ", "dim"), clean(path), overflow="fold")


def _hanging(mark: str, style: str, text: str) -> RenderableType:
    return fact_grid([(mark, text)], label_style=style)


def _skipped(report: Report) -> RenderableType:
    count = len(report.skipped)
    first = Text(f"{number(count)} file{'s' if count != 1 else ''} skipped, unreadable:", "yellow")
    shown = [
        Text.assemble(clean(file.path), (f": {clean(file.reason)}", "dim"))
        for file in report.skipped[:_SKIPPED_SHOWN]
    ]
    if count > _SKIPPED_SHOWN:
        shown.append(Text(f"and {number(count - _SKIPPED_SHOWN)} more", "dim"))
    return Group(first, *(Padding(line, (0, 0, 0, 2)) for line in shown))


def _abstained(abstained: Sequence[Abstained]) -> str:
    count = len(abstained)
    missing = list(dict.fromkeys(clean(rule.missing) for rule in abstained))
    more = len(missing) - _MISSING_SHOWN
    named = "; ".join(missing[:_MISSING_SHOWN]) + (f"; and {more} more" if more > 0 else "")
    rules = "rule" if count == 1 else "rules"
    return f"{count} {rules} could not decide (perfdoctor bench --json shows why); missing: {named}"


@contextmanager
def _encodable(console: Console) -> Iterator[None]:
    """While it lasts, characters that the output cannot encode are replaced, not raised.

    Pipes on Windows and in the C locale are not always UTF-8.
    """
    file = console.file
    if not console.options.ascii_only or not isinstance(file, io.TextIOWrapper):
        yield
        return
    before = file.errors or "strict"
    codecs.register_error("perfdoctor", _replace)
    file.reconfigure(errors="perfdoctor")
    try:
        yield
    finally:
        file.reconfigure(errors=before)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unencodable = error.object[error.start : error.end]
    return "".join(_ASCII.get(character, "?") for character in unencodable), error.end
