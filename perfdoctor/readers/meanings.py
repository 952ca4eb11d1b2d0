"""What the values of a line mean together: averages beside their values, parts beside a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from perfdoctor.readers.labels import Meaning
from perfdoctor.readers.lexer import Kind
from perfdoctor.readers.line_values import Seen
from perfdoctor.readers.roles import Hints
from perfdoctor.readers.units import COUNT, INVERSE, PERCENT, RATE, TIME, Unit
from perfdoctor.readers.vocabulary import meaning_of, names_whole_step
from perfdoctor.readers.word_sets import word_set

_STATISTICS = word_set("avg average mean max min std median smoothed global ema smooth")
_RATES = ("samples_per_s", "tokens_per_s", "steps_per_s")
_WHOLE = word_set("total overall all whole")
#: Seconds since 1970 have ten digits from 2001 to 2286, milliseconds thirteen.
_MOMENT_DIGITS = {10: 1.0, 13: 1e-3}


def meaning_in_line(value: Seen, hints: Hints) -> Meaning | None:
    """What a value is, by its name, its unit, and what the format says of both."""
    found = _named_meaning(value, hints)
    if found is None or not found.role.endswith("_s") or "per_s" in found.role:
        return found
    scale = _MOMENT_DIGITS.get(value.digits)
    if scale == 1.0 and found.scale == _MOMENT_DIGITS[13]:
        return None  # "time_ms": 1593178230 is of a clock that did not begin in 1970
    return found if scale is None else Meaning("time", scale)


def _named_meaning(value: Seen, hints: Hints) -> Meaning | None:
    token = value.token
    if token.kind in (Kind.MOMENT, Kind.TIME_OF_DAY, Kind.MISSING, Kind.OPAQUE):
        return None
    hinted = hints.roles.get(value.label.text)
    if hinted is not None:
        if not hinted:
            return None
        found = meaning_of(value.label, value.unit, integer=token.integer, clock=False)
        counts = found is not None and found.role in ("step", "epoch")
        if counts and value.unit is None and hinted.endswith("_s"):
            return found  # DeepSpeed's "step: 105.42" of a step's parts, and its "step=35"
        unit = value.unit or value.label.unit
        scale = unit.scale if unit is not None else found.scale if found is not None else 1.0
        return Meaning(hinted, scale if hinted.endswith("_s") and "per_s" not in hinted else 1.0)
    clock = token.kind in (Kind.CLOCK, Kind.DURATION, Kind.MINUTES)
    if token.kind == Kind.FRACTION and (value.unit is None or value.unit.kind == COUNT):
        return None  # a counter: see counters
    if clock and not value.label.words:
        return None
    if value.unit is not None and value.unit.kind == PERCENT and not value.label.words:
        return None
    spoken = value.unit is not None and value.unit.kind in (RATE, INVERSE, TIME)
    if not value.label.words and not spoken:
        return None
    return meaning_of(value.label, value.unit, integer=token.integer, clock=clock)


_TELLS_TIME = re.compile(r"^(?!metric:|validation:)\w{1,40}_s(?:_mean)?$")


def drop_parts(seen: Sequence[Seen]) -> None:
    """ "update: 0.1 s, feature time: 3.2 s": a time under a name of its own, beside others, is of
    some part."""
    times = [v for v in seen if v.meaning is not None and _TELLS_TIME.match(v.meaning.role)]
    own = [v for v in times if v.meaning is not None and v.meaning.role != "validation_s"]
    for value in times:
        if value.meaning is not None and value.meaning.part and len(own) > 1:
            value.meaning = None


def prefer_spelt_out(seen: Sequence[Seen]) -> None:
    """ "S: 1.997 | T: 21.134 || timer: 0.290": beside a time that says so, letters are no times."""
    times = [v for v in seen if v.meaning is not None and v.meaning.role == "unclear_s"]
    letters = [v for v in times if v.unit is None and _is_letter(v)]
    if len(letters) < len(times):
        for value in letters:
            value.meaning = None


def _is_letter(value: Seen) -> bool:
    return len(value.label.words) == 1 and len(value.label.words[0]) == 1


def prefer_whole_rate(seen: Sequence[Seen]) -> None:
    """ "fps step: 700 | fps total: 260": of several rates the one of everything counts."""
    rates = [v for v in seen if v.meaning is not None and v.meaning.role in _RATES]
    whole = {v.meaning.role for v in rates if v.meaning is not None and v.label.any(_WHOLE)}
    for value in rates:
        of_all = value.label.any(_WHOLE)
        if value.meaning is not None and value.meaning.role in whole and not of_all:
            value.meaning = None


def prefer_whole_step(seen: Sequence[Seen]) -> None:
    """ "update_actor: 47.1 - step: 98.6": beside a time of whole steps, one of steps that have
    a name of their own is of a part."""
    times = [v for v in seen if v.meaning is not None and v.meaning.role == "step_s"]
    if any(names_whole_step(v.label) for v in times):
        for value in times:
            if not names_whole_step(value.label):
                value.meaning = None


def prefer_global_batch(seen: Sequence[Seen]) -> None:
    """Of two batch sizes the one over all devices is the step's."""
    sizes = [v for v in seen if v.meaning is not None and v.meaning.role == "batch_size"]
    if any(v.label.any(("global", "total", "effective")) for v in sizes):
        for value in sizes:
            if not value.label.any(("global", "total", "effective")):
                value.meaning = None


