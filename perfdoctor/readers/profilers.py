"""Lightning's SimpleProfiler: a table of actions with their mean and whole times."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from perfdoctor import stages
from perfdoctor.readers.cells import as_text, line_count, lines_of, number
from perfdoctor.readers.lightning_stages import (
    BATCH,
    BOTH,
    EPOCH,
    Action,
    facts,
    hooks,
    is_inner,
    of_fit,
    optimizer_s,
    report_title,
    stage_of,
    summed,
)
from perfdoctor.readers.records import Reading
from perfdoctor.record import Hotspot, UnreadLine

_RULE = re.compile(r"[|+= -]{8,}")
_NEEDED = ("action", "mean duration (s)", "total time (s)")
_TOTAL = "Total"
#: More of the file than this, and it is the profiler's.
_MOST_OF_THE_FILE = 0.5
_SAMPLES_OF_UNREAD = 5
#: Lightning has about 120.
_MOST_ACTIONS = 5000
_MOST_HOTSPOTS = 10
_LEAST_SHARE = 0.005
#: Actions that hold others; what is left of an optimizer step without them is the optimizer's.
_HOLDERS = frozenset((EPOCH, BATCH, BOTH, "predict"))
_WHOLE_EVALUATION = re.compile(r"run_[a-z_]{0,40}evaluation")


@dataclass
class Table:
    """One report. `title` is FIT, VALIDATE, TEST, PREDICT or empty; `total_s` 0: not said."""

    title: str
    columns: list[str]
    total_s: float = 0.0
    actions: list[Action] = field(default_factory=list)
    lines: int = 1


class LightningSimpleProfiler:
    """Every version since 0.7: with or without calls, percentages and frame."""

    name = "lightning_simple_profiler"

    def score(self, name: str, head: str) -> float:
        """How sure it is, 0–1: less where the report is a small part of another log."""
        if "Mean duration (s)" not in head:
            return 0.0
        lines = lines_of(head)
        tables, _ = _tables(lines)
        if not any(table.actions for table in tables):
            return 0.0
        written = sum(bool(line.strip()) for line in lines)
        part = sum(table.lines for table in tables) / max(1, written)
        return 0.97 if part > _MOST_OF_THE_FILE else 0.3

    def read(self, path: str, data: str | bytes) -> Reading:
        """Totals of the stages; records it has none."""
        text = as_text(data)
        tables, unread = _tables(lines_of(text))
        chosen = of_fit([table for table in tables if table.actions])
        actions = summed(action for table in chosen for action in table.actions)
        totals = facts(actions)
        whole_s = sum(table.total_s for table in chosen)
        if whole_s > 0:
            totals["wall_s"] = whole_s
        else:
            whole_s = _most(actions)
        return Reading(
            path=path, format=self.name, framework="lightning", facts=totals,
            lines=line_count(text), unread=len(unread), hotspots=_hotspots(actions, whole_s),
            unread_samples=tuple(
                UnreadLine(path=path, line=line, text=what)
                for line, what in unread[:_SAMPLES_OF_UNREAD]
            ),
            notes=_notes(chosen, len(tables)),
        )  # fmt: skip


def _tables(lines: Sequence[str]) -> tuple[list[Table], list[tuple[int, str]]]:
    tables: list[Table] = []
    unread: list[tuple[int, str]] = []
    title, table = "", None
    for index, line in enumerate(lines, start=1):
        stripped = line.strip()
        columns = _header(stripped)
        named = report_title(stripped)
        if named is not None:
            title, table = named, None
        elif columns is not None:
            table = Table(title, columns)
            tables.append(table)
            title = ""
        elif table is None:
            continue
        elif not stripped:
            table = table if not table.actions else None
        elif _RULE.fullmatch(stripped):
            table.lines += 1
        elif not _take(table, stripped):
            if stripped.count("|") > 1:
                unread.append((index, stripped[:200]))
            table = None
    return tables, unread


def _header(line: str) -> list[str] | None:
    if "Mean duration (s)" not in line:
        return None
    columns = [cell.strip().lower() for cell in line.strip("|").split("|")]
    while columns and not columns[-1]:
        columns.pop()
    return columns if all(name in columns for name in _NEEDED) else None


def _take(table: Table, line: str) -> bool:
    """Adds a row; False where it is none. A name may hold bars, the numbers behind it do not."""
    row = line.strip("|").rstrip("| \t").rsplit("|", len(table.columns) - 1)
    cells = dict(zip(table.columns, (cell.strip() for cell in row), strict=False))
    if len(row) != len(table.columns) or len(table.actions) >= _MOST_ACTIONS:
        return False
    table.lines += 1
    total_s = number(cells["total time (s)"])
    name = cells["action"]
    if name == _TOTAL:
        table.total_s = 0.0 if math.isnan(total_s) else total_s
    elif total_s >= 0:
        table.actions.append(Action(name, total_s, _calls(cells, total_s)))
    return name == _TOTAL or total_s >= 0 or cells["total time (s)"].lower() == "nan"


def _calls(cells: dict[str, str], total_s: float) -> float | None:
    if "num calls" in cells:
        calls = number(cells["num calls"])
        return None if math.isnan(calls) else calls
    mean_s = number(cells["mean duration (s)"])
    return float(round(total_s / mean_s)) if mean_s > 0 else None


def _most(actions: Sequence[Action]) -> float:
    """The time of all epochs where the table has no total, else that of all rows."""
    epochs = sum(action.total_s for action in actions if action.name == EPOCH)
    return epochs or sum(action.total_s for action in actions)


def _hotspots(actions: Sequence[Action], whole_s: float) -> tuple[Hotspot, ...]:
    """The longest actions that hold no others."""
    by_hook = hooks(actions)
    found = []
    for action in actions:
        if not _holds(action.hook) and not is_inner(action, by_hook):
            found.append((action.total_s, action.name, stage_of(action)))
    optimizer = optimizer_s(by_hook)
    if optimizer is not None:
        found.append((optimizer, "optimizer step without its closure", stages.OPTIMIZER))
    found.sort(key=lambda each: -each[0])
    return tuple(
        Hotspot(
            file="", line=0, function=name, share=total / whole_s, library="lightning", stage=stage
        )
        for total, name, stage in found[:_MOST_HOTSPOTS]
        if whole_s > 0 and total >= _LEAST_SHARE * whole_s
    )


def _holds(hook: str) -> bool:
    whole = _WHOLE_EVALUATION.fullmatch(hook) is not None
    return whole or hook in _HOLDERS or hook.startswith("optimizer_step")


def _notes(chosen: Sequence[Table], found: int) -> tuple[str, ...]:
    notes = ["times are the processor's: work of a GPU shows where something waits for it"]
    if len(chosen) > 1:
        notes.append(f"{len(chosen)} profiler reports added up")
    if found > len(chosen):
        notes.append(f"{found - len(chosen)} more reports (repeated, or not of fit) left out")
    return tuple(notes)
