"""Lines of JSON and tables of comma-separated values: names and values need no guessing there."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import msgspec
import numpy as np

from perfdoctor.errors import PerfdoctorError
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
#: A row with a smaller part of the cells is cut, or none.
_FEW_CELLS = 0.5


def read_json_lines(
    path: str,
    blocks: Iterable[bytes],
    roles: Mapping[str, str],
    progress: Callable[[int], None] | None = None,
) -> Table:
    """One JSON object a line, perhaps behind a logger's prefix; other lines are left alone."""
    table = Table(roles=roles)
    for chunk in chunks(blocks):
        candidates = _objects(chunk)
        while some := list(islice(candidates, _ROWS)):
            numbers, rows = _decoded(path, table, some)
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
    header_line = next((line for line in lines if line.strip()), None)
    if header_line is None:
        raise PerfdoctorError(f"{path}: the table is empty", slug="log-empty")
    first = counter.count
    head = [header_line, *islice(lines, _LOOKED_AT)]
    delimiter = delimiter_of(header_line)
    days = any(_DAY_FIRST.match(line) for line in head)
    commas = delimiter == ";" and any(_COMMA_NUMBER.search(line) for line in head[:_FIRST_ROWS])
    table = Table(roles=roles, dialect=Dialect(day_first=days))
    reader = csv.reader(chain(head, lines), delimiter=delimiter, skipinitialspace=True)
    header = [name.strip() for name in next(reader)]
    rows = _rows(path, table, reader, header, first - 1)
    many = max(1, min(_ROWS, _CELLS // len(header)))
    while some := list(islice(rows, many)):
        numbers, cells = zip(*some, strict=True)
        named = zip(header, zip(*cells, strict=True), strict=True)
        columns = [_named(name, column, commas) for name, column in named]
        table.add(np.array(numbers, np.int64), columns)
    table.last_line = counter.count
    return table


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