def means_in_parentheses(seen: Sequence[Seen]) -> None:
    """ "Time 0.50 (0.98)" and "0.5s, 101/s (0.7s, 99/s)": averages of the values before them."""
    owners: list[Seen] = []
    inside = False
    index = 0
    for value in seen:
        statistic = bool(value.label.words) and set(value.label.words) <= _STATISTICS
        if (value.paren and not value.label.words) or statistic:
            if not inside:
                inside, index = True, 0
            owner = _owner(value, owners, index)
            index += 1
            mean = not statistic or value.label.any(("avg", "average", "mean", "global"))
            if statistic and _is_peak(value, owner):
                assert owner is not None
                value.meaning, owner.meaning = owner.meaning, None
            elif statistic or not _speaks_for_itself(value, owner):
                value.meaning = _mean_of(owner) if owner is not None and mean else None
        elif inside and not value.label.words and value.unit is not None:
            owner = _owner(value, owners, index)
            index += 1
            if not _speaks_for_itself(value, owner):
                value.meaning = _mean_of(owner)
        else:
            if inside:
                owners, inside = [], False
            if value.label.words:
                owners = []
            if value.meaning is not None and value.token.kind != Kind.FRACTION:
                owners.append(value)


def _is_peak(value: Seen, owner: Seen | None) -> bool:
    """ "Memory: 0.44 GB (Max: 15.47 GB)"."""
    if owner is None or owner.meaning is None or not value.label.any(("max",)):
        return False
    return owner.meaning.role == "memory_bytes" and _kind_of(owner.unit) == _kind_of(value.unit)


def _speaks_for_itself(value: Seen, owner: Seen | None) -> bool:
    """ "step = 100 (8.1 sec)": a unit that nothing before it has."""
    if value.unit is None or value.unit.kind not in (TIME, RATE, INVERSE):
        return False
    return owner is None or _kind_of(owner.unit) != _kind_of(value.unit)


def _owner(value: Seen, owners: Sequence[Seen], index: int) -> Seen | None:
    same = [o for o in owners if _kind_of(o.unit) == _kind_of(value.unit)]
    if same and (value.unit is not None or len(same) == 1):
        return same[0]
    return owners[index] if index < len(owners) else owners[-1] if owners else None


def _kind_of(unit: Unit | None) -> tuple[str, str | None] | None:
    return None if unit is None else (unit.kind, unit.thing)


def _mean_of(owner: Seen | None) -> Meaning | None:
    if owner is None or owner.meaning is None:
        return None
    role = owner.meaning.role
    if not role.endswith("_s") or role in ("epoch_s", "elapsed_s"):
        return None
    return replace(owner.meaning, role=f"{role}_mean")
