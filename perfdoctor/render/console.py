"""A report on the console, in the order in which it is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from perfdoctor.render import log_abstentions, words
from perfdoctor.render.advice import recommendations, verdict
from perfdoctor.render.encoding import encodable
from perfdoctor.render.facts import Fact, fact_grid, heading, noted, numbers, surroundings
from perfdoctor.render.log_console import log_parts, unread
from perfdoctor.render.log_tables import runs_table
from perfdoctor.render.log_words import from_log
from perfdoctor.render.ranks import rank_table
from perfdoctor.render.run_console import observed, run_parts
from perfdoctor.render.tables import comparison_table, stage_table
from perfdoctor.render.text import clean, number
from perfdoctor.render.trials import trials
from perfdoctor.report import Comparison, Report

_SKIPPED_SHOWN = 5


def print_report(report: Report, console: Console, files: Sequence[Path] = ()) -> None:
    """Prints everything that the report says; `files` are the files written from it.

    Text of the user's (names, paths, code) is shown as it is: neither markup nor control
    characters in it have an effect.
    """
    with encodable(console):
        for part in _parts(report, console.width, files):
            console.print(part, crop=False)  # code may be wider


def _parts(report: Report, width: int, files: Sequence[Path]) -> Iterator[RenderableType]:
    if from_log(report):
        yield from log_parts(report, width)
    elif observed(report):
        yield from run_parts(report, width)
    else:
        yield from _measured(report, width)
    if report.rank_table:
        yield heading("Ranks")
        yield rank_table(report, width)
    if report.diagnosis is not None:
        yield heading("Diagnosis")
        yield verdict(report, report.diagnosis)
        yield from recommendations(report)
    yield from trials(report)
    if report.comparison is not None:
        yield heading("Comparison")
        yield _comparison(report, report.comparison, width)
    closing = list(_closing(report, files))
    if closing:
        yield Text()
        yield Group(*closing)


def _measured(report: Report, width: int) -> Iterator[RenderableType]:
    """Up to the diagnosis, of what was measured here."""
    yield _header(report)
    yield heading("Where the time of a step goes")
    yield stage_table(report, width)
    yield heading("Numbers")
    yield fact_grid(numbers(report))


def _comparison(report: Report, comparison: Comparison, width: int) -> RenderableType:
    if not from_log(report):
        return comparison_table(comparison, width)
    economics = report.epochs.economics if report.epochs is not None else None
    return runs_table(comparison, width, economics.metric if economics is not None else None)


def _header(report: Report) -> RenderableType:
    facts: list[Fact] = [
        *surroundings(report),
        ("measured", words.measured(report.steps, report.sampling)),
        *noted(report),
    ]
    title = Text.assemble(" ", (clean(report.name), "bold"), " ")
    return Panel(fact_grid(facts), title=title, title_align="left", border_style="cyan")


def _closing(report: Report, files: Sequence[Path]) -> Iterator[RenderableType]:
    for warning in report.warnings:
        yield _hanging("!", "bold yellow", clean(warning))
    if report.skipped:
        yield _skipped(report)
    yield from unread(report)
    if undecided := _abstained(report):
        yield Text(undecided, "dim")
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


def _abstained(report: Report) -> str | None:
    if from_log(report):
        return "\n".join(log_abstentions.lines(report))
    return log_abstentions.of_measured(report)
