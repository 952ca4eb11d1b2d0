"""Where the values of a report of logs come from: file and line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.text import Text

from perfdoctor.record import Floats
from perfdoctor.render import log_words, series, setting_words, words
from perfdoctor.render.encoding import encodable
from perfdoctor.render.facts import heading
from perfdoctor.render.grid import plain_table
from perfdoctor.render.text import clean, counted, in_unit, known, number, seconds, shorten
from perfdoctor.report import Report

_SLOWEST_SHOWN, _CHANGES_SHOWN, _EVIDENCE_SHOWN, _UNREAD_SHOWN = 3, 8, 8, 3
_VALUE_LENGTH = 160


@dataclass(frozen=True)
class Origin:
    """A value in words, and the place in a log that says it."""

    name: str
    value: str
    where: str


def show_lines(report: Report, console: Console) -> None:
    """Prints a table of the values in the report and the files and lines they come from.

    A percentile is shown with the record nearest to it. Text from the log is shown as it is:
    neither markup nor control characters in it have an effect.
    """
    with encodable(console):
        console.print(heading("Where it comes from"))
        found = list(origins(report))
        if not found:
            console.print(Text("nothing in this report has a line that it comes from"))
            return
        table = plain_table()
        table.add_column("", overflow="fold", max_width=26)
        table.add_column("value", overflow="fold", ratio=3)
        table.add_column("from", overflow="fold", ratio=2)
        for origin in found:
            table.add_row(Text(origin.name), Text(origin.value), Text(origin.where))
        console.print(table)
        if note := _thinned(report):
            console.print(Text(note, "dim"))


def origins(report: Report) -> Iterator[Origin]:
    """Every value that has a place, in the order of the report."""
    yield from _settings(report)
    yield from _steps(report)
    yield from _stages(report)
    yield from _rates(report)
    yield from _changes(report)
    yield from _epochs(report)
    yield from _evidence(report)
    yield from _unread(report)


def _settings(report: Report) -> Iterator[Origin]:
    files = [log_words.place(report, log.path) for log in report.logs if log.records]
    settings = setting_words.main_settings(report.configuration)
    if settings and files:
        more = f" and {counted(len(files) - 2, 'more file')}" if len(files) > 2 else ""
        value = shorten(settings, _VALUE_LENGTH)
        yield Origin("settings", value, ", ".join(files[:2]) + more)


def _steps(report: Report) -> Iterator[Origin]:
    step_s = series.column(report, "step_s")
    if report.steps is None or not np.isfinite(step_s).any():
        return
    time = report.steps.time
    for name, value in (("p50", time.p50_s), ("p95", time.p95_s), ("p99", time.p99_s)):
        yield from _record(report, f"step time {name}", seconds(value), _nearest(step_s, value))
    for place in _largest(step_s, _SLOWEST_SHOWN):
        yield from _record(report, "slowest step", seconds(float(step_s[place])), place)


def _stages(report: Report) -> Iterator[Origin]:
    for name, stage in report.stages.items():
        column = series.column(report, f"{name}_s")
        if np.isfinite(column).any():
            place = _nearest(column, stage.p50_s)
            yield from _record(report, f"{clean(name)} p50", seconds(stage.p50_s), place)


def _rates(report: Report) -> Iterator[Origin]:
    for name, unit in series.RATES.items():
        column = series.column(report, name)
        if np.isfinite(column).any():
            middle = float(np.nanmedian(column))
            yield from _record(
                report, "median rate", in_unit(middle, unit), _nearest(column, middle)
            )


def _changes(report: Report) -> Iterator[Origin]:
    trend = report.throughput.trend if report.throughput is not None else None
    for point in (trend.change_points if trend is not None else ())[:_CHANGES_SHOWN]:
        unit = trend.unit if trend is not None else ""
        rates = f"{in_unit(point.before, unit, bare=True)} → {in_unit(point.after, unit)}"
        step = "" if point.step is None else f" at step {number(point.step)}"
        if point.where:
            yield Origin("change of speed", f"{rates}{step}", log_words.place(report, point.where))


def _epochs(report: Report) -> Iterator[Origin]:
    epoch_s, number_of = series.column(report, "epoch_s"), series.column(report, "epoch")
    economics = report.epochs.economics if report.epochs is not None else None
    if economics is not None:
        place = _nearest(number_of, economics.best_epoch)
        if place is not None:
            yield Origin("best epoch", log_words.best(economics), _epoch_line(report, place))
    for place in _largest(epoch_s, 1):
        label = f"epoch {number(float(number_of[place]))}: " if place < number_of.size else ""
        value = f"{label}{seconds(float(epoch_s[place]))}"
        yield Origin("slowest epoch", value, _epoch_line(report, place))


def _evidence(report: Report) -> Iterator[Origin]:
    found = [
        Origin(clean(rule.rule), words.evidence(item), log_words.place(report, item.where))
        for rule in report.recommendations
        for item in rule.evidence
        if item.where
    ]
    yield from found[:_EVIDENCE_SHOWN]


def _unread(report: Report) -> Iterator[Origin]:
    samples = [sample for log in report.logs for sample in log.unread_samples]
    for sample in samples[:_UNREAD_SHOWN]:
        value = shorten(clean(sample.text).strip(), _VALUE_LENGTH)
        yield Origin("not read", value, f"{log_words.place(report, sample.path)}:{sample.line}")


def _record(report: Report, name: str, value: str, place: int | None) -> Iterator[Origin]:
    """A value of a record: the step it belongs to, and its line."""
    if place is None:
        return
    steps = series.column(report, "step")
    step = f" at step {number(float(steps[place]))}" if _has(steps, place) else ""
    yield Origin(name, f"{value}{step}", _line(report, "line", place, "file"))


def _epoch_line(report: Report, place: int) -> str:
    return _line(report, "epoch_line", place, "epoch_file")


def _line(report: Report, column: str, place: int, file_column: str) -> str:
    """The file and line of an element; as much of it as the report has kept."""
    lines, files = series.column(report, column), series.column(report, file_column)
    read = [log.path for log in report.logs if log.records] or [log.path for log in report.logs]
    if _has(files, place) and 0 <= int(files[place]) < len(report.logs):
        path = report.logs[int(files[place])].path
    else:
        path = read[0] if len(read) == 1 else ""
    named = log_words.place(report, path) if path else ""
    if not _has(lines, place):
        return named or "the log"
    return f"{named}:{int(lines[place])}" if named else f"line {int(lines[place]):,}"


def _has(values: Floats, place: int) -> bool:
    return place < values.size and bool(np.isfinite(values[place]))


def _nearest(values: Floats, value: float) -> int | None:
    """Where the element nearest to `value` is; None where there is none."""
    finite = np.flatnonzero(np.isfinite(values))
    if not finite.size or not known(value):
        return None
    return int(finite[np.argmin(np.abs(values[finite] - value))])


def _largest(values: Floats, count: int) -> Sequence[int]:
    order = np.argsort(np.where(np.isfinite(values), -values, np.inf), kind="stable")
    return [int(place) for place in order[: min(count, int(np.isfinite(values).sum()))]]


def _thinned(report: Report) -> str:
    """Said where the report keeps only some records: others may lie nearer."""
    kept = len(report.series.get("step_s", ()))
    count = report.steps.count if report.steps is not None else 0
    if not kept or count <= kept:
        return ""
    return f"from the {kept:,} of {count:,} records that the report keeps"
