"""Boxes of names and values, one a line, as the loggers of reinforcement learning print them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from perfdoctor.readers.columns import Table, by_name
from perfdoctor.readers.files import Head, Source
from perfdoctor.readers.kinds import Progress, Score
from perfdoctor.readers.lines import chunks
from perfdoctor.readers.records import Reading

#: `|    fps              | 250      |`
_ROW = re.compile(r"^[ \t>#]{0,20}[|│┃]( {0,40})([^|│┃]{1,60})[|│┃]([^|│┃]{0,60})[|│┃]\s{0,20}$")
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:e[-+]?[0-9]{1,3})?")
#: Lines looked at to tell the format, and boxes that are made columns at once.
_LOOKED_AT, _AT_ONCE = 2000, 1024
#: A box has so many lines at most; what goes on and on is another table.
_LONGEST = 200


@dataclass(frozen=True)
class Boxes:
    """Boxes with names that tell the format."""

    name: str
    title: str
    example: str
    names: frozenset[str]
    framework: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)

    def score(self, head: Head) -> Score:
        """By the lines of boxes in the head that have these names."""
        rows = (_ROW.match(line) for line in head.lines[:_LOOKED_AT])
        named = sum(row is not None and row[2].strip() in self.names for row in rows)
        value = 0.95 * (named + 1) / (named + 1.2) if named > 1 else 0.0
        return Score(value, f"{named} lines of boxes with its names")

    def read(self, source: Source, head: Head, progress: Progress) -> Reading:
        """Every box a record."""
        table = Table(roles=self.roles)
        boxes = _boxes(source.blocks(), table, progress)
        while some := list(islice(boxes, _AT_ONCE)):
            rows = [box for _, box in some]
            numbers = np.array([number for number, _ in some], np.int64)
            table.add(numbers, by_name(np.arange(len(rows)), rows))
        return Reading(
            path=source.path,
            format=self.name,
            framework=self.framework,
            records=table.records(),
            lines=table.last_line,
            notes=("Its rates are of steps of the game in a second.",),
        )


def _boxes(
    blocks: Iterable[bytes], table: Table, progress: Progress
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The first line of each box and its values by their names, behind that of their section."""
    box: dict[str, Any] = {}
    begin, section, margin = 0, "", 0
    for chunk in chunks(blocks):
        for number, line in zip(chunk.number.tolist(), chunk.lines, strict=True):
            row = _ROW.match(line.decode("utf-8", "replace")) if len(line) < 200 else None
            if row is None or len(box) >= _LONGEST:
                if box:
                    yield begin, box
                box, section = {}, ""
                continue
            indent, name, text = len(row[1]), row[2].strip(), row[3].strip()
            begin = begin if box else number
            if not text:
                section, margin = name.rstrip("/"), indent
            elif (value := _value(text)) is not None:
                inside = section and indent > margin
                box[f"{section}/{name}" if inside else name] = value
        table.last_line = int(chunk.number[-1]) if chunk.number.size else table.last_line
        progress(chunk.size)
    if box:
        yield begin, box


def _value(text: str) -> float | int | None:
    if _NUMBER.fullmatch(text) is None:
        return None
    return float(text) if re.search(r"[.e]", text) else int(text)
