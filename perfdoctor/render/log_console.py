"""What the console shows of a log before the diagnosis: what was read, and what it tells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from perfdoctor.render import log_words, setting_words, trend_words, words
from perfdoctor.render.facts import Fact, fact_grid, heading, memory_line, rates, utilisation
from perfdoctor.render.log_tables import wall_table
from perfdoctor.render.tables import stage_table
from perfdoctor.render.text import clean, counted, seconds
from perfdoctor.report import Report
from perfdoctor.stages import OTHER

_FILES_SHOWN = 4
_UNREAD_SHOWN = 3
_HOTSPOTS_SHOWN = 5
_UNTIMED = (
    "No timing information: this log says neither how long steps or epochs take, nor when its "
    "lines were written, nor any rate. Nothing can be concluded about speed from it."
)
_NO_PARTS = "The log tells how long it took as a whole, and nothing of what took the time."


def log_parts(report: Report, width: int) -> Iterator[RenderableType]:
    """Everything up to the diagnosis."""
    yield _header(report)
    if not log_words.timed(report):
        yield Padding(Text(_UNTIMED, "bold yellow"), (1, 0, 0, 0))
    if report.wall is not None and report.wall.total_s > 0:
        yield heading("Where the wall clock went")
        yield wall_table(report, width) if report.wall.parts else Text(_NO_PARTS)
    if set(report.stages) - {OTHER}:
        yield heading("Where the time of a step goes")
        yield stage_table(report, width)
    facts = [fact for fact in _numbers(report) if fact[1] is not None]
    if facts:
        yield heading("Numbers")
        yield fact_grid(facts)


def _header(report: Report) -> RenderableType:
    facts = [
        *_labelled("read", _files(report)),
        ("ran", log_words.ran(report.wall)),
        ("written by", _written_by(report)),
        ("device", words.device(report.environment)),
        ("machine", words.machine(report.environment)),
        ("software", words.software(report.environment)),
        ("settings", setting_words.main_settings(report.configuration) or None),
        ("measured", log_words.measured(report)),
        *_labelled("note", [clean(note) for note in report.notes]),
    ]
    title = Text.assemble(" ", (clean(report.name), "bold"), " ")
    return Panel(fact_grid(facts), title=title, title_align="left", border_style="cyan")


def _labelled(label: str, lines: Iterable[str]) -> list[Fact]:
    """Lines of one label: only the first carries it."""
    return [("" if index else label, line) for index, line in enumerate(lines)]


def _files(report: Report) -> Iterator[str]:
    for log in report.logs[:_FILES_SHOWN]:
        yield log_words.file(log)
    rest = report.logs[_FILES_SHOWN:]
    if rest:
        records = counted(sum(log.records for log in rest), "record")
        yield f"and {counted(len(rest), 'more file')} with {records}"


def _written_by(report: Report) -> str | None:
    parts = [clean(report.source.framework)] if report.source.framework else []
    if report.ranks > 1:
        parts.append(f"{report.ranks:,} ranks")
    return " · ".join(parts) or None


def _numbers(report: Report) -> Iterator[Fact]:
    """The times, rates and capacities that the log tells."""
    yield from _step_facts(report)
    yield "throughput", None if report.throughput is None else rates(report.throughput)
    yield from _labelled("trend", trend_words.trend(report))
    if report.stalls is not None and report.stalls.count:
        yield "stalls", log_words.stalls(report.stalls)
    yield "restarts", log_words.restarts(report)
    if report.epochs is not None and report.epochs.count:
        yield from _labelled("epochs", log_words.epochs(report.epochs))
        economics = report.epochs.economics
        yield from _labelled("best", [] if economics is None else log_words.economics(economics))
    yield "forecast", None if report.forecast is None else log_words.forecast(report.forecast)
    yield "memory", memory_line(report)
    yield "utilisation", utilisation(report)
    spots = report.hotspots[:_HOTSPOTS_SHOWN]
    yield from _labelled("hot spots", [log_words.hotspot(spot) for spot in spots])


def _step_facts(report: Report) -> Iterator[Fact]:
    steps = report.steps
    if steps is None:
        return
    yield "step time", log_words.percentiles(steps.time)
    split = bool(set(report.stages) - {OTHER})
    if not split:
        yield "", f"this {report.source.kind} times whole steps, not the stages in them"
    if steps.first_s is not None and not split:
        yield "", f"the first step took {seconds(steps.first_s)}; it is not counted"
    if steps.warmup_discarded and not split:
        yield "", f"{counted(steps.warmup_discarded, 'record')} discarded as warm-up"


def unread(report: Report) -> Sequence[RenderableType]:
    """How many lines could not be read, and a few of them."""
    count = sum(log.unread for log in report.logs)
    if not count:
        return ()
    shape = "it looks" if count == 1 else "they look"
    first = Text(f"{counted(count, 'line')} not read, though {shape} like records:", "yellow")
    samples = [sample for log in report.logs for sample in log.unread_samples][:_UNREAD_SHOWN]
    lines = [log_words.unread_line(report, sample) for sample in samples]
    if samples and count > len(samples):
        lines.append(f"and {count - len(samples):,} more")
    return (Group(first, *(Padding(Text(line, "dim"), (0, 0, 0, 2)) for line in lines)),)
