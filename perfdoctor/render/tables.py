"""The stages of a step and the compared configurations, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from perfdoctor.render import log_words, setting_words, words
from perfdoctor.render.grid import (
    EDGES,
    GAP,
    Row,
    bar,
    bar_width,
    cell,
    fitting,
    plain_table,
    total_width,
)
from perfdoctor.render.text import ABSENT, bytes_, clean, count_per_s, counted, seconds, share
from perfdoctor.report import ComparedConfiguration, Comparison, Report, StageStat
from perfdoctor.stages import OTHER

#: Columns of numbers; where there is no room, the last are left out first.
_STAGE_NUMBERS = ("share", "p50", "p95", "p99", "hidden", "alone")
_COMPARED_NUMBERS = ("samples/s", "relative", "memory", "step p50", "bottleneck")
_FEWEST_NUMBERS = 3
#: A stage that runs less often than this is said to.
_EVERY_STEP = 0.995
_TEXT_COLUMNS = {"bottleneck"}


def stage_table(report: Report, width: int) -> RenderableType:
    """One row a stage, a row for the step, and what else there is to know of the steps.

    The bars get the room that the other columns leave of `width` characters.
    """
    headings = _STAGE_NUMBERS[: _columns_of(report)]
    names = [Text(log_words.stage(report, name)) for name in report.stages]
    rows = [_stage_numbers(report, name, stage) for name, stage in report.stages.items()]
    total = _total(report)
    name_width = min(max(n.cell_len for n in (*names, Text("stage"))), max(14, width // 5))
    room = width - name_width - EDGES
    shown = fitting((*rows, total), headings, room)
    room -= total_width((*rows, total), headings[:shown]) + GAP
    drawn = bar_width(room)
    table = plain_table()
    table.add_column("stage", overflow="fold", max_width=name_width)
    table.add_column("", no_wrap=True, min_width=drawn)
    for heading in headings[:shown]:
        table.add_column(heading, justify="right", no_wrap=True)
    _fill(table, report, names, [row[:shown] for row in rows], drawn)
    table.add_section()
    table.add_row("step", "", *total[:shown], style="bold")
    return Group(table, *(Text(note, "dim") for note in _step_notes(report)))


def _columns_of(report: Report) -> int:
    """Columns of numbers: only a benchmark has stages by themselves, others rarely hidden work."""
    if log_words.benchmarked(report):
        return len(_STAGE_NUMBERS)
    hidden = any(stage.hidden_s is not None for stage in report.stages.values())
    return _STAGE_NUMBERS.index("alone" if hidden else "hidden")


def _fill(
    table: Table, report: Report, names: Sequence[Text], rows: Sequence[Row], bar_width: int
) -> None:
    bottleneck = report.diagnosis.bottleneck if report.diagnosis is not None else None
    for (key, stage), name, row in zip(report.stages.items(), names, rows, strict=True):
        worst = key == bottleneck
        name.stylize("bold red" if worst else "")
        drawn = Text(bar(stage.share, bar_width), "red" if worst else "cyan")
        table.add_row(name, drawn, *row)


def _stage_numbers(report: Report, name: str, stage: StageStat) -> Row:
    alone = report.alone.get(name)
    alone_s = None if alone is None else alone.p50_s
    times = (stage.p50_s, stage.p95_s, stage.p99_s, stage.hidden_s, alone_s)
    return (Text(share(stage.share)), *(cell(v if v is None else seconds(v)) for v in times))


def _total(report: Report) -> Row:
    if report.steps is None:
        return (Text(share(1.0)), *(cell(None) for _ in range(3)), Text(), Text())
    time = report.steps.time
    times = (time.p50_s, time.p95_s, time.p99_s)
    return (Text(share(1.0)), *(Text(seconds(value)) for value in times), Text(), Text())


def _step_notes(report: Report) -> Iterator[str]:
    if log_words.from_log(report):
        yield from _log_notes(report)
    elif log_words.benchmarked(report):
        yield "hidden: work done behind other work, not part of the step; alone: measured by itself"
        if any(s.hidden_s is None or n not in report.alone for n, s in report.stages.items()):
            yield f"{ABSENT} not measured"
    steps = report.steps
    if steps is not None and steps.first_s is not None:
        yield f"the first step took {seconds(steps.first_s)}; it is not counted"
    warmup = 0 if steps is None else steps.warmup_discarded - steps.before_training
    if warmup:
        yield f"{counted(warmup, 'step')} discarded as warm-up"
    for name, stage in report.stages.items():
        if stage.between:
            yield f"{clean(name)} runs between the steps and is no part of their time"
        elif 0 < stage.calls_per_step < _EVERY_STEP:
            yield f"{clean(name)} ran in {share(stage.calls_per_step)} of the steps"
    start = report.epochs.start if report.epochs is not None else None
    if start is not None:
        yield f"each epoch starts with a wait of {seconds(start.p50_s)} for its first batch (p50)"


def _log_notes(report: Report) -> Iterator[str]:
    if any(stage.hidden_s is not None for stage in report.stages.values()):
        yield "hidden: work done behind other work, not part of the step"
    if OTHER in report.stages:
        yield f"{log_words.stage(report, OTHER)}: not split further by this {report.source.kind}"


def comparison_table(comparison: Comparison, width: int) -> RenderableType:
    """One row a configuration, the best marked; errors in full below."""
    numbers = [_compared_numbers(row) for row in comparison.rows]
    room = width - EDGES - 1
    names, shown = _naming(comparison, numbers, room)
    table = plain_table()
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(Text(name), overflow="fold")
    for heading in _COMPARED_NUMBERS[:shown]:
        text = heading in _TEXT_COLUMNS
        table.add_column(heading, justify="left" if text else "right", no_wrap=True)
    for index, cells in enumerate(zip(*names.values(), strict=True)):
        best = index in comparison.best
        mark = Text("★" if best else " ")
        table.add_row(mark, *cells, *numbers[index][:shown], style="bold green" if best else "")
    return Group(table, *_comparison_notes(comparison, _COMPARED_NUMBERS[shown:]))


def _naming(
    comparison: Comparison, numbers: Sequence[Row], room: int
) -> tuple[dict[str, Row], int]:
    """The columns that say which configuration a row is, and how many numbers fit beside them.

    One column for each varied setting, else the labels, which may wrap.
    """
    labels = {"configuration": tuple(Text(clean(row.label)) for row in comparison.rows)}
    settings = _settings(comparison)
    for shown in range(len(_COMPARED_NUMBERS), _FEWEST_NUMBERS - 1, -1):
        rest = room - total_width(numbers, _COMPARED_NUMBERS[:shown])
        for names in (settings, labels):
            if (
                names
                and total_width(tuple(zip(*names.values(), strict=True)), tuple(names)) <= rest
            ):
                return names, shown
    return labels, _FEWEST_NUMBERS


def _settings(comparison: Comparison) -> dict[str, Row]:
    """Heading → values of each varied setting; nothing where a row lacks one."""
    rows = comparison.rows
    if not all(name in row.configuration for name in comparison.varied for row in rows):
        return {}
    return {
        setting_words.SETTINGS.get(name, clean(name)): tuple(
            Text(setting_words.option(row.configuration[name])) for row in rows
        )
        for name in comparison.varied
    }


def _compared_numbers(row: ComparedConfiguration) -> Row:
    if row.error is not None:
        return (Text("failed", "red"), *(cell(None) for _ in _COMPARED_NUMBERS[1:]))
    return (
        Text(count_per_s(row.samples_per_s).removesuffix(" samples/s")),
        Text(words.relative(row.relative, row.relative_ci)),
        cell(None if row.peak_bytes is None else bytes_(row.peak_bytes)),
        Text(seconds(row.step_p50_s)),
        cell(None if row.bottleneck is None else clean(row.bottleneck)),
    )


def _comparison_notes(comparison: Comparison, hidden: Sequence[str]) -> Iterator[Text]:
    note = "relative: samples/s ÷ the first row's, from interleaved blocks; memory: its peak"
    yield Text(note, "dim")
    if hidden:
        yield Text(f"a wider terminal also shows: {', '.join(hidden)}", "dim")
    if len(comparison.best) > 1:
        yield Text("★ several are best: not distinguishable by this measurement")
    for row in comparison.rows:
        if row.error is not None:
            yield Text.assemble((f"{clean(row.label)} failed: ", "red"), clean(row.error))
