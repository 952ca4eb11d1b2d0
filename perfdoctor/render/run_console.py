"""What the console shows of an observed training before the diagnosis: `run` and the monitor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from perfdoctor.ending import Ending
from perfdoctor.record import Hotspot
from perfdoctor.render import log_words, trend_words, words
from perfdoctor.render.facts import (
    Fact,
    fact_grid,
    heading,
    memory_line,
    noted,
    rates,
    surroundings,
    utilisation,
)
from perfdoctor.render.grid import plain_table
from perfdoctor.render.log_tables import wall_table
from perfdoctor.render.tables import stage_table
from perfdoctor.render.text import clean, seconds, share, shorten
from perfdoctor.report import Loader, Report

OBSERVED_KINDS = frozenset({"run", "monitor"})
#: Lines shown of the training process and of the workers.
_LINES = {"main": 8, "worker": 4}
_CALL_LENGTH = 34
_ENDINGS = {
    "running": "it was still running when this was written",
    "stopped": "by perfdoctor, after as many steps as were asked for",
    "os._exit": "by os._exit",
    "interrupted": "by Ctrl-C",
}


def observed(report: Report) -> bool:
    """Whether a training was watched while it ran."""
    return report.source.kind in OBSERVED_KINDS


def run_parts(report: Report, width: int) -> Iterator[RenderableType]:
    """Everything up to the diagnosis."""
    yield _header(report)
    if report.wall is not None and report.wall.parts:
        yield heading("Where the whole run went")
        yield wall_table(report, width)
    if report.stages:
        yield heading("Where the time of a step goes")
        yield stage_table(report, width)
    if report.hotspots:
        yield heading("The lines that take it")
        yield _lines(report)
    facts = [fact for fact in _numbers(report) if fact[1] is not None]
    if facts:
        yield heading("Numbers")
        yield fact_grid(facts)


def _header(report: Report) -> RenderableType:
    facts: list[Fact] = [
        *surroundings(report),
        ("observed", words.measured(report.steps, report.sampling)),
        ("ended", None if report.ending is None else _ending(report.ending)),
        *noted(report),
    ]
    title = Text.assemble(" ", (clean(report.name), "bold"), " ")
    return Panel(fact_grid(facts), title=title, title_align="left", border_style="cyan")


def _ending(ending: Ending) -> str | None:
    """None where it just finished."""
    if ending.how in ("finished", "exit") and not ending.code:
        return None
    how = _ENDINGS.get(ending.how, "")
    code = f"exit code {ending.code}" if ending.code else ""
    parts = [how, shorten(clean(ending.detail), 80), code]
    return ", ".join(part for part in parts if part) or None


def _lines(report: Report) -> RenderableType:
    hotspots = report.hotspots
    table = plain_table()
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("stage", no_wrap=True)
    table.add_column("line", overflow="fold")
    table.add_column("calls", overflow="fold")
    for process, most in _LINES.items():
        shown = [spot for spot in hotspots if spot.process == process][:most]
        _add(table, report, shown)
        if shown and process == "main":
            table.add_section()
    notes = ["share of the run; a line of a worker: of the workers' busy time"]
    if all(spot.process == "main" for spot in hotspots):
        notes = ["share of the run"]
    return Group(table, *(Text(note, "dim") for note in notes))


def _add(table: Table, report: Report, spots: Sequence[Hotspot]) -> None:
    for spot in spots:
        place = f"{PurePath(clean(spot.file)).name}:{spot.line}"
        function = clean(spot.function).replace(".<locals>", "")
        calls = "" if spot.library is None else shorten(clean(spot.library), _CALL_LENGTH)
        worker = spot.process == "worker"
        stage = "in a worker" if worker else log_words.stage(report, spot.stage or "")
        table.add_row(share(spot.share), stage, f"{place} {function}", calls)


def _numbers(report: Report) -> Iterator[Fact]:
    yield "throughput", None if report.throughput is None else rates(report.throughput, "step")
    for index, line in enumerate(trend_words.trend(report)):
        yield "" if index else "trend", line
    if report.stalls is not None and report.stalls.count:
        yield "stalls", log_words.stalls(report.stalls)
    if report.epochs is not None and report.epochs.count:
        for index, line in enumerate(log_words.epochs(report.epochs)):
            yield "" if index else "epochs", line
    yield "loader", None if report.loader is None else _loader(report.loader)
    yield "memory", memory_line(report)
    yield "utilisation", utilisation(report)


def _loader(loader: Loader) -> str:
    """What one worker, or the training process, spends on a batch."""
    parts = [f"a batch takes {seconds(loader.batch.p50_s)} to make"]
    parts[0] += f", {seconds(loader.collate.p50_s)} of it collating (p50)"
    if loader.sample is not None:
        parts.append(f"a sample {seconds(loader.sample.p50_s)}")
    if loader.idle_share is not None:
        parts.append(f"workers wait {share(loader.idle_share)} of their time, the queue being full")
    if loader.start is not None:
        parts.append(f"starting them takes {seconds(loader.start.p50_s)}")
    return " · ".join(parts)
