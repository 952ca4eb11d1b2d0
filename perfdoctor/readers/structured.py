"""Lines of JSON and tables of comma-separated values: names and values need no guessing there."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, pairwise
from typing import Any

import msgspec
import numpy as np

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers.column_names import column_role
from perfdoctor.readers.columns import Named, Table, by_name
from perfdoctor.readers.lexer import Dialect
from perfdoctor.readers.lines import Chunk, chunks

_PREFIX = re.compile(rb"^[^{\n]{0,200}?(?=\{\")")
_NO_NUMBER = re.compile(rb"-?\bInfinity\b|\bNaN\b")
_DAY_FIRST = re.compile(r"^\s*(?:1[3-9]|2[0-9]|3[01])[-/.]")
_COMMA_NUMBER = re.compile(r";[0-9]+,[0-9]+")
#: Rows that are made columns at once: enough for arrays to pay, few enough for the cache (four
#: times as many take 1.5 times as long); fewer where they are wide.
_ROWS, _CELLS = 1024, 2**18
#: Lines that dates and decimal commas are looked for in.
_LOOKED_AT, _FIRST_ROWS = 2000, 50
#: Numbers of rows are not longer; so many of them are one more than the one above.
_MOST_DIGITS, _MOSTLY = 12, 0.8
#: A row with a smaller part of the cells is cut, or none.
_FEW_CELLS = 0.5


def read_json_lines(
    path: str,
    blocks: Iterable[bytes],
    roles: Mapping[str, str],
    progress: Callable[[int], None] | None = None,
    record: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Table:
    """One JSON object a line, perhaps behind a logger's prefix; other lines are left alone.
    `record` makes what counts of an object, where a format needs that."""
    table = Table(roles=roles)
    for chunk in chunks(blocks):
        candidates = _objects(chunk)
        while some := list(islice(candidates, _ROWS)):
            numbers, rows = _decoded(path, table, some)
            rows = rows if record is None else [record(row) for row in rows]
            table.add(np.array(numbers, np.int64), by_name(np.arange(len(rows)), rows))
        table.last_line = int(chunk.number[-1]) if chunk.number.size else table.last_line
        if progress is not None:
            progress(chunk.size)
    return table


def _objects(chunk: Chunk) -> Iterator[tuple[int, bytes]]:
    """Lines that could hold an object, from its bracket on."""
    for number, line in zip(chunk.number.tolist(), chunk.lines, strict=True):
        text = line.lstrip()
        if text.startswith(b"{"):
            yield number, text
        elif b'{"' in text:
            yield number, _PREFIX.sub(b"", text, count=1)


_decode = msgspec.json.Decoder().decode


def _decoded(
    path: str, table: Table, lines: Sequence[tuple[int, bytes]]
) -> tuple[list[int], list[dict[str, Any]]]:
    numbers: list[int] = []
    rows: list[dict[str, Any]] = []
    for number, text in lines:
        try:
            row = _decode(text)
        except (msgspec.DecodeError, RecursionError):
            try:
                row = _decode(_NO_NUMBER.sub(b"null", text))
            except (msgspec.DecodeError, RecursionError):
                table.note_unread(path, number, text[:200].decode("utf-8", "replace"))
                continue
        if isinstance(row, dict):
            numbers.append(number)
            rows.append(row)
    return numbers, rows


def delimiter_of(header: str) -> str:
    """What separates the columns."""
    return max(",\t;|", key=header.count)


def place_of_header(lines: Sequence[str]) -> int | None:
    """Where the names stand: in the first line that is not empty; where that begins a comment, in
    the last line of it, if that has as many cells as the row below, else in that row."""
    filled = [i for i, line in enumerate(lines) if line.strip()]
    plain = next((k for k, i in enumerate(filled) if not lines[i].lstrip().startswith("#")), None)
    if not filled or not plain:
        return filled[0] if filled else None
    above, row = filled[plain - 1], filled[plain]
    delimiter = delimiter_of(lines[row])
    cells = lines[row].count(delimiter)
    return above if cells and lines[above].count(delimiter) == cells else row


def read_csv(
    path: str,
    blocks: Iterable[bytes],
    roles: Mapping[str, str],
    progress: Callable[[int], None] | None = None,
) -> Table:
    """A table with a header line.

    Raises:
        PerfdoctorError: there is no line in it.
    """
    counter = _Lines(blocks, progress)
    lines = iter(counter)
    head, place = _head(lines)
    if place is None:
        raise PerfdoctorError(f"{path}: the table is empty", slug="log-empty")
    head = head[place:]
    delimiter = delimiter_of(head[0])
    days = any(_DAY_FIRST.match(line) for line in head)
    commas = delimiter == ";" and any(_COMMA_NUMBER.search(line) for line in head[:_FIRST_ROWS])
    table = Table(roles=roles, dialect=Dialect(day_first=days))
    reader = csv.reader(chain(head, lines), delimiter=delimiter, skipinitialspace=True)
    header = [name.strip() for name in next(reader)]
    names = [header[0].lstrip("# ") or header[0], *header[1:]]
    table.roles = {**_numbering(names, head[1:_FIRST_ROWS], delimiter), **roles}
    rows = _rows(path, table, reader, header, place)
    many = max(1, min(_ROWS, _CELLS // len(header)))
    while some := list(islice(rows, many)):
        numbers, cells = zip(*some, strict=True)
        named = zip(names, zip(*cells, strict=True), strict=True)
        columns = [_named(name, column, commas) for name, column in named]
        table.add(np.array(numbers, np.int64), columns)
    table.last_line = counter.count
    return table


def _head(lines: Iterator[str]) -> tuple[list[str], int | None]:
    """The first lines, as far as dates are looked for, and where the names stand in them."""
    head: list[str] = []
    while (place := place_of_header(head)) is None and (some := list(islice(lines, _LOOKED_AT))):
        head += some
    return head, place


#: What people call the number of a row.
_NUMBERS = frozenset(("n", "no", "nr", "num", "k"))


def _numbering(names: Sequence[str], rows: Sequence[str], delimiter: str) -> dict[str, str]:
    """A first column with the name of a number that goes on by ones counts the steps, if no other
    column does."""
    first = names[0]
    if first.lower() not in _NUMBERS or any(column_role(name) == "step" for name in names):
        return {}
    cells = [row.partition(delimiter)[0].strip() for row in rows]
    numbers = [int(cell) for cell in cells if cell.isdecimal() and len(cell) < _MOST_DIGITS]
    on = [b - a == 1 for a, b in pairwise(numbers)]
    return {first: "step"} if len(on) > 1 and sum(on) > _MOSTLY * len(on) else {}


def _rows(
    path: str, table: Table, reader: Any, header: Sequence[str], before: int
) -> Iterator[tuple[int, list[str]]]:
    """Rows of as many cells as there are names, each with its line."""
    line = before + reader.line_num
    while True:
        try:
            for row in reader:
                line, begin = before + reader.line_num, line + 1
                kept = _row(row, header)
                if kept is not None:
                    yield begin, kept
                elif row and len(row) < _FEW_CELLS * len(header) and any(row):
                    table.note_unread(path, begin, ",".join(row))
            return
        except csv.Error:  # a cell without end
            table.note_unread(path, line + 1, "")
            line = before + reader.line_num


def _row(row: list[str], header: Sequence[str]) -> list[str] | None:
    """The row with as many cells as there are names; None if it is empty, cut or the header."""
    if not row or (not row[0] and not "".join(row).strip()):
        return None
    width = len(header)
    if len(row) != width:
        if len(row) < _FEW_CELLS * width:
            return None
        row = (row + [""] * width)[:width]
    again = row[0].strip() == header[0] and [cell.strip() for cell in row] == header
    return None if again else row


def _named(name: str, cells: Sequence[str], decimal_comma: bool) -> Named:
    """A column without its empty cells."""
    rows = np.arange(len(cells))
    if "" in cells:
        filled = [i for i, cell in enumerate(cells) if cell]
        rows, cells = rows[filled], [cells[i] for i in filled]
    if decimal_comma:
        cells = [cell.replace(",", ".") for cell in cells]
    return name, rows, cells


class _Lines:
    """Lines of text out of blocks of UTF-8; `count` of them so far."""

    def __init__(self, blocks: Iterable[bytes], progress: Callable[[int], None] | None) -> None:
        self.count = 0
        self._blocks = blocks
        self._progress = progress

    def __iter__(self) -> Iterator[str]:
        for text in self._texts():
            for line in text.splitlines():
                self.count += 1
                yield line

    def _texts(self) -> Iterator[str]:
        """Text that ends where a line ends."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        for block in self._blocks:
            text = rest + decoder.decode(block).replace("\0", "")
            text = text.removeprefix("\ufeff") if not self.count else text
            end = text.rfind("\n") + 1 or text.rfind("\r", 0, len(text) - 1) + 1
            rest = text[end:]
            yield text[:end]
            if self._progress is not None:
                self._progress(len(block))
        yield rest + decoder.decode(b"", True)
