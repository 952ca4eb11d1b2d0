"""Tables in text: a line of names above lines of values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from perfdoctor.readers.fields import Field, Template
from perfdoctor.readers.labels import Meaning, label_of
from perfdoctor.readers.lexer import Dialect, Kind, Token, tokens
from perfdoctor.readers.lines import Chunk
from perfdoctor.readers.records import TRAIN, VALIDATION
from perfdoctor.readers.units import COUNT, unit_at
from perfdoctor.readers.vocabulary import meaning_of

_LOOK_BACK = 400
_COLUMNS = re.compile(r"\s{0,20}[|│┃]\s{0,20}|\s{2,}|\t")
_NAME = re.compile(r"^[A-Za-z_#\u4e00-\u9fff][\w./()%@\- \u4e00-\u9fff]{0,40}$")
_RULE = re.compile(r"^[\s\-=+|*_─━│┼╋┃┏┓┡┩┌┐├┤]*$")
_LETTERS = re.compile(r"[A-Za-z]{2,}")
#: The names of a table that counts, and a row of numbers alone: Chainer draws its bar between them.
_BARE = re.compile(r"[\s0-9.,eE+\-]+")
_COUNTS_FIRST = re.compile(rb"(?i)\s{0,20}(?:epoch|step|iter)[a-z]{0,10}\s")
_FEWEST = 3
_BARS = "|│┃"
_TOLD_BY_THEMSELVES = ("time", "clock", "steps_per_s", "step_s", "bar_elapsed_s", "step")


class Headers:
    """The names above rows of bare values. A progress bar may be drawn between the rows of a table
    whose first column counts, and carry them far from their names."""

    def __init__(self) -> None:
        self._chunk: Chunk | None = None
        self._found: list[tuple[int, tuple[str, ...]]] = []

    def above(self, lines: Chunk, i: int, line: str, dialect: Dialect) -> tuple[str, ...] | None:
        """As `header_above`, else the last names far above, if the line has as many values."""
        found = header_above(lines, i, line)
        if found is not None or not _BARE.fullmatch(line[:1000]):
            return found
        last = next((names for at, names in reversed(self._in(lines)) if at < i), ())
        return last if last and _is_row(line, len(last), dialect) else None

    def _in(self, lines: Chunk) -> list[tuple[int, tuple[str, ...]]]:
        """Where in a chunk names stand, and the last ones of the chunk before."""
        if lines is not self._chunk:
            self._chunk = lines
            self._found = [(-1, names) for _, names in self._found[-1:]] + list(_tables(lines))
        return self._found


def _tables(lines: Chunk) -> Iterator[tuple[int, tuple[str, ...]]]:
    for i, line in enumerate(lines.lines):
        if _COUNTS_FIRST.match(line):
            names = _names(line[:1000].decode("utf-8", "replace").strip())
            if names is not None:
                yield i, names


def _is_row(line: str, many: int, dialect: Dialect) -> bool:
    """Whether a line holds so many numbers, the first of them whole."""
    values = list(tokens(line[:1000], dialect))
    numbers = all(t.kind == Kind.NUMBER for t in values)
    return numbers and len(values) == many and values[0].integer


def header_above(lines: Chunk, i: int, line: str) -> tuple[str, ...] | None:
    """The names above line `i`, if it is a row of bare values under such a line."""
    if len(_LETTERS.findall(line[:400])) > 3:
        return None
    second: list[str] = []
    for above in range(i - 1, max(-1, i - _LOOK_BACK), -1):
        text = lines[above][:1000].decode("utf-8", "replace").strip()
        if _RULE.match(text):
            continue
        names = _over_two_lines(text, second) if second else _names(text)
        if names is not None:
            return names
        if not second and (second := _cell_names(text, line)):
            continue
        if len(_LETTERS.findall(text)) > 3:
            return None  # a sentence: no row of the table
    return None


def _cell_names(text: str, line: str) -> list[str]:
    """What stands in the cells of a line that goes on with the names above it: some of the cells
    are empty, as "|  | (hh:mm:ss) | RMSE |" under "| Iteration | Time Elapsed | Mini-batch |"."""
    cells = _between_bars(text)
    empty = cells.count("")
    alike = len(cells) >= _FEWEST and len(cells) == len(_between_bars(line.strip()))
    plain = not any(sign.isdigit() for sign in text)
    return cells if alike and plain and 0 < empty < len(cells) else []


def _between_bars(text: str) -> list[str]:
    """What stands between the bars of a line that begins and ends with one."""
    if len(text) < 2 or text[0] not in _BARS or text[-1] not in _BARS:
        return []
    return [cell.strip() for cell in re.split(f"[{_BARS}]", text[1:-1])]


def _over_two_lines(text: str, second: Sequence[str]) -> tuple[str, ...] | None:
    """The names of both lines, cell by cell."""
    cells = _between_bars(text)
    if len(cells) != len(second) or not all(_NAME.match(cell) for cell in cells):
        return None
    return tuple(f"{above} {below}".strip() for above, below in zip(cells, second, strict=True))


def _names(text: str) -> tuple[str, ...] | None:
    columns = [name for name in _COLUMNS.split(text.strip(_BARS + " ")) if name]
    for names in (columns, text.split()):
        if len(names) >= _FEWEST and all(_NAME.match(name) for name in names):
            return tuple(names)
    return None


def with_header(found: Template, line: str, header: tuple[str, ...], dialect: Dialect) -> Template:
    """The template with the header's names for the values in their order."""
    values = [t for t in tokens(line, dialect) if t.kind != Kind.OPAQUE]
    cells = _cells(line)
    if not cells and len(values) == len(header) + 1 and _numbers_the_row(values[0], line):
        values = values[1:]
    pairs = list(zip(header, values, strict=False))
    if len(cells) == len(header):
        pairs = list(_by_cell(header, cells, values))
        found = replace(found, phase=_said_phase(line, header, cells, found.phase))
    elif len(values) < len(header):
        return found
    fields: dict[str, Field] = {}
    meant = [(token, _meaning(name, token, line)) for name, token in pairs]
    for token, meaning in _without_parts(meant):
        for entry in _fields(meaning, token):
            fields.setdefault(entry.role, entry)
    named = {id(entry.value) for entry in fields.values()}
    for entry in found.fields:
        if entry.role in _TOLD_BY_THEMSELVES and id(entry.value) not in named:
            fields.setdefault(entry.role, entry)
    return replace(found, fields=tuple(fields.values()))


