"""Tables that only logs have: the parts of the wall clock, and several runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from perfdoctor.pace import TOKENS
from perfdoctor.render import log_words, words
from perfdoctor.render.grid import (
    GAP,
    Row,
    bar,
    bar_width,
    cell,
    fitting,
    plain_table,
    total_width,
)
from perfdoctor.render.text import bytes_, clean, known, number, seconds, share
from perfdoctor.report import ComparedConfiguration, Comparison, Report, WallPart

_WALL_NUMBERS = ("share", "time", "times")
_FEWEST_NUMBERS = 2
_RUNS_SHOWN = 30
_METRIC_LENGTH = 24
_LEFT_OVER = "unexplained"

_Cell = Callable[[ComparedConfiguration], str | None]


def wall_table(report: Report, width: int) -> RenderableType:
    """One row a part of the wall clock, and what the log says nothing of."""
    wall = report.wall
    if wall is None:
        return Text()
    several = any(part.count > 1 for part in wall.parts)
    headings = _WALL_NUMBERS if several else _WALL_NUMBERS[:-1]
    names = [Text(log_words.part(part.name)) for part in wall.parts]
    rows = [_wall_numbers(part)[: len(headings)] for part in wall.parts]
    total = (Text(share(1.0)), Text(seconds(wall.total_s)), Text())[: len(headings)]
    longest = max((name.cell_len for name in names), default=0)
    name_width = min(max(longest, len("whole run")), max(16, width // 4))
    room = width - name_width - total_width((*rows, total), headings) - 2 * GAP
    drawn = bar_width(room)
    table = plain_table()
    table.add_column("part", overflow="fold", max_width=name_width)
    table.add_column("", no_wrap=True, min_width=drawn)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for part, name, row in zip(wall.parts, names, rows, strict=True):
        colour = "bright_black" if part.name == _LEFT_OVER else "cyan"
        table.add_row(name, Text(bar(part.share, drawn), colour), *row)
    table.add_section()
    table.add_row("whole run", "", *total, style="bold")
    return Group(table, *(Text(note, "dim") for note in _wall_notes(report)))


def _wall_numbers(part: WallPart) -> Row:
    times = f"{part.count:,}" if part.count > 1 else ""
    return (Text(share(part.share)), Text(seconds(part.seconds)), Text(times))


def _wall_notes(report: Report) -> Iterator[str]:
    if report.wall is not None and any(p.name == _LEFT_OVER for p in report.wall.parts):
        yield f"{_LEFT_OVER}: time of which the log says nothing"
    if not log_words.from_log(report):
        return
    if untimed := log_words.untimed_parts(report):
        yield f"not timed by this log: {', '.join(untimed)}"


def in_order_of_merit(comparison: Comparison) -> list[int]:
    """Indices of the rows, best first; what failed or was not timed comes last.

    Sorted by the first of these that any row has: relative speed, rates, times.
    """
    keys: tuple[Callable[[ComparedConfiguration], float | None], ...] = (
        lambda row: row.relative,
        lambda row: row.samples_per_s,
        lambda row: row.tokens_per_s,
        lambda row: row.steps_per_s,
        lambda row: _negative(row.step_p50_s),
        lambda row: _negative(row.epoch_p50_s),
        lambda row: _negative(row.wall_s),
    )
    key = next((k for k in keys if any(known(k(row)) for row in comparison.rows)), keys[0])

    def merit(index: int) -> tuple[bool, bool, float]:
        value = key(comparison.rows[index])
        failed = value is None or not known(value)
        return index not in comparison.best, failed, 0.0 if value is None or failed else -value

    return sorted(range(len(comparison.rows)), key=merit)


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def baseline(comparison: Comparison) -> ComparedConfiguration | None:
    """The row that the others are relative to: the first that was measured."""
    return next((row for row in comparison.rows if row.relative is not None), None)


def runs_table(comparison: Comparison, width: int, metric: str | None = None) -> RenderableType:
    """One row a run, best first; columns that no run fills are left out."""
    order = in_order_of_merit(comparison)[:_RUNS_SHOWN]
    rows = [comparison.rows[index] for index in order]
    columns = _columns(rows, metric, comparison.measure)
    numbers = [_numbers(row, columns) for row in rows]
    headings = tuple(columns)
    names = [Text(log_words.path(row.label)) for row in rows]
    longest = max((name.cell_len for name in names), default=0)
    room = width - 3 - 2 * GAP
    shown = max(_FEWEST_NUMBERS, fitting(numbers, headings, room - min(longest, width // 4)))
    table = plain_table()
    table.add_column("", no_wrap=True)
    table.add_column("run", overflow="fold")
    for heading in headings[:shown]:
        text = heading == "verdict"
        table.add_column(Text(heading), justify="left" if text else "right", no_wrap=True)
    for index, name, row in zip(order, names, numbers, strict=True):
        best = index in comparison.best
        mark = Text("★" if best else " ")
        table.add_row(mark, name, *row[:shown], style="bold green" if best else "")
    return Group(table, *_run_notes(comparison, rows, headings[shown:]))


def _columns(
    rows: Sequence[ComparedConfiguration], metric: str | None, measure: str | None
) -> dict[str, _Cell]:
    """Heading → cell, for what at least one run tells; the most telling first. The column that
    `relative` is of stands right before it."""
    cells: dict[str, _Cell] = {
        "samples/s": lambda row: _number(row.samples_per_s),
        "steps/s": lambda row: _number(row.steps_per_s),
        TOKENS: lambda row: _number(row.tokens_per_s),
        "relative": lambda row: (
            None if row.relative is None else words.relative(row.relative, row.relative_ci)
        ),
        "step p50": lambda row: _seconds(row.step_p50_s),
        "epoch p50": lambda row: _seconds(row.epoch_p50_s),
        "verdict": lambda row: None if row.verdict is None else clean(row.verdict),
        f"best {clean(metric)[:_METRIC_LENGTH]}" if metric else "best metric": lambda row: (
            None if row.best_metric is None else f"{row.best_metric:.4g}"
        ),
        "whole run": lambda row: _seconds(row.wall_s),
        "memory": lambda row: None if row.peak_bytes is None else bytes_(row.peak_bytes),
    }
    of_tokens = measure == TOKENS
    if of_tokens or all(r.samples_per_s is not None or r.steps_per_s is None for r in rows):
        del cells["steps/s"]
    if not of_tokens:
        del cells[TOKENS]
    return {name: cell for name, cell in cells.items() if any(cell(row) for row in rows)}


def _number(value: float | None) -> str | None:
    return None if value is None else number(value)


def _seconds(value: float | None) -> str | None:
    return None if value is None else seconds(value)


def _numbers(row: ComparedConfiguration, columns: dict[str, _Cell]) -> Row:
    if row.error is not None:
        return (Text("not read", "red"), *(cell(None) for _ in list(columns)[1:]))
    return tuple(cell(show(row)) for show in columns.values())


def _run_notes(
    comparison: Comparison, rows: Sequence[ComparedConfiguration], hidden: Sequence[str]
) -> Iterator[Text]:
    first = baseline(comparison)
    if first is not None:
        measure = comparison.measure or "speed"
        note = f"relative: {measure} ÷ that of {log_words.path(first.label)}"
        yield Text(f"{note}; whatever else differed between the runs counts too", "dim")
    if len(comparison.rows) > len(rows):
        yield Text(f"{len(comparison.rows) - len(rows):,} more runs are in the report", "dim")
    if hidden:
        yield Text(f"a wider terminal also shows: {', '.join(hidden)}", "dim")
    if len(comparison.best) > 1:
        yield Text("★ several are best: these logs cannot tell them apart")
    for note in comparison.notes:
        yield Text(note, "yellow")
    for row in rows:
        if row.note is not None:
            yield Text.assemble((f"{log_words.path(row.label)}: ", "yellow"), clean(row.note))
        if row.error is not None:
            yield Text.assemble((f"{log_words.path(row.label)}: ", "red"), clean(row.error))
