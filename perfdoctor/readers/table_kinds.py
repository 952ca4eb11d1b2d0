"""Formats of named values: lines of JSON, and tables with a header."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from perfdoctor.readers.columns import Table
from perfdoctor.readers.files import Head, Source
from perfdoctor.readers.kinds import Progress, Score
from perfdoctor.readers.records import Reading
from perfdoctor.readers.settings_in_logs import printed_settings
from perfdoctor.readers.structured import place_of_header, read_csv, read_json_lines


@dataclass(frozen=True)
class JsonLines:
    """JSON lines with keys that tell the format."""

    name: str
    title: str
    example: str
    keys: tuple[str, ...]
    weight: float = 0.9
    framework: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)

    def score(self, head: Head) -> Score:
        """By lines that are objects with the format's keys."""
        if "{" not in head.text and "{" not in head.tail:
            return Score(0.0)
        objects = [line for line in head.lines[:2000] if line.lstrip().startswith('{"')]
        keyed = [o for o in objects if all(f'"{key}"' in o for key in self.keys)]
        if not keyed or len(keyed) < 0.02 * len(objects):
            return Score(0.0)
        filled = [line for line in head.lines[:2000] if line.strip()]
        share = len(objects) / max(1, len(filled))
        what = " and ".join(self.keys) or "any keys"
        return Score(
            self.weight * (0.4 + 0.6 * share) * (len(keyed) + 1) / (len(keyed) + 1.2),
            f"{len(keyed):,} lines of JSON with {what}",
        )

    def read(self, source: Source, head: Head, progress: Progress) -> Reading:
        """Every object a record."""
        table = read_json_lines(source.path, source.blocks(), self.roles, progress)
        return _table_reading(self.name, source.path, table, self.framework, head)


def _table_reading(
    name: str, path: str, table: Table, framework: str | None, head: Head
) -> Reading:
    return Reading(
        path=path,
        format=name,
        framework=framework,
        records=table.records(),
        configuration=printed_settings(head.text[:20_000]) if name.endswith("json") else {},
        device_rates=table.device_rates,
        lines=table.last_line,
        unread=table.unread,
        unread_samples=tuple(table.unread_samples),
    )


@dataclass(frozen=True)
class CsvTable:
    """A table with a header that tells the format."""

    name: str
    title: str
    example: str
    columns: tuple[str, ...]
    weight: float = 0.9
    framework: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)

    def score(self, head: Head) -> Score:
        """By the names in the first line."""
        names = _header(head)
        if names is None or not all(column in names for column in self.columns):
            return Score(0.0)
        what = ", ".join(self.columns) or f"{len(names)} columns"
        return Score(self.weight, f"its first line names {what}")

    def read(self, source: Source, head: Head, progress: Progress) -> Reading:
        """Every row a record."""
        table = read_csv(source.path, source.blocks(), self.roles, progress)
        return _table_reading(self.name, source.path, table, self.framework, head)


def _header(head: Head) -> list[str] | None:
    lines = head.text[:50_000].splitlines()
    place = place_of_header(lines)
    first = lines[place] if place is not None else ""
    if first.lstrip().startswith(("{", "[", ":::")):
        return None
    for delimiter in ",\t;|":
        names = [name.strip().strip('"') for name in first.strip().strip("|").split(delimiter)]
        named = [n for n in names if re.match(r"^[A-Za-z_#@\u4e00-\u9fff][^:={}]{0,60}$", n)]
        if len(names) >= 2 and len(named) >= 0.8 * len(names) and not _NUMBER_ALONE.search(first):
            second = _row_after(lines[(place or 0) + 1 :])
            if second is not None and _is_row(second, delimiter, len(names)):
                return [names[0].lstrip("# ") or names[0], *names[1:]]
    return None


_NUMBER_ALONE = re.compile(r"(?<![\w.@:])[0-9]{1,20}\.[0-9]")


def _is_row(line: str, delimiter: str, columns: int) -> bool:
    """Whether most cells are values: numbers, times or nothing."""
    row = next(csv.reader([line.strip().strip("|")], delimiter=delimiter), [])
    cells = [cell.strip() for cell in row]
    share = 0.5 if '"' in line else 0.7  # text in quotes belongs into tables
    values = [
        c for c in cells if not c or re.match(r"^[-+.]?[0-9]|^(?:nan|inf|True|False)$", c, re.I)
    ]
    return len(cells) >= 0.5 * columns and len(values) >= share * len(cells)


def _row_after(lines: Sequence[str]) -> str | None:
    row = next((line for line in lines if line.strip()), None)
    return row if row is not None and re.search(r"[0-9]", row) else None
