"""The result of a check on the console."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.text import Text

from perfdoctor.compare.checks import IMPROVED, INCONCLUSIVE, PASS, REGRESSION, CheckResult, Judged
from perfdoctor.compare.shifts import MARGIN
from perfdoctor.render import check_words
from perfdoctor.render.compare_console import difference_lines, shift_table
from perfdoctor.render.encoding import encodable
from perfdoctor.render.facts import fact_grid, heading
from perfdoctor.render.grid import plain_table
from perfdoctor.render.text import clean

#: Below this the values are only in the table further down.
_WIDE = 96
_STYLES = {PASS: "green", IMPROVED: "green", REGRESSION: "red", INCONCLUSIVE: "yellow"}


def print_check(result: CheckResult, console: Console, files: Sequence[Path] = ()) -> None:
    """Prints what came of it; `files` are those that were written."""
    with encodable(console):
        for part in _parts(result, console.width, files):
            console.print(part)


def _parts(result: CheckResult, width: int, files: Sequence[Path]) -> Iterator[RenderableType]:
    yield _head(result)
    yield criteria_table(result.judged, width)
    for judged in result.judged:
        if judged.outcome == INCONCLUSIVE and judged.reason:
            yield Text(f"{clean(judged.criterion.name)}: {clean(judged.reason)}", "yellow")
    yield Text(_basis(result), "dim")
    for note in result.notes:
        yield fact_grid([("!", clean(note))], label_style="bold yellow")
    if result.shifts:
        yield heading("What was measured")
        yield shift_table(check_words.shown(result), MARGIN, width)
    if result.why or result.after.verdict:
        yield heading("What else differs")
        yield from _why(result)
    for path in files:
        yield Text.assemble(("wrote ", "dim"), clean(path), overflow="fold")


def _head(result: CheckResult) -> RenderableType:
    colour = _STYLES[result.outcome]
    badge = Text(f" {check_words.outcome(result).upper()} ", f"bold white on {colour}")
    grid = fact_grid(
        [
            ("checked", check_words.sides(result)),
            ("measured", f"{clean(result.measured)}: {check_words.effort(result)}"),
        ]
    )
    return Panel(
        grid, title=Text.assemble(" ", badge, " "), title_align="left", border_style=colour
    )


def criteria_table(judged: Sequence[Judged], width: int) -> RenderableType:
    """One row a criterion."""
    table = plain_table()
    table.add_column("criterion", overflow="fold")
    wide = width >= _WIDE
    for title in ("margin", *(["before → after"] if wide else []), "change", "power"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for found in judged:
        style = _STYLES[found.outcome]
        warns = "" if found.criterion.fails else " (warns)"
        told = check_words.outcome_of(found)
        style = "yellow" if told == "warning" else style
        seen = check_words.power(found)
        table.add_row(
            Text(f"{clean(found.criterion.name)}{warns}", "bold" if found.criterion.fails else ""),
            check_words.margin(found),
            *([check_words.values(found)] if wide else []),
            check_words.change(found),
            "–" if seen is None else seen.removeprefix("could have seen "),
            Text(told, f"bold {style}"),
        )
    return table


def _basis(result: CheckResult) -> str:
    level = next((j.confidence for j in result.judged if j.interval), None)
    unit = "pairs" if result.way == "against" else "sessions"
    parts = [
        None if level is None else check_words.of_change(result, level),
        f"power: the change that so many {unit} would have shown four times out of five"
        if any(j.seen is not None for j in result.judged)
        else None,
        "pass: shown to be less than the margin",
        "regression: surely worse, and by more than half of it (memory: all of it)"
        if result.way != "history"
        else None,
    ]
    return "; ".join(part for part in parts if part)


def _why(result: CheckResult) -> Iterator[RenderableType]:
    before, after = result.before, result.after
    if after.verdict and before.verdict == after.verdict:
        yield Text(f"both sides are {clean(after.verdict)}: {clean(after.summary or '')}")
    yield from difference_lines(result.why)
