"""`nvidia-smi --query-gpu=… --format=csv`, with or without a header and units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perfdoctor.readers.cells import as_text, lines_of, moment, numbers
from perfdoctor.readers.nvidia_headless import IDENTITY, TOTAL, USED, first_of_each, guessed_roles
from perfdoctor.readers.records import Reading
from perfdoctor.readers.samples import TIME, Rows, reading
from perfdoctor.record import Floats

_HEAD_LINES = 200
_SOME_LINES = 50
_MIB = 2**20
_BYTES = {"kib": 2**10, "kb": 2**10, "gib": 2**30, "gb": 2**30}
_FREE = "free"

#: Name of a queried property, letters only → role. Of several with one role the first counts.
_ROLES = {
    "timestamp": TIME,
    **dict.fromkeys(("index", "uuid", "gpuuuid", "pcibusid", "gpubusid"), IDENTITY),
    "utilizationgpu": "gpu",
    "utilizationmemory": "gpu_memory_busy",
    "memoryused": USED,
    "memorytotal": TOTAL,
    "memoryfree": _FREE,
    "temperaturegpu": "gpu_temperature_c",
    **dict.fromkeys(("powerdraw", "powerdrawinstant", "powerdrawaverage"), "gpu_power_w"),
    **dict.fromkeys(
        ("clockssm", "clockscurrentsm", "clocksgr", "clockscurrentgraphics"), "gpu_clock_mhz"
    ),
}
#: Properties that are of no use here but tell that nvidia-smi wrote the header.
_OTHERS = re.compile(
    r"(?:name|gpuname|count|pstate|serial|gpuserial|driverversion|vbiosversion|fanspeed|gputemp\w*"
    r"|utilization\w*|memory\w*|temperature\w*|power\w*|clocks\w*|pci\w*|pcie\w*|ecc\w*|compute\w*"
    r"|display\w*|persistence\w*|encoder\w*|mig\w*|enforced\w*|accounting\w*|retired\w*)"
)
_NOT_LETTERS = re.compile(r"[^a-z]")


@dataclass(frozen=True)
class _Layout:
    """The header (empty: none) and where it ends, what parts cells, each column's role and unit."""

    header: str
    first: int
    delimiter: str
    roles: tuple[str | None, ...]
    units: tuple[str, ...]


class NvidiaSmiCsv:
    """Any choice and order of properties, of one GPU or several."""

    name = "nvidia_smi_csv"

    def score(self, name: str, head: str) -> float:
        """How sure it is, 0–1."""
        lines = lines_of(head[: 256 * _HEAD_LINES])[:_HEAD_LINES]
        if _header(lines) is not None:
            return 0.97
        layout = _headless(lines)
        if layout is None:
            return 0.0
        return 0.9 if len(layout.roles) > 1 else 0.5

    def read(self, path: str, data: str | bytes) -> Reading:
        """One record each time that the GPUs were asked."""
        text = as_text(data)
        lines = lines_of(text)
        layout = _header(lines[:_HEAD_LINES]) or _headless(lines[:_HEAD_LINES])
        if layout is None:
            return reading(self.name, "nvidia-smi", path, text, Rows([], {}))
        table, unread = _table(lines, layout)
        rows = _rows(table, layout)
        notes = [] if layout.header else ["no header: columns told by their units"]
        return reading(self.name, "nvidia-smi", path, text, rows, unread, notes)


def _header(lines: Sequence[str]) -> _Layout | None:
    for index, line in enumerate(lines):
        delimiter = _delimiter(line)
        cells = _split(line, delimiter)
        if _is_header(cells):
            roles = [_ROLES.get(_letters(cell)) for cell in cells]
            units = [cell.rpartition("[")[2].strip("[] ").lower() for cell in cells]
            unique = tuple(first_of_each(roles))
            return _Layout(line.strip(), index + 1, delimiter, unique, tuple(units))
    return None


def _is_header(cells: Sequence[str]) -> bool:
    """Nothing but properties; some may be unknown if one is written as only nvidia-smi does."""
    names = [_letters(cell) for cell in cells]
    measured = [_ROLES.get(name) not in (None, TIME, IDENTITY) for name in names]
    known = [name in _ROLES or _OTHERS.fullmatch(name) is not None for name in names]
    dotted = any(m and "." in cell for m, cell in zip(measured, cells, strict=True))
    return any(measured) and (all(known) or (dotted and sum(known) > len(cells) / 2))


def _letters(cell: str) -> str:
    return _NOT_LETTERS.sub("", cell.partition("[")[0].lower())


def _delimiter(line: str) -> str:
    """nvidia-smi writes a comma and a space; the space matters where decimals have a comma."""
    return next((mark for mark in (";", "\t", ", ") if mark in line), ",")


def _split(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"').strip() for cell in line.split(delimiter)]


def _table(
    lines: Sequence[str], layout: _Layout
) -> tuple[list[tuple[int, list[str]]], list[tuple[int, str]]]:
    """Rows with their line numbers, and lines that are none (repeated headers are no loss)."""
    width = len(layout.roles)
    rows: list[tuple[int, list[str]]] = []
    unread = []
    for number_, line in enumerate(lines[layout.first :], start=layout.first + 1):
        if not line.strip() or line.strip() == layout.header:
            continue
        cells = _split(line, layout.delimiter)
        if len(cells) != width and layout.delimiter == ", ":
            cells = _split(line, ",")
        if len(cells) == width:
            rows.append((number_, cells))
        else:
            unread.append((number_, line))
    return rows, unread


def _rows(table: Sequence[tuple[int, list[str]]], layout: _Layout) -> Rows:
    columns: dict[str, Floats] = {}
    gpu: list[str] | None = None
    for position, role in enumerate(layout.roles):
        cells = [row[position] for _, row in table]
        if role == IDENTITY:
            gpu = cells
        elif role == TIME:
            columns[TIME] = np.array([moment(cell) for cell in cells], np.float64)
        elif role in (USED, TOTAL, _FREE):
            columns[role] = _bytes(cells, layout.units[position])
        elif role is not None:
            columns[role] = numbers(cells)
    _fill(columns)
    return Rows([line for line, _ in table], columns, gpu)


def _bytes(cells: Sequence[str], unit: str) -> Floats:
    """MiB where neither the cell nor the header names another unit."""
    default = _BYTES.get(unit, _MIB)
    scale = [_BYTES.get(cell[-3:].strip().lower(), default) for cell in cells]
    return numbers(cells) * np.array(scale, np.float64)


def _fill(columns: dict[str, Floats]) -> None:
    """The share of the memory in use, where its size is known."""
    used, total, free = (columns.pop(role, None) for role in (USED, TOTAL, _FREE))
    if total is None and used is not None and free is not None:
        total = used + free
    if used is None and total is not None and free is not None:
        used = total - free
    if used is not None:
        columns["memory_bytes"] = used
    if used is not None and total is not None:
        columns["gpu_memory"] = 100 * used / np.where(total > 0, total, np.nan)


def _headless(lines: Sequence[str]) -> _Layout | None:
    some = [line for line in lines if line.strip()][:_SOME_LINES]
    if not some:
        return None
    delimiter = _delimiter(some[0])
    table = [_split(line, delimiter) for line in some]
    whole = [cells for cells in table if len(cells) == len(table[0])]
    roles = guessed_roles(whole) if len(whole) >= len(some) - 1 else None  # the last may be cut
    return None if roles is None else _Layout("", 0, delimiter, tuple(roles), ("",) * len(roles))
