"""Kinds of formats: how sure a file is to be one, and how it is read. The table is formats.py."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from itertools import pairwise
from typing import Any, Protocol

from perfdoctor.readers.files import Head, Source
from perfdoctor.readers.forms import FORMS, Form
from perfdoctor.readers.lexer import Dialect
from perfdoctor.readers.lines import chunks
from perfdoctor.readers.mlperf import is_mlperf, read_events
from perfdoctor.readers.records import Reading
from perfdoctor.readers.settings_in_logs import printed_settings
from perfdoctor.readers.structured import Table, read_csv, read_json_lines
from perfdoctor.readers.text import TextRecords, read_text

Progress = Callable[[int], None]
#: Colours and cursor movements (ECMA-48 section 5.4), as in lines.py.
_ESCAPES = re.compile(r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]")
_SAMPLE = 200_000


@dataclass(frozen=True)
class Score:
    """How sure, 0–1, and why."""

    value: float
    reason: str = ""


class Format(Protocol):
    """A format of files."""

    @property
    def name(self) -> str:
        """As in `--format`."""

    @property
    def title(self) -> str:
        """What writes it."""

    @property
    def example(self) -> str:
        """A line of it."""

    def score(self, head: Head) -> Score:
        """How sure the file is of this format."""

    def read(self, source: Source, head: Head, progress: Progress) -> Reading:
        """The whole file."""


def dialect_of(head: Head) -> Dialect:
    """How the file writes its numbers: decimal commas, days before months."""
    sample = _ESCAPES.sub("", head.text[:_SAMPLE] + head.tail)
    commas = len(
        re.findall(
            r"(?<![0-9.,])[0-9]{1,6},(?:[0-9]{1,2}|[0-9]{4,9})(?![0-9,])(?!\s?[0-9]{1,3},)(?=\s|$|[a-z);%])",
            sample,
        )
    )
    commas += len(_ZERO_COMMA.findall(sample))
    points = len(re.findall(r"(?<![0-9.])[0-9]{1,9}\.[0-9]{1,9}(?![0-9.])", sample))
    dates = [(int(a), int(b)) for a, b in _DATES.findall(sample)]
    return Dialect(decimal_comma=commas >= 3 and points == 0, day_first=_day_first(dates))


_ZERO_COMMA = re.compile(r"(?<![0-9.,])0,[0-9]{3}(?![0-9,])")  # "0,250" counts no thousands
_DATES = re.compile(
    r"(?<![\w./])([0-9]{1,2})[-/.]([0-9]{1,2})(?:[-/.][0-9]{2,4})?[ T_,]{1,2}[0-9]{1,2}:[0-9]{2}"
)


def _day_first(dates: Sequence[tuple[int, int]]) -> bool:
    """By what can be no month; else the reading in which time goes on, and no faster than it
    must: 11/09, 12/09 are two days, not two months apart."""
    high_first, high_second = any(a > 12 for a, _ in dates), any(b > 12 for _, b in dates)
    if high_first or high_second:
        return high_first and not high_second
    return _disorder([(b, a) for a, b in dates]) < _disorder(dates)


def _disorder(dates: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """How often (month, day) goes back, and how many days there are from first to last."""
    days = [31 * month + day for month, day in dates]
    back = sum(later < earlier for earlier, later in pairwise(days))
    return back, (days[-1] - days[0] if days else 0)


@lru_cache(maxsize=2)
def _plain_sample(head: Head) -> tuple[str, ...]:
    """The sample as it looks on a terminal, without colours."""
    lines = (line[:6000] for line in head.sample)
    return tuple(_ESCAPES.sub("", line) if "\x1b" in line else line for line in lines)


@dataclass(frozen=True)
class TextFormat:
    """One of the known forms of text, or any other text."""

    form: Form

    @property
    def name(self) -> str:
        """As in `--format`."""
        return self.form.name

    @property
    def title(self) -> str:
        """What writes it."""
        return self.form.title

    @property
    def example(self) -> str:
        """A line of it."""
        return self.form.example

    def score(self, head: Head) -> Score:
        """By how many of its lines the head holds."""
        search = self.form.signature.search
        found = sum(search(line) is not None for line in _plain_sample(head))
        if not found:
            return Score(0.0)
        value = self.form.weight * (found + 1) / (found + 1.5)
        many = f"{found:,} line{'s' if found != 1 else ''} in the part looked at"
        return Score(value, f"{many} {'have' if found != 1 else 'has'} its form")

    def read(self, source: Source, head: Head, progress: Progress) -> Reading:
        """With the form's hints."""
        found = read_text(
            source.path, source.blocks(), dialect_of(head), self.form.hints, progress=progress
        )
        notes = () if self.form.note is None else (self.form.note,)
        reading = text_reading(self.name, source.path, head, found, self.form.framework, notes)
        reading = replace(reading, single_steps=self.form.single)
        if self.form.samples is None:
            return reading
        return replace(reading, facts={"samples_per_step": float(self.form.samples)})


