"""Formats of lines of text: how sure a file is to be of a known form, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from perfdoctor.readers.endings import says_finished
from perfdoctor.readers.files import Head, Source
from perfdoctor.readers.form import Form
from perfdoctor.readers.forms import FORMS
from perfdoctor.readers.kinds import Progress, Score
from perfdoctor.readers.lexer import Dialect
from perfdoctor.readers.records import Reading
from perfdoctor.readers.settings_in_logs import printed_settings
from perfdoctor.readers.text import TextRecords, read_text

#: Colours and cursor movements (ECMA-48 section 5.4), as in lines.py.
_ESCAPES = re.compile(r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]")
_SAMPLE = 200_000


def dialect_of(head: Head) -> Dialect:
    """How the file writes its numbers: decimal commas, days before months."""
    sample = _ESCAPES.sub("", head.text[:_SAMPLE] + head.tail)
    # most samples have no point or no comma, or no time of day: one look for it is soon done
    points = _POINT.search(sample) is not None
    commas = 0 if points else len(_COMMA.findall(sample)) + len(_ZERO_COMMA.findall(sample))
    grouped = len(_GROUPS.findall(sample)) if commas else 0
    dates = _DATES.findall(sample) if _MINUTES.search(sample) else []
    day_first = _day_first([(int(a), int(b)) for a, b in dates])
    return Dialect(decimal_comma=commas >= max(3, grouped), day_first=day_first)


#: "1.089,4" and "14.400" are no numbers with a point, if it is commas that are decimal.
_GROUP = r"[1-9][0-9]{0,2}\.[0-9]{3}(?![0-9.])"
_GROUPS = re.compile(rf"(?<![0-9.,]){_GROUP}")
_POINT = re.compile(rf"(?<![0-9.])(?!{_GROUP})[0-9]{{1,9}}\.[0-9]{{1,9}}(?![0-9.]|,[0-9])")
_COMMA = re.compile(
    r"(?<![0-9.,])[0-9]{1,6},(?:[0-9]{1,2}|[0-9]{4,9})(?![0-9,])(?!\s?[0-9]{1,3},)(?=\s|$|[a-z);%])"
)
_MINUTES = re.compile(r":[0-9]{2}")
_ZERO_COMMA = re.compile(r"(?<![0-9.,])0,[0-9]{3}(?![0-9,])")  # "0,250" counts no thousands
_DATES = re.compile(
    r"(?<![\w./])([0-9]{1,2})[-/.]([0-9]{1,2})(?:[-/.][0-9]{2,4})?[ T_,]{1,2}[0-9]{1,2}:[0-9]{2}"
)


def _day_first(dates: Sequence[tuple[int, int]]) -> bool:
    """By what can be no month; else the reading in which time goes on, and no faster than it
    must: 11/09, 12/09 are two days, not two months apart."""
    high_first, high_second = any(a > 12 for a, _ in dates), any(b > 12 for _, b in dates)
    if high_first or high_second:
        return high_first and not high_second
    return _disorder([(b, a) for a, b in dates]) < _disorder(dates)


def _disorder(dates: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """How often (month, day) goes back, and how many days there are from first to last."""
    days = [31 * month + day for month, day in dates]
    back = sum(later < earlier for earlier, later in pairwise(days))
    return back, (days[-1] - days[0] if days else 0)


@lru_cache(maxsize=2)
def _plain_sample(head: Head) -> tuple[str, ...]:
    """The sample as it looks on a terminal, without colours."""
    lines = (line[:6000] for line in head.sample)
    return tuple(_ESCAPES.sub("", line) if "\x1b" in line else line for line in lines)


@dataclass(frozen=True)
class TextFormat:
    """One of the known forms of text, or any other text."""

    form: Form

    @property
    def name(self) -> str:
        """As in `--format`."""
        return self.form.name

    @property
    def title(self) -> str:
        """What writes it."""
        return self.form.title

    @property
    def example(self) -> str:
        """A line of it."""
        return self.form.example

    @property
    def most(self) -> float:
        """No score reaches it."""
        return self.form.weight

    def score(self, head: Head) -> Score:
        """By how many of its lines the head holds."""
        found = len(list(filter(None, map(self.form.pattern.search, _plain_sample(head)))))
        if not found:
            return Score(0.0)
        value = self.form.weight * (found + 1) / (found + 1.5)
        many = f"{found:,} line{'s' if found != 1 else ''} in the part looked at"
        return Score(value, f"{many} {'have' if found != 1 else 'has'} its form")

    def read(self, source: Source, head: Head, progress: Progress) -> Reading:
        """With the form's hints."""
        found = read_text(
            source.path, source.blocks(), dialect_of(head), self.form.hints, progress=progress
        )
        notes = () if self.form.note is None else (self.form.note,)
        reading = text_reading(self.name, source.path, head, found, self.form.framework, notes)
        reading = replace(reading, single_steps=self.form.single)
        if self.form.samples is None:
            return reading
        return replace(
            reading, facts={**reading.facts, "samples_per_step": float(self.form.samples)}
        )


def text_reading(
    name: str, path: str, head: Head, found: TextRecords, framework: str | None,
    notes: tuple[str, ...] = (),
) -> Reading:  # fmt: skip
    """The reading of a text."""
    if found.cut:
        notes = (*notes, f"{found.cut} overlong lines were read only at their beginning.")
    return Reading(
        path=path,
        format=name,
        framework=framework,
        records=found.records,
        configuration=printed_settings(head.varied),
        settings=tuple(found.settings),
        fences=tuple(found.fences),
        facts={"finished": 1.0} if says_finished(head.text + head.tail) else {},
        device_rates=found.device_rates,
        lines=found.lines,
        unread=found.unread,
        unread_samples=tuple(found.unread_samples),
        notes=notes,
    )


def text_formats() -> tuple[TextFormat, ...]:
    """Every known form of text."""
    return tuple(TextFormat(form) for form in FORMS)
