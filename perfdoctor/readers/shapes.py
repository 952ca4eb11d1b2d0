"""Lines of text → columns, many lines at a time.

Lines of one shape (every digit replaced by 0) are laid under each other as a matrix of bytes, so
that a value is read out of all of them at once. What a shape holds is found out only once, from
its first line: a log of a million lines has some hundred shapes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.ahead import ahead
from perfdoctor.readers.fields import Field, Template
from perfdoctor.readers.lines import Chunk
from perfdoctor.readers.records import METRIC
from perfdoctor.readers.values import Runs
from perfdoctor.record import Floats

_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_ZERO = ord("0")
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
    """The rows of one chunk: line indices within it, and the columns. `unread` and `noted` are
    indices of lines as well."""

    rows: NDArray[np.int64]
    columns: dict[str, Floats]
    unread: list[int] = field(default_factory=list)
    noted: list[int] = field(default_factory=list)


class ShapeReader:
    """Reads chunks of lines into blocks. `analyse` is asked once for every new kind of line; a
    shape in which one of `words` stands has its lines noted."""

    def __init__(
        self, analyse: Analyse, suspicious: Callable[[bytes], bool], words: Sequence[bytes] = ()
    ) -> None:
        self._analyse = analyse
        self._suspicious = suspicious
        self._words = words
        self._shapes: dict[bytes, _Resolved | None] = {}
        self._templates: dict[bytes, Template] = {}
        self._metrics: set[str] = set()

    def read_all(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, Block]]:
        """Each chunk with what its lines tell."""
        for chunk, groups in ahead((chunk, list(_by_shape(chunk))) for chunk in chunks):
            yield chunk, self._block(chunk, groups)

    def read(self, chunk: Chunk) -> Block:
        """All lines of a chunk."""
        return self._block(chunk, _by_shape(chunk))

    def _block(self, chunk: Chunk, groups: Iterable[Group]) -> Block:
        unread: list[int] = []
        noted: list[int] = []
        parts: list[Part] = []
        for shape, rows, cells in groups:
            if any(word in shape for word in self._words):
                noted += rows.tolist()
            resolved = self._resolve(shape, chunk, int(rows[0]))
            if resolved is not None:
                parts.append((rows, self._columns(resolved.template, Runs(cells, resolved.spans))))
            elif b"0" in shape and self._suspicious(shape):
                unread += rows.tolist()
        return Block(*_merge(parts, len(chunk)), unread, noted)

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
_SHAPES_OF_A_LENGTH = 16
#: Bytes that stay in a processor's own cache while they are compared.
_AT_ONCE = 2**18

#: Rows, and what they tell.
Part = tuple[NDArray[np.int64], dict[str, Floats]]
Cells = NDArray[np.uint8]
Group = tuple[bytes, NDArray[np.int64], Cells]


def _by_shape(chunk: Chunk) -> Iterator[Group]:
    """The lines of each shape: the shape, the lines' indices, and their bytes as a matrix."""
    lengths = (chunk.ends - chunk.starts).astype(np.uint16)  # lines are cut before they overflow
    order = np.argsort(lengths, kind="stable")
    cuts = np.flatnonzero(np.diff(lengths[order])) + 1
    for rows in np.split(order, cuts):
        length = int(lengths[rows[0]]) if rows.size else 0
        if length:
            yield from _of_one_length(rows, _cells(chunk.data, chunk.starts[rows], length))


def _cells(data: bytes, starts: NDArray[np.int64], length: int) -> Cells:
    """Lines of one length under each other; not copied where they follow each other."""
    count, first = starts.size, int(starts[0])
    cells: Cells
    if int(starts[-1]) - first == (count - 1) * (length + 1):
        cells = np.ndarray((count, length), np.uint8, data, first, (length + 1, 1))
    else:
        every = np.ndarray((len(data) - length + 1, length), np.uint8, data, 0, (1, 1))
        cells = every[starts]
    return cells


def _of_one_length(rows: NDArray[np.int64], cells: Cells) -> Iterator[Group]:
    for _ in range(_SHAPES_OF_A_LENGTH):
        if rows.size < _MANY:
            break
        shape = cells[0].tobytes().translate(_TO_ZERO)
        same = _of_shape(cells, shape)
        if same.all():
            yield shape, rows, cells
            return
        yield shape, rows[same], cells[same]
        rows, cells = rows[~same], cells[~same]
    groups: dict[bytes, list[int]] = defaultdict(list)
    length = cells.shape[1]
    joined = cells.tobytes().translate(_TO_ZERO)
    for i in range(rows.size):
        groups[joined[i * length : (i + 1) * length]].append(i)
    for shape, inside in groups.items():
        yield shape, rows[inside], cells[inside]


def _of_shape(cells: Cells, shape: bytes) -> NDArray[np.bool_]:
    """The lines that differ from `shape` in nothing but their digits."""
    model = np.frombuffer(shape, np.uint8)
    most = np.where(model == _ZERO, np.uint8(9), np.uint8(0))
    same = np.empty(cells.shape[0], np.bool_)
    count = _AT_ONCE // len(shape) + 1
    for first in range(0, same.size, count):
        part = slice(first, first + count)
        alike = cells[part] - model <= most
        starts = np.arange(alike.shape[0]) * len(shape)
        # of short rows, .all(axis=1) takes three times as long
        np.logical_and.reduceat(alike.reshape(-1), starts, out=same[part])
    return same


def _merge(parts: Sequence[Part], lines: int) -> Part:
    """The groups' rows in the order of the lines."""
    if len(parts) == 1:
        rows, columns = parts[0]
        return rows, {role: _compact(c) for role, c in columns.items()}
    told = np.zeros(lines, np.bool_)
    columns = {}
    for rows, found in parts:
        told[rows] = True
        for role, values in found.items():
            if role not in columns:
                columns[role] = np.full(lines, np.nan)
            columns[role][rows] = values
    kept = np.flatnonzero(told)
    return kept, {role: _compact(c[kept]) for role, c in columns.items()}


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
