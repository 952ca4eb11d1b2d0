"""Lines of JSON and tables of comma-separated values: names and values need no guessing there."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers.lexer import Dialect, Kind, tokens
from perfdoctor.readers.lines import chunks
from perfdoctor.readers.records import METRIC, TRAIN, VALIDATION, Records
from perfdoctor.readers.values import Runs
from perfdoctor.readers.vocabulary import Meaning, label_of, meaning_of
from perfdoctor.readers.word_sets import word_set
from perfdoctor.record import Floats, UnreadLine

_PREFIX = re.compile(rb"^[^{\n]{0,200}?(?=\{\")")
_NO_NUMBER = re.compile(rb"-?\bInfinity\b|\bNaN\b")
_DIGITS = re.compile(rb"[0-9]+")
_TIMESTAMPS = word_set(
    "timestamp _timestamp time_stamp wall_time walltime datetime date finishtime finish_time ts "
    "logged_at created_at @timestamp asctime"
)
#: Seconds since 1970 lie between these (2001 and 2096); above, they are milliseconds.
_EPOCH_S = (1e9, 4e9)
_SAMPLES = 5
_DAY_FIRST = re.compile(r"^\s*(?:1[3-9]|2[0-9]|3[01])[-/.]")


@dataclass
class Table:
    """Rows as columns, while they are read."""

    roles: Mapping[str, str] = field(default_factory=dict)
    columns: dict[str, list[float]] = field(default_factory=dict)
    lines: list[int] = field(default_factory=list)
    unread: int = 0
    unread_samples: list[UnreadLine] = field(default_factory=list)
    last_line: int = 0
    dialect: Dialect = field(default_factory=Dialect)
    parts: bool = False
    device_rates: bool = False

    def add(self, line: int, row: Iterable[tuple[str, Any]]) -> None:
        """One row: what means nothing here is left out."""
        found: dict[str, float] = {}
        for name, value in row:
            self._take(found, name, value)
        if not found:
            return
        count = len(self.lines)
        self.lines.append(line)
        for role, number in found.items():
            values = self.columns.setdefault(role, [])
            if len(values) < count:
                values.extend([float("nan")] * (count - len(values)))
            values.append(number)

    def _take(self, found: dict[str, float], name: str, value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("mean"), int | float):
                value = {"": value["mean"]}  # statistics of one value: how many, mean, deviation
            for inner, part in value.items():
                self._take(found, f"{name}/{inner}".rstrip("/"), part)
            return
        if isinstance(value, str):
            phase = _PHASES.get(value.lower()) if name.lower() in _PHASE_KEYS else None
            if phase is not None:
                found["phase"] = phase
                return
            number, clock = text_value(value, self.dialect)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            return
        else:
            number, clock = float(value), ""
        meaning = self.meaning(name, number, clock)
        if meaning is not None and not math.isnan(number):
            self.parts |= meaning.part
            self.device_rates |= meaning.device
            scale = meaning.scale
            if meaning.role == "time" and number > _EPOCH_S[1]:
                scale = 1e-3
            found.setdefault(meaning.role, number * scale)

    def meaning(self, name: str, number: float, clock: str) -> Meaning | None:
        """What a column is: by the format's own table, as a moment, or by its name."""
        hinted = self.roles.get(name)
        if hinted is not None:
            # OpenMMLab writes memory in MiB
            scale = 2.0**20 if hinted == "memory_bytes" else 1.0
            return Meaning(hinted, scale) if hinted else None
        if clock == "moment" or (name.lower() in _TIMESTAMPS and number > _EPOCH_S[0]):
            return Meaning("time")
        return name_meaning(name, clock == "duration", number == int(number)
                            if abs(number) < 1e15 else False)  # fmt: skip

    def records(self) -> Records:
        """All rows."""
        columns: dict[str, Floats] = {}
        for role, values in self.columns.items():
            values.extend([float("nan")] * (len(self.lines) - len(values)))
            columns[role] = np.array(values, dtype=np.float64)
        if self.parts and len([r for r in columns if r in _TIMES]) > 1:
            columns.pop("unclear_s", None)  # the time of some part, beside others
        if "phase" not in columns:
            columns["phase"] = np.full(len(self.lines), TRAIN)
        columns["phase"] = np.where(np.isfinite(columns["phase"]), columns["phase"], TRAIN)
        return Records(np.array(self.lines, dtype=np.int64), columns)

    def note_unread(self, path: str, line: int, text: str) -> None:
        """Counts a line that gave nothing."""
        self.unread += 1
        if len(self.unread_samples) < _SAMPLES:
            self.unread_samples.append(UnreadLine(path=path, line=line, text=text[:200]))