def _numbers_the_row(first: Token, line: str) -> bool:
    """R and pandas print the number of a row before it, under no name."""
    return first.kind == Kind.NUMBER and first.integer and not line[: first.start].strip()


def _cells(line: str) -> list[tuple[int, int]]:
    """Where the cells between bars begin and end; none where there are no bars."""
    begin = len(line) - len(line.lstrip(_BARS + " "))
    inner = line.rstrip(_BARS + " \r\n")
    bars = [i for i, sign in enumerate(inner) if sign in _BARS and i >= begin]
    if not bars:
        return []
    return list(zip([begin, *(i + 1 for i in bars)], [*bars, len(inner)], strict=True))


def _by_cell(
    header: Sequence[str], cells: Sequence[tuple[int, int]], values: Sequence[Token]
) -> Iterator[tuple[str, Token]]:
    """The first value of each cell; there may be lists in a cell, or none."""
    for name, (begin, end) in zip(header, cells, strict=True):
        inside = next((t for t in values if begin <= t.start and t.end <= end), None)
        if inside is not None:
            yield name, inside


def _said_phase(
    line: str, header: Sequence[str], cells: Sequence[tuple[int, int]], phase: float
) -> float:
    """ "train | True": a column that says which rows are of the training."""
    for name, (begin, end) in zip(header, cells, strict=True):
        said = line[begin:end].strip().lower()
        if name.lower() in ("train", "training") and said in ("true", "false"):
            return TRAIN if said == "true" else VALIDATION
    return phase


def _meaning(name: str, token: Token, line: str) -> Meaning | None:
    if token.value is None:
        return None
    if token.kind == Kind.MOMENT:
        return Meaning("time")
    if token.kind == Kind.TIME_OF_DAY:
        return Meaning("clock")
    unit = unit_at(line, token.end) if token.kind == Kind.NUMBER else None
    unit = None if unit is not None and unit.kind == COUNT else unit
    clock = token.kind in (Kind.CLOCK, Kind.MINUTES, Kind.DURATION)
    return meaning_of(label_of(name), unit, integer=token.integer, clock=clock)


def _without_parts(
    meant: Sequence[tuple[Token, Meaning | None]],
) -> Iterator[tuple[Token, Meaning]]:
    """A time under a name of its own, beside others, is of some part."""
    times = [m for _, m in meant if m is not None and m.role.endswith("_s")]
    for token, meaning in meant:
        if meaning is not None and not (meaning.part and len(times) > 1):
            yield token, meaning


def _fields(meaning: Meaning, token: Token) -> Iterator[Field]:
    assert token.value is not None
    yield Field(meaning.role, token.value, meaning.scale)
    if token.whole is not None and meaning.role in ("step", "epoch"):
        yield Field(f"{meaning.role}_total", token.whole)
