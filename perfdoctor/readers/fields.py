"""A line → its fields: which values it holds, what they are called, and so what they mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from perfdoctor.readers.bars import progress_bar
from perfdoctor.readers.builds import is_of_a_build, only_counts
from perfdoctor.readers.counters import counters
from perfdoctor.readers.environment_steps import of_environment
from perfdoctor.readers.given import is_an_option, only_plans, without_bounds, without_capacity
from perfdoctor.readers.lexer import Dialect, Kind, Token
from perfdoctor.readers.line_values import (
    Seen,
    inherit,
    name_counters,
    ranges,
    share_names,
    spread_unit,
    unname_windows,
    values_of,
)
from perfdoctor.readers.meanings import (
    drop_parts,
    meaning_in_line,
    means_in_parentheses,
    prefer_global_batch,
    prefer_spelt_out,
    prefer_whole_rate,
    prefer_whole_step,
)
from perfdoctor.readers.phases import phase_of
from perfdoctor.readers.roles import Field, Hints, Template

__all__ = ["Field", "Hints", "Template", "analyse"]


def analyse(line: str, dialect: Dialect, hints: Hints | None = None) -> Template:
    """The fields of one line."""
    hints = hints or Hints()
    if _is_settings(line):
        return Template()
    seen = list(values_of(line, dialect))
    if is_of_a_build(line) or is_an_option(line, seen):
        return Template(tuple(_moment(line, seen)))
    spread_unit(line, seen)
    share_names(seen)
    unname_windows(line, seen)
    inherit(seen)
    name_counters(seen)
    named = list(ranges(line, seen))
    for value in seen:
        value.meaning = meaning_in_line(value, hints)
    means_in_parentheses(seen)
    drop_parts(seen)
    without_bounds(seen)
    without_capacity(line, seen)
    prefer_global_batch(seen)
    prefer_spelt_out(seen)
    prefer_whole_rate(seen)
    prefer_whole_step(seen)
    phase = phase_of(line, seen)
    fields = [*named, *_moment(line, seen), *progress_bar(line, seen)]
    fields += counters(line, seen, hints)
    _after_marks(line, seen)
    taken = {f.role for f in fields}
    device = False
    for value in seen:
        if value.token.value is None or value.meaning is None:
            continue
        role = value.meaning.role
        if role not in taken:
            taken.add(role)
            device |= value.meaning.device
            shared = "_mean" if role == "epoch_s" and value.per is not None else ""
            fields.append(Field(role + shared, value.token.value, value.meaning.scale, value.per))
    if not any(v.label.any(("step", "iter", "iteration", "batch")) for v in seen):
        fields = _of_epochs(fields)
    fields = list(of_environment(fields, seen))
    fields += _epoch_marks(line, fields)
    fields += _of_the_epoch(line, seen, fields)
    if only_counts(seen, fields):
        fields = [f for f in fields if f.role not in ("step", "step_total")]
    if only_plans(line, fields):
        fields = [f for f in fields if f.role != "epoch"]
    return Template(tuple(fields), phase, device)


_OPTION = re.compile(r"(?<!\S)--[a-zA-Z]")
#: A command with options as `sh -x` shows it.
_SHELL_TRACE = re.compile(r"^\+{1,8} [A-Za-z/][^\n]{0,400}?\s-{1,2}[A-Za-z]")


def _is_settings(line: str) -> bool:
    """A command line or printed arguments: numbers that nothing has measured."""
    if "Namespace(" in line or len(_OPTION.findall(line)) > 2:
        return True
    return _SHELL_TRACE.match(line) is not None


_MARK = re.compile(r"\[(?:val|valid|validation|eval|test|dev)\]")


def _after_marks(line: str, seen: Sequence[Seen]) -> None:
    """ "[train] loss=2.8, time=102 seconds, [valid] loss=2.3, time=3 seconds": two times."""
    mark = _MARK.search(line)
    if mark is None or not any(v.meaning for v in seen if v.token.end < mark.start()):
        return
    for value in seen:
        times = value.meaning is not None and value.meaning.role in ("unclear_s", "elapsed_s")
        if times and value.meaning is not None and value.token.start > mark.end():
            value.meaning = replace(value.meaning, role="validation_s")


def _of_epochs(fields: list[Field]) -> list[Field]:
    """A line that tells of training and of validation is of an epoch; so is its fraction."""
    roles = {f.role for f in fields}
    if not {"train_s", "validation_s", "step_total"} <= roles or "epoch" in roles:
        return fields
    names = {"step": "epoch", "step_total": "epoch_total"}
    return [replace(f, role=names.get(f.role, f.role)) for f in fields]


#: Of seconds since 1970, from 2001 on; those with a fraction, as `time.time()` gives them.
_EPOCH_DIGITS = 10


def _moment(line: str, seen: Sequence[Seen]) -> Iterator[Field]:
    for value in seen:
        token = value.token
        if token.value is None:
            continue
        if token.kind == Kind.MOMENT:
            value.meaning = None
            yield Field("time", token.value)
            return
        of_day = token.kind == Kind.CLOCK and not value.label.words and _leads(line, token)
        if of_day or token.kind == Kind.TIME_OF_DAY:
            value.meaning = None
            yield Field("clock", token.value)
            return
    for value in seen:
        plain = value.token.kind == Kind.NUMBER and not value.label.words and value.unit is None
        if plain and value.digits == _EPOCH_DIGITS and not value.token.integer:
            assert value.token.value is not None
            value.meaning = None
            yield Field("time", value.token.value)
            return


#: "====> Epoch: 9 [2023-07-07 13:35:13] | (1:11:57.773330)"
_DURATION_LAST = re.compile(r"[|\]]\s{0,3}\(([0-9]{1,3}:[0-9]{2}:[0-9]{2}\.[0-9]{1,6})\)\s{0,3}$")


def _of_the_epoch(line: str, seen: Sequence[Seen], fields: Sequence[Field]) -> Iterator[Field]:
    """A duration alone in parentheses at the end of a line about an epoch that tells its moment as
    well is of the epoch."""
    roles = {f.role for f in fields}
    match = _DURATION_LAST.search(line[-60:]) if {"epoch", "time"} <= roles else None
    last = seen[-1].token if seen else None
    if match is None or last is None or last.value is None or last.kind != Kind.CLOCK:
        return
    if not roles & {"step", "epoch_s", "unclear_s", "elapsed_s"}:
        yield Field("unclear_s", last.value)


_BEGINS = re.compile(r"(?i)\b(?:start(?:s|ed|ing)?|begin(?:s|ning)?)\b")
_ENDS = re.compile(r"(?i)\b(?:finish(?:ed|es)?|done|ends?|ended|completed?)\b")


def _epoch_marks(line: str, fields: Sequence[Field]) -> Iterator[Field]:
    """ "Epoch 3 started", "EPOCH 3 done": the line's time is that of a beginning or an end."""
    epoch = next((f for f in fields if f.role == "epoch"), None)
    if epoch is None or any(f.role == "step" for f in fields):
        return
    begins, ends = _BEGINS.search(line[:400]) is not None, _ENDS.search(line[:400]) is not None
    if begins != ends:
        yield Field("epoch_begins" if begins else "epoch_ends", epoch.value)


def _leads(line: str, token: Token) -> bool:
    """A time of day stands at the beginning of the line, perhaps in brackets."""
    return len(line[: token.start].strip(" \t[(<|")) == 0