_TIMES = frozenset(
    ("unclear_s", "step_s", "epoch_s", "elapsed_s", "sample_s", "steps_per_s", "train_s")
)
_PHASE_KEYS = frozenset(("mode", "phase", "split", "stage", "set"))
_PHASES = {"train": TRAIN, "training": TRAIN} | dict.fromkeys(
    ("val", "valid", "validation", "eval", "test", "dev"), VALIDATION
)
_ELAPSED = frozenset(("_runtime", "train_runtime"))


@lru_cache(maxsize=5000)
def name_meaning(name: str, clock: bool, integer: bool) -> Meaning | None:
    """The meaning of a column by its name."""
    if name in _ELAPSED:
        return Meaning("elapsed_s")
    label = label_of(name)
    if label.text in ("eta_seconds", "eta"):
        return None
    found = meaning_of(label, None, integer=integer, clock=clock)
    if found is None or found.role.startswith(METRIC):
        return None if not label.words else Meaning(METRIC + name)
    return found


def text_value(text: str, dialect: Dialect) -> tuple[float, str]:
    """The number in a cell, and whether it was written as a duration or a moment."""
    try:
        return float(text), ""
    except ValueError:
        pass
    if not text or len(text) > 64:
        return float("nan"), ""
    token = next(iter(tokens(text.strip(), dialect)), None)
    if token is None or token.value is None or token.start > 1:
        return float("nan"), ""
    raw = text.strip().encode()
    if not raw.isascii():
        return float("nan"), ""
    spans = [match.span() for match in _DIGITS.finditer(raw)]
    number = float(token.value.read(Runs(np.frombuffer(raw, np.uint8)[None, :], spans))[0])
    if token.kind == Kind.MOMENT:
        return number, "moment"
    if token.kind in (Kind.CLOCK, Kind.DURATION, Kind.MINUTES):
        return number, "duration"
    return (number, "") if token.end >= len(text.strip()) - 4 else (float("nan"), "")


def read_json_lines(
    path: str,
    blocks: Iterable[bytes],
    roles: Mapping[str, str],
    progress: Callable[[int], None] | None = None,
) -> Table:
    """One JSON object a line, perhaps behind a logger's prefix; other lines are left alone."""
    table = Table(roles=roles)
    decode = msgspec.json.Decoder().decode
    for chunk in chunks(blocks):
        for number, line in zip(chunk.number.tolist(), chunk.lines, strict=True):
            text = line.lstrip()
            if not text.startswith(b"{"):
                if b'{"' not in text:
                    continue
                text = _PREFIX.sub(b"", text, count=1)
            try:
                row = decode(text)
            except (msgspec.DecodeError, RecursionError):
                try:
                    row = decode(_NO_NUMBER.sub(b"null", text))
                except (msgspec.DecodeError, RecursionError):
                    table.note_unread(path, number, text[:200].decode("utf-8", "replace"))
                    continue
            if isinstance(row, dict):
                table.add(number, row.items())
        table.last_line = int(chunk.number[-1]) if chunk.number.size else table.last_line
        if progress is not None:
            progress(chunk.size)
    return table


def delimiter_of(header: str) -> str:
    """What separates the columns."""
    return max(",\t;|", key=header.count)


def read_csv(
    path: str,
    text: str,
    roles: Mapping[str, str],
    names: tuple[str, ...] | None = None,
) -> Table:
    """A table with a header line (or with `names` given, without one)."""
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise PerfdoctorError(f"{path}: the table is empty", slug="log-empty")
    delimiter = delimiter_of(lines[first])
    days = any(_DAY_FIRST.match(line) for line in lines[first : first + 2000])
    decimal_comma = delimiter == ";" and sum(
        bool(re.search(r";[0-9]+,[0-9]+", line)) for line in lines[first : first + 50]
    ) > 0  # fmt: skip
    table = Table(roles=roles, dialect=Dialect(day_first=days))
    reader = csv.reader(lines[first:], delimiter=delimiter, skipinitialspace=True)
    header = [name.strip() for name in next(reader)] if names is None else list(names)
    begin = reader.line_num
    for row in reader:
        line, begin = first + begin + 1, reader.line_num
        if not any(cell.strip() for cell in row) or [c.strip() for c in row] == header:
            continue
        if decimal_comma:
            row = [cell.replace(",", ".") for cell in row]
        if len(row) != len(header) and len(row) < 0.5 * len(header):
            table.note_unread(path, line, delimiter.join(row))
            continue
        table.add(line, ((n, c.strip()) for n, c in zip(header, row, strict=False) if c.strip()))
    table.last_line = len(lines)
    return table
