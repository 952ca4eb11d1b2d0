"""What perfdoctor's own hardware sampler writes."""

from __future__ import annotations

import re

import numpy as np

from perfdoctor.readers.cells import as_text, lines_of, moment, number
from perfdoctor.readers.records import Reading
from perfdoctor.readers.samples import TIME, Rows, reading

_OWN = re.compile(r"(?:gpu|cpu|ram|swap|disk|net|memory)[a-z0-9_]{0,40}")


class HardwareCsv:
    """What perfdoctor's own sampler writes: `time` in seconds since 1970, then its counters."""

    name = "hardware_csv"

    def score(self, name: str, head: str) -> float:
        """How sure it is, 0–1."""
        return 0.95 if _own_columns(head.partition("\n")[0]) else 0.0

    def read(self, path: str, data: str | bytes) -> Reading:
        """Every column under its own name."""
        text = as_text(data)
        lines = lines_of(text)
        header = _own_columns(lines[0]) or []
        numbers: list[int] = []
        rows: list[list[float]] = []
        unread = []
        for index, line in enumerate(lines[1:], start=2):
            cells = line.split(",")
            if len(cells) == len(header):
                rows.append([moment(cells[0]), *map(number, cells[1:])])
                numbers.append(index)
            elif line.strip():
                unread.append((index, line))
        table = np.array(rows, np.float64).reshape(len(rows), len(header))
        columns = {role: table[:, i] for i, role in enumerate(header)}
        return reading(self.name, "perfdoctor", path, text, Rows(numbers, columns), unread)


def _own_columns(line: str) -> list[str] | None:
    cells = [cell.strip().strip('"') for cell in line[:4096].lstrip("\ufeff").split(",")]
    own = len(cells) > 1 and cells[0] == TIME and all(_OWN.fullmatch(c) for c in cells[1:])
    return cells if own else None
