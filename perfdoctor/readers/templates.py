"""Formats that a user describes: `step {step:d} .* {step_time_ms:f}`, without writing Python."""

from __future__ import annotations

import re
from dataclasses import dataclass

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers.column_names import name_meaning
from perfdoctor.readers.fields import Field, Hints, Template
from perfdoctor.readers.files import Head, Source
from perfdoctor.readers.kinds import Progress, Score
from perfdoctor.readers.labels import Meaning
from perfdoctor.readers.lexer import Dialect, Kind, tokens
from perfdoctor.readers.records import Reading
from perfdoctor.readers.text import read_text
from perfdoctor.readers.text_kinds import dialect_of, text_reading

_FIELD = re.compile(r"\{([A-Za-z_][\w./]{0,60})(?::([a-z]{1,8}))?\}")
_GAP = ".*"
#: What a field may hold. Every repeat is bounded, so that no line takes more than linear time.
_TYPES = {
    "d": r"[-+]?[0-9][0-9,]{0,30}",
    "f": r"[-+]?(?:[0-9]{1,30}(?:[.,][0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][-+]?[0-9]{1,4})?|nan|inf",
    "t": r"[0-9](?:[0-9:.,\-/T ]|[dhms] ){0,38}[0-9sZ]",
    "w": r"\S{1,200}",
}
_SPECIAL = {
    "time": Meaning("time"), "timestamp": Meaning("time"), "eta": None, "_": None,
}  # fmt: skip
_CONFIDENT = 0.97


@dataclass(frozen=True)
class _Segment:
    """What stands between two gaps, with the names and types of its fields."""

    pattern: re.Pattern[str]
    names: tuple[str, ...]
    types: tuple[str, ...]


@dataclass(frozen=True)
class PatternFormat:
    """A format of lines that follow the user's templates.

    Raises (from `parse`):
        PerfdoctorError: a template without fields, or with a type that does not exist.
    """

    name: str
    templates: tuple[str, ...]
    segments: tuple[tuple[_Segment, ...], ...]

    @property
    def title(self) -> str:
        """For the list of formats."""
        return "your own format"

    @property
    def example(self) -> str:
        """The first template."""
        return self.templates[0]

    def score(self, head: Head) -> Score:
        """Sure where the templates fit any lines."""
        found = sum(self.match(line) is not None for line in head.lines)
        value = _CONFIDENT * (found + 1) / (found + 1.2) if found else 0.0
        return Score(value, f"{found:,} lines follow your template")

    def read(self, source: Source, head: Head, progress: Progress) -> Reading:
        """Every line that follows one of the templates."""
        dialect = dialect_of(head)
        found = read_text(
            source.path, source.blocks(), dialect, Hints(),
            template_of=lambda line: self.template(line, dialect), progress=progress,
        )  # fmt: skip
        return text_reading(self.name, source.path, head, found, None)

    def template(self, line: str, dialect: Dialect) -> Template:
        """The fields of one line; none where no template fits."""
        spans = self.match(line)
        if spans is None:
            return Template()
        fields: dict[str, Field] = {}
        for name, kind, start, end in spans:
            entry = _field(line, name, kind, start, end, dialect)
            if entry is not None:
                fields.setdefault(entry.role, entry)
        return Template(tuple(fields.values()))

    def match(self, line: str) -> list[tuple[str, str, int, int]] | None:
        """Name, type, start and end of each field of the first template that fits.

        Segments are found from left to right, each at its first place behind the one before: what
        lies between them is never tried again.
        """
        for segments in self.segments:
            spans: list[tuple[str, str, int, int]] = []
            position = 0
            for segment in segments:
                found = segment.pattern.search(line, position)
                if found is None:
                    break
                position = found.end()
                pairs = zip(segment.names, segment.types, strict=True)
                spans += [(n, t, *found.span(i + 1)) for i, (n, t) in enumerate(pairs)]
            else:
                return spans
        return None


def parse(name: str, templates: tuple[str, ...]) -> PatternFormat:
    """The format that the templates describe. Raises as `PatternFormat` says."""
    return PatternFormat(name, templates, tuple(_segments(text) for text in templates))


def _segments(text: str) -> tuple[_Segment, ...]:
    parts = [_segment(part, text) for part in text.split(_GAP) if part.strip()]
    if not any(segment.names for segment in parts):
        raise PerfdoctorError(
            f"the template {text!r} has no fields; write them as {{step:d}} or {{step_time_ms:f}}",
            slug="template-without-fields",
        )
    return tuple(parts)


def _segment(part: str, whole: str) -> _Segment:
    pattern, names, types, position = "", [], [], 0
    for match in _FIELD.finditer(part):
        kind = match.group(2) or "f"
        if kind not in _TYPES:
            raise PerfdoctorError(
                f"the template {whole!r} has a field of type {kind!r}; there are d (whole number), "
                "f (number), t (time or duration) and w (word)",
                slug="template-unknown-type",
            )
        pattern += _literal(part[position : match.start()]) + f"({_TYPES[kind]})"
        names.append(match.group(1))
        types.append(kind)
        position = match.end()
    # a number begins where no digit stands before it: or each digit of a long run would be tried
    guard = r"(?<![0-9])" if pattern.startswith("(") else ""
    return _Segment(
        re.compile(guard + pattern + _literal(part[position:])), tuple(names), tuple(types)
    )


def _literal(text: str) -> str:
    """The text itself; white space stands for any white space."""
    return r"\s{1,80}".join(re.escape(word) for word in re.split(r"\s+", text))


def _field(line: str, name: str, kind: str, start: int, end: int, dialect: Dialect) -> Field | None:
    if kind == "w":
        return None
    # the same digit runs at the same places, and nothing else that could be read with them
    masked = re.sub(r"[^0-9]", " ", line[:start]) + line[start:end]
    token = next((t for t in tokens(masked, dialect) if t.start >= start), None)
    if token is None or token.value is None:
        return None
    clock = token.kind in (Kind.CLOCK, Kind.DURATION, Kind.MINUTES)
    if token.kind == Kind.MOMENT:
        return Field("time", token.value)
    if name in _SPECIAL:
        meaning = _SPECIAL[name]
        if meaning is not None and clock:
            return Field("clock", token.value)
    else:
        meaning = name_meaning(name, clock, kind == "d")
    return None if meaning is None else Field(meaning.role, token.value, meaning.scale)
