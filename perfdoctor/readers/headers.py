"""Tables in text: a line of names above lines of values."""

from __future__ import annotations

import re
from dataclasses import replace

from perfdoctor.readers.fields import Field, Template
from perfdoctor.readers.labels import label_of
from perfdoctor.readers.lexer import Dialect, Kind, Token, tokens
from perfdoctor.readers.lines import Chunk
from perfdoctor.readers.units import COUNT, unit_at
from perfdoctor.readers.vocabulary import meaning_of

_LOOK_BACK = 400
_COLUMNS = re.compile(r"\s{0,20}[|│┃]\s{0,20}|\s{2,}|\t")
_NAME = re.compile(r"^[A-Za-z_#\u4e00-\u9fff][\w./()%@\- \u4e00-\u9fff]{0,40}$")
_RULE = re.compile(r"^[\s\-=+|*_─━│┼╋┃┏┓┡┩┌┐├┤]*$")
_LETTERS = re.compile(r"[A-Za-z]{2,}")
_FEWEST = 3
_TOLD_BY_THEMSELVES = ("time", "clock", "steps_per_s", "step_s", "bar_elapsed_s", "step")


def header_above(lines: Chunk, i: int, line: str) -> tuple[str, ...] | None:
    """The names above line `i`, if it is a row of bare values under such a line."""
    if len(_LETTERS.findall(line[:400])) > 3:
        return None
    for above in range(i - 1, max(-1, i - _LOOK_BACK), -1):
        text = lines[above][:1000].decode("utf-8", "replace").strip()
        if _RULE.match(text):
            continue
        names = _names(text)
        if names is not None:
            return names
        if len(_LETTERS.findall(text)) > 3:
            return None  # a sentence: no row of the table
    return None


def _names(text: str) -> tuple[str, ...] | None:
    for names in (_COLUMNS.split(text.strip("|│┃ ")), text.split()):
        if len(names) >= _FEWEST and all(_NAME.match(name) for name in names):
            return tuple(names)
    return None


def with_header(found: Template, line: str, header: tuple[str, ...], dialect: Dialect) -> Template:
    """The template with the header's names for the values in their order."""
    values = [t for t in tokens(line, dialect) if t.kind != Kind.OPAQUE]
    if len(values) < len(header):
        return found
    fields: dict[str, Field] = {}
    for name, token in zip(header, values, strict=False):
        for entry in _named(name, token, line):
            fields.setdefault(entry.role, entry)
    named = {id(entry.value) for entry in fields.values()}
    for entry in found.fields:
        if entry.role in _TOLD_BY_THEMSELVES and id(entry.value) not in named:
            fields.setdefault(entry.role, entry)
    return replace(found, fields=tuple(fields.values()))


def _named(name: str, token: Token, line: str) -> list[Field]:
    if token.value is None:
        return []
    unit = unit_at(line, token.end) if token.kind == Kind.NUMBER else None
    unit = None if unit is not None and unit.kind == COUNT else unit
    clock = token.kind in (Kind.CLOCK, Kind.MINUTES, Kind.DURATION)
    meaning = meaning_of(label_of(name), unit, integer=token.integer, clock=clock)
    if meaning is None:
        return []
    entries = [Field(meaning.role, token.value, meaning.scale)]
    if token.whole is not None and meaning.role in ("step", "epoch"):
        entries.append(Field(f"{meaning.role}_total", token.whole))
    return entries