def text_reading(
    name: str, path: str, head: Head, found: TextRecords, framework: str | None,
    notes: tuple[str, ...] = (),
) -> Reading:  # fmt: skip
    """The reading of a text."""
    if found.cut:
        notes = (*notes, f"{found.cut} overlong lines were read only at their beginning.")
    return Reading(
        path=path,
        format=name,
        framework=framework,
        records=found.records,
        configuration=printed_settings(head.varied),
        device_rates=found.device_rates,
        lines=found.lines,
        unread=found.unread,
        unread_samples=tuple(found.unread_samples),
        notes=notes,
    )


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
        data = source.whole()
        progress(len(data))
        text = data.decode(head.encoding, "replace").lstrip("\ufeff")
        table = read_csv(source.path, text, self.roles)
        return _table_reading(self.name, source.path, table, self.framework, head)


def _header(head: Head) -> list[str] | None:
    first = next((line for line in head.text[:50_000].splitlines() if line.strip()), "")
    if first.lstrip().startswith(("{", "[", ":::")):
        return None
    for delimiter in ",\t;|":
        names = [name.strip().strip('"') for name in first.strip().strip("|").split(delimiter)]
        named = [n for n in names if re.match(r"^[A-Za-z_#@\u4e00-\u9fff][^:={}]{0,60}$", n)]
        if len(names) >= 2 and len(named) >= 0.8 * len(names) and not _NUMBER_ALONE.search(first):
            second = _row_after(head.text, first)
            if second is not None and _is_row(second, delimiter, len(names)):
                return names
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


def _row_after(text: str, first: str) -> str | None:
    rest = text[text.index(first) + len(first) :][:20_000]
    row = next((line for line in rest.splitlines() if line.strip()), None)
    return row if row is not None and re.search(r"[0-9]", row) else None


class MlPerf:
    """MLPerf's marks in a log that tells no times itself."""

    name = "mlperf_mllog"
    title = "MLPerf's own log lines"
    example = ':::MLLOG {"namespace": "", "time_ms": 1593864252065, "key": "epoch_start", …}'

    def score(self, head: Head) -> Score:
        """By its marks; forms that tell the times of steps are surer."""
        found = sum(is_mlperf(line) for line in head.sample)
        return Score(0.48 * (found + 1) / (found + 1.2) if found > 3 else 0.0, f"{found} marks")

    def read(self, source: Source, head: Head, progress: Progress) -> Reading:
        """The events between the marks."""
        lines: list[tuple[int, str]] = []
        last = 0
        for chunk in chunks(source.blocks()):
            last = int(chunk.number[-1]) if chunk.number.size else last
            for number, line in zip(chunk.number.tolist(), chunk.lines, strict=True):
                if b":::ML" in line:
                    lines.append((number, line.decode("utf-8", "replace")))
            progress(chunk.size)
        return Reading(
            path=source.path, format=self.name, records=read_events(lines), lines=last
        )  # fmt: skip


@dataclass(frozen=True)
class Document:
    """A format with a module of its own, imported when a file is looked at.

    `place` is "module:Class" with `score(name, head_text)` and `read(path, data)`.
    """

    name: str
    title: str
    example: str
    place: str

    def score(self, head: Head) -> Score:
        """As the module sees it."""
        value = float(self._reader().score(head.name, head.text))
        return Score(value, "its content has that form")

    def read(self, source: Source, head: Head, progress: Progress) -> Reading:
        """As the module does."""
        data = source.whole()
        progress(len(data))
        reading: Reading = self._reader().read(source.path, data)
        return reading

    def _reader(self) -> Any:
        module, _, name = self.place.partition(":")
        return getattr(import_module(module), name)()


@dataclass(frozen=True)
class Binary:
    """A format told by its first bytes; `module` has `matches` and `read` by these names."""

    name: str
    title: str
    example: str
    module: str
    matches: str

    def score(self, head: Head) -> Score:
        """Sure or not."""
        known = getattr(import_module(self.module), self.matches)(head.name, head.raw)
        return Score(1.0 if known else 0.0, "its first bytes say so")

    def read(self, source: Source, head: Head, progress: Progress) -> Reading:
        """As the module does."""
        data = source.whole()
        progress(len(data))
        reading: Reading = import_module(self.module).read(source.path, data)
        return reading


def text_formats() -> tuple[TextFormat, ...]:
    """Every known form of text."""
    return tuple(TextFormat(form) for form in FORMS)
