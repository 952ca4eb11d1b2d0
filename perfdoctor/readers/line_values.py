"""A line → its values, each with the name before it and the unit behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise

from perfdoctor.readers.labels import Label, Meaning, label_of
from perfdoctor.readers.lexer import Dialect, Kind, Token, tokens
from perfdoctor.readers.roles import Field
from perfdoctor.readers.units import COUNT, INVERSE, RATE, TIME, Unit, unit_at, unit_of
from perfdoctor.readers.values import Value
from perfdoctor.readers.word_sets import word_set

#: What ends a name: a new clause. What may stand between a name and its value is `_JOIN`.
_CLAUSE = re.compile(r"[,;|\t\])}，；、。】<]|\s{2,}|\s[-–—]\s|[:：]\s|\s:")
_JOIN = " \t:=>[({\"'`~≈@：＝（【#-–—→_."
_PAREN_OPENS = re.compile(r"[(\[（]\s*[^()\[\]（）]*$")


@dataclass
class Seen:
    """A value on its way to becoming a field."""

    token: Token
    label: Label
    raw: str
    unit: Unit | None
    paren: bool
    digits: int = 0
    meaning: Meaning | None = None
    per: Value | None = None


#: A line of more values is data, no record; its first ones are looked at.
_MOST_VALUES = 400
#: "160.109477 seconds elapsed, finished iteration 36"
_NAMED_BEHIND = re.compile(
    r"\s?(elapsed|since start|so far)(?![A-Za-z0-9_:=])(?! ?[:=]| {1,4}[0-9])"
)


#: "checkpoint_500.pth", "video-1.mp4": the number is of a file.
_FILE = re.compile(
    r"\.(?:pth?|pkl|ckpt|bin|onnx|pb|h5|hdf5|keras|model|safetensors|npz|npy|zip|tar|gz|lmdb|json|yaml"
    r"|csv|txt|log|mp4|gif|png|jpe?g|wav|flac)(?![A-Za-z0-9_])"
)
_NUMBER_NEXT = re.compile(r"\s{1,8}[0-9]")


def values_of(line: str, dialect: Dialect) -> Iterator[Seen]:
    """Every value with the name before it and the unit behind it."""
    position = 0
    for token in islice(tokens(line, dialect), _MOST_VALUES):
        gap = line[position : token.start]
        raw = _last_clause(gap)
        unit = unit_at(line, token.end) if token.kind in (Kind.NUMBER, Kind.FRACTION) else None
        label = label_of(raw)
        if unit is not None and unit.kind == RATE and label.any(("time", "elapsed", "duration")):
            unit = None if _NUMBER_NEXT.match(line, unit.end) else unit  # "time 0.2 tokens/s 1638"
        position = token.end if unit is None else unit.end
        behind = _NAMED_BEHIND.match(line, position)
        if behind is not None:
            raw, position = behind.group(1), behind.end()
        paren = _PAREN_OPENS.search(gap) is not None
        if token.value is not None and _FILE.match(
            line, token.end - line.endswith(".", 0, token.end)
        ):
            token = replace(token, kind=Kind.OPAQUE)
        digits = len(line[token.start : token.end].partition(".")[0])
        yield Seen(token, label_of(raw), raw, unit, paren, digits)


def _last_clause(gap: str) -> str:
    """The name that stands right before a value."""
    start = 0
    tail = gap.rstrip(_JOIN)[-96:]
    for match in _CLAUSE.finditer(tail):
        # a unit in parentheses belongs to the name: "time (ms): 12"
        if match.end() < len(tail) or match.group() not in ")])】":
            start = match.end()
    if tail.endswith((")", "]")) and start < len(tail):
        opened = max(tail.rfind("("), tail.rfind("["))
        return tail[start:] if opened >= start else ""
    return tail[start:]


_PAIR_OF_NAMES = re.compile(r"^(.{1,60}\S)\s?[(（]([A-Za-z][A-Za-z_ ]{1,23})[)）]$")


def share_names(seen: Sequence[Seen]) -> None:
    """ "time (data): 0.776 (0.020)": the name in parentheses is of the value in parentheses."""
    for first, second in pairwise(seen):
        match = _PAIR_OF_NAMES.match(first.raw.strip())
        if match is None or not second.paren or second.label.words or unit_of(match[2]) is not None:
            continue
        first.raw, second.raw = match[1], match[2]
        first.label, second.label = label_of(match[1]), label_of(match[2])


_WINDOW = re.compile(r"\s?(?:s|secs?|seconds?|m|mins?|minutes?|h|hours?):\s{1,4}")


def unname_windows(line: str, seen: Sequence[Seen]) -> None:
    """ "Fps is (10 sec: 4096, 60 sec: 3891)": a rate over each of several windows."""
    inside = False
    for window, value in pairwise(seen):
        inside = window.paren or inside
        number = inside and window.token.kind == Kind.NUMBER and window.token.integer
        between = line[window.token.end : value.token.start]
        if number and _WINDOW.fullmatch(between) is not None:
            value.label, value.raw, value.unit = window.label, window.raw, None
            window.label, window.unit = label_of(""), None
            window.token = replace(window.token, kind=Kind.OPAQUE)


_UNIT_OF_LINE = re.compile(
    r"^[^|]{0,80}\btimes? \((?P<unit>ms|s|sec|us)\)\s{0,8}[|:]\s{1,8}(?=[A-Za-z])"
)


def spread_unit(line: str, seen: Sequence[Seen]) -> None:
    """ "time (ms) | forward: 1330.05 | backward: 4766.88": one unit for all that follows."""
    match = _UNIT_OF_LINE.match(line)
    unit = unit_at(match["unit"], 0) if match is not None else None
    for value in seen:
        follows = match is not None and value.token.start >= match.end() - 1
        if follows and value.unit is None and value.token.kind == Kind.NUMBER:
            value.unit = unit


_COUNTED = re.compile(r"(?:per|every|last|for|each|previous|past)$", re.IGNORECASE)
_FOR = re.compile(r"\b(?:in|took|takes?|for|per|completed|done|finished)\b|/", re.IGNORECASE)


def inherit(seen: list[Seen]) -> None:
    """ "Time(1000 iters): 2.6", "6 epochs completed in 2.3 h", "took 4.2 s for 100 steps"."""
    for before, after in pairwise(seen):
        _pass_on(before, after)
        count, time = (before, after) if _counts(before) else (after, before)
        if not _counts(count) or not _takes_time(time):
            continue
        joined = _FOR.search(after.raw) is not None or _COUNTED.search(before.raw.strip())
        qualifies = before is count and (before.paren or _COUNTED.search(before.raw.strip()))
        behind = after is count and after.paren and not after.label.words  # "19.8s(100 iters)"
        if not joined and not qualifies and not behind:
            continue
        if qualifies and not time.label.words:
            time.label, time.raw = count.label, count.raw
        time.per = count.token.value
        assert count.unit is not None
        time.unit = Unit(INVERSE, time.unit.scale if time.unit else 1.0, 0, count.unit.thing)
        count.label, count.unit = label_of(""), None
        count.token = replace(count.token, kind=Kind.OPAQUE)


_ENDS_WITH_COUNTER = re.compile(r"\b(epoch|step|iteration|iter|batch)\s*#?$", re.IGNORECASE)


def _pass_on(before: Seen, after: Seen) -> None:
    """ "Time for epoch 3: 45.3 s": the name is of the second value, its last word of the first."""
    plain = before.token.kind == Kind.NUMBER and before.token.integer and before.unit is None
    if not plain or after.label.words or len(before.label.words) < 2:
        return
    named = _ENDS_WITH_COUNTER.search(before.raw)
    timed = _takes_time(after) or (after.token.kind == Kind.NUMBER and not after.token.integer)
    if named is None or not timed or not before.label.any(("time", "took", "taken", "duration")):
        return
    after.label, after.raw = before.label, before.raw
    before.label = label_of(named.group(1))


#: "Score at iteration 100 is 1.39", "Loss after step 20: 2.1"
_AT_COUNTER = re.compile(
    r"\b(?:at|after)\s{1,4}(?:the\s)?(step|iteration|iter|batch)\s{0,4}#?$", re.IGNORECASE
)
_BEST = word_set("best lowest highest saved saving restored")


def name_counters(seen: Sequence[Seen]) -> None:
    """ "Score at iteration 100 is 1.39": the name of the metric is that of the second value."""
    for value in seen:
        plain = value.token.kind == Kind.NUMBER and value.token.integer and value.unit is None
        named = _AT_COUNTER.search(value.raw.rstrip()) if plain else None
        if named is not None and len(value.label.words) > 1 and not value.label.any(_BEST):
            value.label = label_of(named.group(1))


_TO = re.compile(r"\s?[-–]\s{0,6}")


def ranges(line: str, seen: Sequence[Seen]) -> Iterator[Field]:
    """ "Minibatch[ 271- 280]", "1-682batch": the line is about all steps from one to the other."""
    for first, last in pairwise(seen):
        both = first.token.kind == last.token.kind == Kind.NUMBER
        if not both or not (first.token.integer and last.token.integer):
            continue
        counted = last.unit is not None and last.unit.kind == COUNT and last.unit.thing == "step"
        named = counted or first.label.any(("batch", "minibatch", "iter", "iteration", "step"))
        joined = _TO.fullmatch(line[first.token.end : last.token.start])
        value = first.token.value
        if joined is None or not named or value is None:
            continue
        last.label = first.label if not counted else last.label
        first.label, first.token = label_of(""), replace(first.token, kind=Kind.OPAQUE)
        yield Field("step_first", value)
        return


def _counts(value: Seen) -> bool:
    unit = value.unit
    return unit is not None and unit.kind == COUNT and value.token.kind == Kind.NUMBER


def _takes_time(value: Seen) -> bool:
    if value.token.kind in (Kind.CLOCK, Kind.DURATION, Kind.MINUTES):
        return True
    if value.token.kind != Kind.NUMBER:
        return False
    return value.unit is not None and value.unit.kind == TIME
