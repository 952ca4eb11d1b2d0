"""Several ranks of one training: a row each, and how unequal they are."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from perfdoctor.render.grid import EDGES, Row, cell, fitting, plain_table
from perfdoctor.render.text import ABSENT, bytes_, clean, number, seconds, share
from perfdoctor.report import RankRow, RankSkew, Report

#: Columns of numbers; where there is no room, the last are left out first.
_NUMBERS = ("own", "waits", "step p50", "steps", "samples/s", "memory")
_ROWS_SHOWN = 16
_RANK_WIDTH, _END_WIDTH = 8, 24
#: Below this no rank is called slow.
_EVEN = 0.10


def rank_table(report: Report, width: int) -> RenderableType:
    """One row a rank, slowest marked; of many, those that failed and the slowest ones."""
    rows = _shown(report)
    numbers = [_numbers(row) for row in rows]
    count = fitting(numbers, _NUMBERS, width - _RANK_WIDTH - _END_WIDTH - EDGES)
    table = plain_table()
    table.add_column("rank", justify="right", no_wrap=True)
    for heading in _NUMBERS[:count]:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("ended", overflow="fold")
    slow = _slow(report.rank_skew)
    for row, cells in zip(rows, numbers, strict=True):
        style = "bold red" if row.rank == slow else ""
        table.add_row(str(row.rank), *cells[:count], _end(row), style=style)
    return Group(table, *(Text(note, "dim") for note in _notes(report, len(rows))))


def _shown(report: Report) -> list[RankRow]:
    """In order of the ranks."""
    table = report.rank_table
    if len(table) <= _ROWS_SHOWN:
        return list(table)
    first = sorted(table, key=lambda row: (_went_well(row), -(row.own_s or 0.0)))
    return sorted(first[:_ROWS_SHOWN], key=lambda row: row.rank)


def _numbers(row: RankRow) -> Row:
    rate = None if row.samples_per_s is None else f"{row.samples_per_s:,.4g}"
    return (
        _time(row.own_s),
        _time(row.wait_s),
        _time(row.step_p50_s),
        cell(None if row.steps is None else number(row.steps)),
        cell(rate),
        cell(None if row.peak_bytes is None else bytes_(row.peak_bytes)),
    )


def _time(value: float | None) -> Text:
    return cell(None if value is None else seconds(value))


def _went_well(row: RankRow) -> bool:
    return row.note is None and row.ending is not None and row.ending.how == "finished"


def _end(row: RankRow) -> Text:
    if row.note is not None:
        return Text(clean(row.note), "red")
    if row.ending is None:
        return Text(ABSENT, "dim")
    if _went_well(row):
        return Text(row.ending.how, "dim")
    words = row.ending.detail or row.ending.how
    return Text(clean(words[:60] + ("…" if len(words) > 60 else "")), "red")


def _slow(skew: RankSkew | None) -> int | None:
    return skew.slowest if skew is not None and skew.skew >= _EVEN else None


def _notes(report: Report, shown: int) -> Iterator[str]:
    more = len(report.rank_table) - shown
    if more > 0:
        yield f"and {more:,} more, all in the JSON report"
    yield "own: a step without waiting for other ranks (p50); waits: in collectives, estimated"
    skew = report.rank_skew
    if skew is not None:
        yield _skew_line(skew)


def _skew_line(skew: RankSkew) -> str:
    often = f"slowest in {share(skew.slowest_in)} of {number(skew.stretches)} parts of the run"
    stage = ""
    if skew.stage is not None and skew.stage_excess_s is not None:
        stage = f", {seconds(skew.stage_excess_s)} more in {clean(skew.stage)}"
    if skew.skew < _EVEN:
        return f"balanced: the slowest rank needs {share(skew.skew)} more than the median one"
    even = f"all as fast as the median rank: {skew.speedup:.2f}× the throughput"
    return f"rank {skew.slowest} needs {share(skew.skew)} more{stage}, {often}; {even}"
