"""Lines of text → columns, many lines at a time.

Lines of one shape (every digit replaced by 0) are laid under each other as a matrix of bytes, so
that a value is read out of all of them at once. What a shape holds is found out only once, from
its first line: a log of a million lines has some hundred shapes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from perfdoctor.readers.fields import Field, Template
from perfdoctor.readers.lines import Chunk
from perfdoctor.readers.records import METRIC
from perfdoctor.readers.values import Runs
from perfdoctor.record import Floats

_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_RUN = re.compile(rb"0+")
_LONG_RUN = re.compile(rb"0{5,}")
_DECIMALS = re.compile(rb"\.0+")
#: More shapes than this are forgotten and found out anew: memory must not grow with the file.
_REMEMBERED = 20_000
#: Names of metrics kept of one file; a line of a log may print hundreds.
_MOST_METRICS = 24

Analyse = Callable[[Chunk, int], Template]


@dataclass(frozen=True)
class _Resolved:
    """A template with the places of the digit runs in one shape."""

    template: Template
    spans: list[tuple[int, int]]


@dataclass
class Block:
    """The rows of one chunk: line indices within it, and the columns."""

    rows: NDArray[np.int64]
    columns: dict[str, Floats]
    unread: list[int] = field(default_factory=list)


class ShapeReader:
    """Reads chunks of lines into blocks. `analyse` is asked once for every new kind of line."""

    def __init__(self, analyse: Analyse, suspicious: Callable[[bytes], bool]) -> None:
        self._analyse = analyse
        self._suspicious = suspicious
        self._shapes: dict[bytes, _Resolved | None] = {}
        self._templates: dict[bytes, Template] = {}
        self._metrics: set[str] = set()

    def read(self, chunk: Chunk) -> Block:
        """All lines of a chunk."""
        unread: list[int] = []
        parts: list[tuple[NDArray[np.int64], dict[str, Floats]]] = []
        for shape, rows, cells in _by_shape(chunk):
            resolved = self._resolve(shape, chunk, int(rows[0]))
            if resolved is not None:
                parts.append((rows, self._columns(resolved.template, Runs(cells, resolved.spans))))
            elif b"0" in shape and self._suspicious(shape):
                unread += rows.tolist()
        return _merge(parts, unread)

    def _resolve(self, shape: bytes, chunk: Chunk, i: int) -> _Resolved | None:
        if b"0" not in shape:
            return None
        if shape in self._shapes:
            return self._shapes[shape]
        if len(self._shapes) >= _REMEMBERED:
            self._shapes.clear()
            self._templates.clear()
        skeleton = _LONG_RUN.sub(b"00000", _DECIMALS.sub(b".0", shape))
        template = self._templates.get(skeleton)
        if template is None:
            template = self._templates[skeleton] = self._kept(self._analyse(chunk, i))
        resolved = None
        if template:
            spans = [match.span() for match in _RUN.finditer(shape)]
            resolved = _Resolved(template, spans)
        self._shapes[shape] = resolved
        return resolved

    def _kept(self, template: Template) -> Template:
        """Without the metrics of single training steps: what counts is how epochs end."""
        roles = template.roles()
        stepwise = "step" in roles and not any("val" in r or "eval" in r for r in roles)
        kept: list[Field] = []
        for entry in template.fields:
            if entry.role.startswith(METRIC):
                known = entry.role in self._metrics
                if stepwise or (not known and len(self._metrics) >= _MOST_METRICS):
                    continue
                self._metrics.add(entry.role)
            kept.append(entry)
        return Template(tuple(kept), template.phase, template.device_rates)

    @staticmethod
    def _columns(template: Template, runs: Runs) -> dict[str, Floats]:
        columns = {"phase": np.broadcast_to(np.float64(template.phase), len(runs))}
        for entry in template.fields:
            values = entry.value.read(runs)
            if entry.per is not None:
                count = entry.per.read(runs)
                values = np.divide(values, count, out=np.full(len(runs), np.nan), where=count > 0)
            columns[entry.role] = values if entry.scale == 1.0 else values * entry.scale
        return columns


#: From so many lines of one length on, comparing bytes beats looking up each line.
_MANY = 64
#: Lines of one length have at most so many shapes before the rest is looked up one by one.
_SHAPES_OF_A_LENGTH = 8

Group = tuple[bytes, NDArray[np.int64], NDArray[np.uint8]]


def _by_shape(chunk: Chunk) -> Iterator[Group]:
    """The lines of each shape: the shape, the lines' indices, and their bytes as a matrix."""
    zeroed = np.frombuffer(chunk.data.translate(_TO_ZERO), np.uint8)
    data = np.frombuffer(chunk.data, np.uint8)
    lengths = chunk.ends - chunk.starts
    order = np.argsort(lengths, kind="stable")
    cuts = np.flatnonzero(np.diff(lengths[order])) + 1
    for rows in np.split(order, cuts):
        length = int(lengths[rows[0]]) if rows.size else 0
        if not length:
            continue
        shapes = sliding_window_view(zeroed, length)[chunk.starts[rows]]
        cells = sliding_window_view(data, length)[chunk.starts[rows]]
        yield from _of_one_length(rows, shapes, cells)


def _of_one_length(
    rows: NDArray[np.int64], shapes: NDArray[np.uint8], cells: NDArray[np.uint8]
) -> Iterator[Group]:
    for _ in range(_SHAPES_OF_A_LENGTH):
        if rows.size < _MANY:
            break
        same = (shapes == shapes[0]).all(axis=1)
        yield shapes[0].tobytes(), rows[same], cells[same]
        rows, shapes, cells = rows[~same], shapes[~same], cells[~same]
    groups: dict[bytes, list[int]] = defaultdict(list)
    length = shapes.shape[1]
    joined = shapes.tobytes()
    for i in range(rows.size):
        groups[joined[i * length : (i + 1) * length]].append(i)
    for shape, inside in groups.items():
        yield shape, rows[inside], cells[inside]


def _merge(parts: list[tuple[NDArray[np.int64], dict[str, Floats]]], unread: list[int]) -> Block:
    """The groups' rows in the order of the lines."""
    if not parts:
        return Block(np.empty(0, np.int64), {}, unread)
    rows = np.concatenate([part[0] for part in parts])
    order = np.argsort(rows, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    columns: dict[str, Floats] = {}
    start = 0
    for part_rows, part_columns in parts:
        target = place[start : start + part_rows.size]
        start += part_rows.size
        for role, values in part_columns.items():
            if role not in columns:
                columns[role] = np.full(rows.size, np.nan)
            columns[role][target] = values
    return Block(rows[order], {role: _compact(c) for role, c in columns.items()}, unread)


def _compact(values: Floats) -> Floats:
    """A column of one value takes no memory."""
    if values.size > 1 and values[0] == values[-1] and bool((values == values[0]).all()):
        constant: Floats = np.broadcast_to(values[0], values.shape)
        return constant
    return values


def stack(columns: list[tuple[int, dict[str, Floats]]]) -> dict[str, Floats]:
    """The blocks' columns under each other, each with its number of rows."""
    roles = dict.fromkeys(role for _, block in columns for role in block)
    return {role: _compact(np.concatenate(list(_pieces(columns, role)))) for role in roles}


def _pieces(columns: list[tuple[int, dict[str, Floats]]], role: str) -> Iterator[Floats]:
    for count, block in columns:
        yield block[role] if role in block else np.full(count, np.nan)
        block.pop(role, None)  # one column at a time, or memory would hold all of them twice
