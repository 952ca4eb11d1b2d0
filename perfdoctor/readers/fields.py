"""A line → its fields: which values it holds, what they are called, and so what they mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from perfdoctor.readers.lexer import Dialect, Kind, Token, tokens
from perfdoctor.readers.records import METRIC, OTHER_PHASE, TRAIN, VALIDATION
from perfdoctor.readers.units import COUNT, INVERSE, PERCENT, RATE, TIME, Unit, unit_at
from perfdoctor.readers.values import Value
from perfdoctor.readers.vocabulary import Label, Meaning, label_of, meaning_of

#: What ends a name: a new clause. What may stand between a name and its value is `_JOIN`.
_CLAUSE = re.compile(r"[,;|\t\])}，；、。】<]|\s{2,}|\s[-–—]\s|[:：]\s|\s:")
_JOIN = " \t:=>[({\"'`~≈@：＝（【#-–—→_."
_PAREN_OPENS = re.compile(r"[(\[（]\s*[^()\[\]（）]*$")
_PHASE_WORDS = re.compile(r"[A-Za-z]+|[\u4e00-\u9fff]+")
_VALIDATION_WORDS = frozenset(
    "val valid validation validate validating eval evaluation evaluating evaluate test tests "
    "testing dev cv inference 验证 测试 评估".split()
)
_TRAIN_WORDS = frozenset("train training trn 训练".split())
_OTHER_WORDS = frozenset(
    "download downloading loading tokenizing map mapping filter filtering generating preprocessing "
    "extracting grouping saving caching scanning fetching sanity resolving building "
    "tokenization processing dataset".split()
)
_STATISTICS = frozenset("avg average mean max min std median smoothed global ema smooth".split())
_PROGRESS_BAR = re.compile(r"[0-9.]+\s?%\s?(?:Completed)?\s?[|\[]|it/s|s/it|[=>.]\]\s?-\s")


@dataclass(frozen=True)
class Field:
    """A value of a line: its role, what to multiply it by, and the count it is divided by."""

    role: str
    value: Value
    scale: float = 1.0
    per: Value | None = None


@dataclass(frozen=True)
class Template:
    """What every line of one shape holds. `phase` is TRAIN, VALIDATION or OTHER_PHASE."""

    fields: tuple[Field, ...] = ()
    phase: float = TRAIN
    device_rates: bool = False
    unlabelled: tuple[Value, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.fields)

    def roles(self) -> frozenset[str]:
        """The roles of all fields."""
        return frozenset(f.role for f in self.fields)


@dataclass(frozen=True)
class Hints:
    """What a known format says about its names.

    Attributes:
        roles: normalised label → role, or "" to leave the value alone.
        fractions: roles of unlabelled fractions, in order.
        pair: the name of a fraction whose parts are not part and whole, and the two roles.
    """

    roles: Mapping[str, str] = field(default_factory=dict)
    fractions: tuple[str, ...] = ()
    pair: tuple[str, str, str] | None = None


@dataclass
class _Seen:
    """A value on its way to becoming a field."""

    token: Token
    label: Label
    raw: str
    unit: Unit | None
    paren: bool
    digits: int = 0
    meaning: Meaning | None = None
    per: Value | None = None


def analyse(line: str, dialect: Dialect, hints: Hints | None = None) -> Template:
    """The fields of one line."""
    hints = hints or Hints()
    if _is_settings(line):
        return Template()
    seen = list(_values(line, dialect))
    _unit_of_line(line, seen)
    _inherit(seen)
    ranges = list(_ranges(line, seen))
    for value in seen:
        value.meaning = _meaning(value, hints)
    _means_in_parentheses(seen)
    _drop_parts(seen)
    phase = _phase(line, seen)
    fields = [*ranges, *_moment(line, seen), *_progress_bar(line, seen)]
    fields += _counters(line, seen, hints)
    taken = {f.role for f in fields}
    loose: list[Value] = []
    for value in seen:
        if value.token.value is None:
            continue
        if value.meaning is None:
            loose.append(value.token.value)
            continue
        role = value.meaning.role
        if role not in taken:
            taken.add(role)
            fields.append(Field(role, value.token.value, value.meaning.scale, value.per))
    fields += _epoch_marks(line, fields)
    device = any(v.meaning is not None and v.meaning.device for v in seen)
    return Template(tuple(fields), phase, device, tuple(loose))


#: "160.109477 seconds elapsed, finished iteration 36"
_NAMED_BEHIND = re.compile(r"\s?(elapsed|since start|so far)(?![A-Za-z0-9_:=])(?! ?[:=])")
_OPTION = re.compile(r"(?<!\S)--[a-zA-Z]")


def _is_settings(line: str) -> bool:
    """A command line or printed arguments: numbers that nothing has measured."""
    return "Namespace(" in line or len(_OPTION.findall(line)) > 2


def _values(line: str, dialect: Dialect) -> Iterator[_Seen]:
    """Every value with the name before it and the unit behind it."""
    position = 0
    for token in tokens(line, dialect):
        gap = line[position : token.start]
        raw = _last_clause(gap)
        unit = unit_at(line, token.end) if token.kind in (Kind.NUMBER, Kind.FRACTION) else None
        position = token.end if unit is None else unit.end
        behind = _NAMED_BEHIND.match(line, position)
        if behind is not None:
            raw, position = behind.group(1), behind.end()
        paren = _PAREN_OPENS.search(gap) is not None
        digits = len(line[token.start : token.end].partition(".")[0])
        yield _Seen(token, label_of(raw), raw, unit, paren, digits)


def _last_clause(gap: str) -> str:
    """The name that stands right before a value."""
    text = gap.rstrip(_JOIN)
    for match in _CLAUSE.finditer(text[-96:]):
        pass
    start = 0
    tail = text[-96:]
    for match in _CLAUSE.finditer(tail):
        # a unit in parentheses belongs to the name: "time (ms): 12"
        if match.end() < len(tail) or match.group() not in ")])】":
            start = match.end()
    if tail.endswith((")", "]")) and start < len(tail):
        opened = max(tail.rfind("("), tail.rfind("["))
        return tail[start:] if opened >= start else ""
    return tail[start:]


_UNIT_OF_LINE = re.compile(
    r"^[^|]{0,80}\btimes? \((?P<unit>ms|s|sec|us)\)\s{0,8}[|:]\s{1,8}(?=[A-Za-z])"
)


def _unit_of_line(line: str, seen: Sequence[_Seen]) -> None:
    """"time (ms) | forward: 1330.05 | backward: 4766.88": one unit for all that follows."""
    match = _UNIT_OF_LINE.match(line)
    unit = unit_at(match["unit"], 0) if match is not None else None
    for value in seen:
        follows = match is not None and value.token.start >= match.end() - 1
        if follows and value.unit is None and value.token.kind == Kind.NUMBER:
            value.unit = unit


_COUNTED = re.compile(r"(?:per|every|last|for|each|previous|past)$", re.IGNORECASE)
_FOR = re.compile(r"\b(?:in|took|takes?|for|per|completed|done|finished)\b|/", re.IGNORECASE)


def _inherit(seen: list[_Seen]) -> None:
    """"Time(1000 iters): 2.6", "6 epochs completed in 2.3 h", "took 4.2 s for 100 steps"."""
    for before, after in zip(seen, seen[1:], strict=False):
        _pass_on(before, after)
        count, time = (before, after) if _counts(before) else (after, before)
        if not _counts(count) or not _takes_time(time):
            continue
        joined = _FOR.search(after.raw) is not None or _COUNTED.search(before.raw.strip())
        qualifies = before is count and (before.paren or _COUNTED.search(before.raw.strip()))
        if not joined and not qualifies:
            continue
        if qualifies and not time.label.words:
            time.label, time.raw = count.label, count.raw
        time.per = count.token.value
        assert count.unit is not None
        time.unit = Unit(INVERSE, time.unit.scale if time.unit else 1.0, 0, count.unit.thing)
        count.label, count.unit = label_of(""), None
        count.token = replace(count.token, kind=Kind.OPAQUE)


_ENDS_WITH_COUNTER = re.compile(r"\b(epoch|step|iteration|iter|batch)\s*#?$", re.IGNORECASE)


def _pass_on(before: _Seen, after: _Seen) -> None:
    """"Time for epoch 3: 45.3 s": the name is of the second value, its last word of the first."""
    plain = before.token.kind == Kind.NUMBER and before.token.integer and before.unit is None
    if not plain or after.label.words or len(before.label.words) < 2:
        return
    named = _ENDS_WITH_COUNTER.search(before.raw)
    timed = _takes_time(after) or (after.token.kind == Kind.NUMBER and not after.token.integer)
    if named is None or not timed or not before.label.any(("time", "took", "taken", "duration")):
        return
    after.label, after.raw = before.label, before.raw
    before.label = label_of(named.group(1))


_TO = re.compile(r"\s?[-–]\s{0,6}")


def _ranges(line: str, seen: Sequence[_Seen]) -> Iterator[Field]:
    """"Minibatch[ 271- 280]", "1-682batch": the line is about all steps from one to the other."""
    for first, last in zip(seen, seen[1:], strict=False):
        both = first.token.kind == last.token.kind == Kind.NUMBER
        if not both or not (first.token.integer and last.token.integer):
            continue
        counted = last.unit is not None and last.unit.kind == COUNT and last.unit.thing == "step"
        named = counted or first.label.any(("batch", "minibatch", "iter", "iteration", "step"))
        joined = _TO.fullmatch(line[first.token.end : last.token.start])
        if joined is None or not named or first.token.value is None:
            continue
        last.label = first.label if not counted else last.label
        first.label, first.token = label_of(""), replace(first.token, kind=Kind.OPAQUE)
        yield Field("step_first", first.token.value)
        return


def _counts(value: _Seen) -> bool:
    unit = value.unit
    return unit is not None and unit.kind == COUNT and value.token.kind == Kind.NUMBER


def _takes_time(value: _Seen) -> bool:
    if value.token.kind in (Kind.CLOCK, Kind.DURATION, Kind.MINUTES):
        return True
    if value.token.kind != Kind.NUMBER:
        return False
    return value.unit is not None and value.unit.kind == TIME


#: Seconds since 1970 have ten digits from 2001 to 2286, milliseconds thirteen.
_MOMENT_DIGITS = {10: 1.0, 13: 1e-3}


def _meaning(value: _Seen, hints: Hints) -> Meaning | None:
    found = _named_meaning(value, hints)
    if found is None or not found.role.endswith("_s") or "per_s" in found.role:
        return found
    scale = _MOMENT_DIGITS.get(value.digits)
    return found if scale is None else Meaning("time", scale)


def _named_meaning(value: _Seen, hints: Hints) -> Meaning | None:
    token = value.token
    if token.kind in (Kind.MOMENT, Kind.MISSING, Kind.OPAQUE):
        return None
    hinted = hints.roles.get(value.label.text)
    if hinted is not None:
        if not hinted:
            return None
        found = meaning_of(value.label, value.unit, integer=token.integer, clock=False)
        unit = value.unit or value.label.unit
        scale = unit.scale if unit is not None else found.scale if found is not None else 1.0
        return Meaning(hinted, scale if hinted.endswith("_s") and "per_s" not in hinted else 1.0)
    clock = token.kind in (Kind.CLOCK, Kind.DURATION, Kind.MINUTES)
    if token.kind == Kind.FRACTION and (value.unit is None or value.unit.kind == COUNT):
        return None  # a counter: see _counters
    if clock and not value.label.words:
        return None
    if value.unit is not None and value.unit.kind == PERCENT and not value.label.words:
        return None
    spoken = value.unit is not None and value.unit.kind in (RATE, INVERSE, TIME)
    if not value.label.words and not spoken:
        return None
    return meaning_of(value.label, value.unit, integer=token.integer, clock=clock)


_TELLS_TIME = re.compile(r"^(?!metric:|validation:)\w{1,40}_s(?:_mean)?$")


def _drop_parts(seen: Sequence[_Seen]) -> None:
    """"update: 0.1 s, feature time: 3.2 s": a time under a name of its own, beside others, is of
    some part."""
    times = [v for v in seen if v.meaning is not None and _TELLS_TIME.match(v.meaning.role)]
    for value in times:
        if value.meaning is not None and value.meaning.part and len(times) > 1:
            value.meaning = None


def _means_in_parentheses(seen: Sequence[_Seen]) -> None:
    """"Time 0.50 (0.98)" and "0.5s, 101/s (0.7s, 99/s)": averages of the values before them."""
    owners: list[_Seen] = []
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
            if statistic or not _speaks_for_itself(value, owner):
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


def _speaks_for_itself(value: _Seen, owner: _Seen | None) -> bool:
    """"step = 100 (8.1 sec)": a unit that nothing before it has."""
    if value.unit is None or value.unit.kind not in (TIME, RATE, INVERSE):
        return False
    return owner is None or _kind_of(owner.unit) != _kind_of(value.unit)


def _owner(value: _Seen, owners: Sequence[_Seen], index: int) -> _Seen | None:
    same = [o for o in owners if _kind_of(o.unit) == _kind_of(value.unit)]
    if same and (value.unit is not None or len(same) == 1):
        return same[0]
    return owners[index] if index < len(owners) else owners[-1] if owners else None


def _kind_of(unit: Unit | None) -> tuple[str, str | None] | None:
    return None if unit is None else (unit.kind, unit.thing)


def _mean_of(owner: _Seen | None) -> Meaning | None:
    if owner is None or owner.meaning is None:
        return None
    role = owner.meaning.role
    if not role.endswith("_s") or role in ("epoch_s", "elapsed_s"):
        return None
    return replace(owner.meaning, role=f"{role}_mean")


def _phase(line: str, seen: Sequence[_Seen]) -> float:
    """From the words before the first value, and words alone in brackets."""
    first = next((v.token for v in seen if v.token.kind not in (Kind.MOMENT, Kind.OPAQUE)), None)
    head = line[: first.start] if first is not None else line
    if head[-2:].strip() in (":", "=") and first is not None:
        head = head  # "Val loss: 0.3" is of the validation as well
    words = {w.lower() for w in _PHASE_WORDS.findall(head[-120:])}
    marked = {w.lower() for w in re.findall(r"[(\[\"']([a-zA-Z]{2,10})[)\]\"']", line[:200])}
    words |= marked & (_VALIDATION_WORDS | _TRAIN_WORDS)
    if words & _TRAIN_WORDS:
        return TRAIN
    if words & _VALIDATION_WORDS:
        return VALIDATION
    return OTHER_PHASE if words & _OTHER_WORDS and _PROGRESS_BAR.search(line) else TRAIN


def _moment(line: str, seen: Sequence[_Seen]) -> Iterator[Field]:
    for value in seen:
        token = value.token
        if token.value is None:
            continue
        if token.kind == Kind.MOMENT:
            value.meaning = None
            yield Field("time", token.value)
            return
        if token.kind == Kind.CLOCK and not value.label.words and _leads(line, token):
            value.meaning = None
            yield Field("clock", token.value)
            return


_BEGINS = re.compile(r"(?i)\b(?:start(?:s|ed|ing)?|begin(?:s|ning)?)\b")
_ENDS = re.compile(r"(?i)\b(?:finish(?:ed|es)?|done|ends?|ended|completed?)\b")


def _epoch_marks(line: str, fields: Sequence[Field]) -> Iterator[Field]:
    """"Epoch 3 started", "EPOCH 3 done": the line's time is that of a beginning or an end."""
    epoch = next((f for f in fields if f.role == "epoch"), None)
    if epoch is None or any(f.role == "step" for f in fields):
        return
    begins, ends = _BEGINS.search(line[:400]) is not None, _ENDS.search(line[:400]) is not None
    if begins != ends:
        yield Field("epoch_begins" if begins else "epoch_ends", epoch.value)


def _leads(line: str, token: Token) -> bool:
    """A time of day stands at the beginning of the line, perhaps in brackets."""
    return len(line[: token.start].strip(" \t[(<|")) == 0


_BAR_TIMES = re.compile(r"\[\s*$")
_BAR_ETA = "bar_eta"
#: `100% (124 of 124) |####| Elapsed Time: 1:01:55`, the bar of the package progressbar2
_BAR_OF = re.compile(r"^\s{0,20}[0-9]{1,3}% \([0-9]{1,9} of [0-9]{1,9}\) \|")


def _progress_bar(line: str, seen: Sequence[_Seen]) -> Iterator[Field]:
    """tqdm: `14/97 [02:28<14:42, 10.63s/batch, …`: elapsed, then what remains."""
    for before, value, after in zip([None, *seen], seen, [*seen[1:], None], strict=False):
        token = value.token
        if token.kind not in (Kind.MINUTES, Kind.CLOCK, Kind.DURATION) or token.value is None:
            continue
        remains = line[token.end : token.end + 2].lstrip().startswith("<")
        opened = _BAR_TIMES.search(line[: token.start]) is not None
        counted = before is not None and before.token.kind in (Kind.FRACTION, Kind.NUMBER)
        if opened and counted and (remains or (after is not None and _is_rate(after.unit))):
            value.meaning = None
            yield Field("bar_elapsed_s", token.value)
            if remains and after is not None and after.token.kind != Kind.NUMBER:
                after.meaning = None
                after.label = label_of(_BAR_ETA)
            return
    if _BAR_OF.match(line):
        for value in seen:
            if value.label.any(("elapsed",)) and value.token.value is not None:
                value.meaning = None
                yield Field("bar_elapsed_s", value.token.value)
                return
    yield from _keras(seen)


def _keras(seen: Sequence[_Seen]) -> Iterator[Field]:
    """`1875/1875 [====] - 2s 1ms/step`: seconds without a name before the time of a step."""
    counted = any(v.token.kind == Kind.FRACTION and v.unit is None for v in seen)
    for value, after in zip(seen, seen[1:], strict=False):
        follows = after.unit is not None and after.unit.kind == INVERSE and not after.label.words
        timed = value.unit is not None and value.unit.kind == TIME and not value.label.words
        if counted and follows and timed and value.token.value is not None:
            assert value.unit is not None
            value.meaning = None
            yield Field("bar_elapsed_s", value.token.value, value.unit.scale)
            return


def _is_rate(unit: Unit | None) -> bool:
    return unit is not None and unit.kind in (RATE, INVERSE)


_PAIR = re.compile(r"^\W{0,3}[\[(]\s*[0-9]{1,6}\s*,\s*[0-9]{1,9}\s*[\])]")


def _counters(line: str, seen: Sequence[_Seen], hints: Hints) -> Iterator[Field]:
    """Epochs and steps: by name, by unit, or as the first fractions of the line."""
    barred = any(v.label.text == _BAR_ETA for v in seen) or _PROGRESS_BAR.search(line) is not None
    for value in seen:
        if barred and value.meaning is not None and value.meaning.role == "step":
            value.meaning = None  # a postfix of the bar; the bar itself counts
    bar = next((v for v in seen if _is_bar(line, v)), None)
    if bar is not None and bar.token.value is not None and bar.token.whole is not None:
        yield from _bar_counters(line, bar, seen)
        return
    labelled = {v.meaning.role for v in seen if v.meaning is not None}
    unlabelled: list[_Seen] = []
    counted: set[str] = set()
    for value in sorted(seen, key=lambda v: not v.label.any(("global",))):
        role = _counter_role(value)
        if role is not None and role not in counted and value.token.value is not None:
            labelled.add(role)
            counted.add(role)
            for other in seen:
                if other.meaning is not None and other.meaning.role == role:
                    other.meaning = None
            yield from _counter_fields(role, value, hints)
        elif value.token.kind == Kind.FRACTION and value.unit is None and role is None:
            unlabelled.append(value)
    unlabelled += [v for v in seen if "epoch" in labelled and _bracketed(v)]
    if "epoch" not in labelled and "step" not in labelled and _PAIR.match(line):
        pair = [v for v in seen if v.token.kind == Kind.NUMBER][:2]
        yield from _unlabelled(pair, labelled, Hints(fractions=("epoch", "step")))
    yield from _named_by_phase(seen, labelled, unlabelled)
    yield from _leading(line, seen, labelled | {"step"} if unlabelled else labelled)
    yield from _unlabelled(sorted(unlabelled, key=lambda v: v.token.start), labelled, hints)


#: `Epochs:  10%|█   | 1/10 [`: a bar over epochs, where `Epoch 3: 10%|` is one over its steps.
_OVER_EPOCHS = re.compile(r"^\W{0,8}(?:[Tt]rain(?:ing)? )?[Ee]pochs?\s{0,4}:?\s{0,8}[0-9]{1,3}%\|")
_BAR_END = re.compile(r"\s{0,4}\[\s{0,4}[0-9:]{2,12}(?:<|,)")


def _is_bar(line: str, value: _Seen) -> bool:
    """The fraction that a bar ends with: `| 203/203 [08:31<00:00, …`."""
    return value.token.kind == Kind.FRACTION and _BAR_END.match(line, value.token.end) is not None


def _bar_counters(line: str, bar: _Seen, seen: Sequence[_Seen]) -> Iterator[Field]:
    """The bar counts; what stands before it can only name the epoch."""
    assert bar.token.value is not None and bar.token.whole is not None
    role = "epoch" if _OVER_EPOCHS.match(line) else "step"
    yield Field(role, bar.token.value)
    yield Field(f"{role}_total", bar.token.whole)
    rest = [v for v in seen if v is not bar and _counter_role(v) != "step"]
    if role == "step":
        yield from _counters(line, rest, Hints(fractions=("epoch",)))
        return
    for value in rest:
        if value.meaning is not None and value.meaning.role in ("step_s", "steps_per_s"):
            per_epoch = value.meaning.role == "step_s"
            value.meaning = replace(value.meaning, role="epoch_s") if per_epoch else None


_AFTER_COUNTER = (": ", ":\t", ", ", "\t")


def _leading(line: str, seen: Sequence[_Seen], labelled: set[str]) -> Iterator[Field]:
    """" 9798: 0.370096, …": a line that begins with a number and a colon; with another separator
    if it tells a time as well."""
    first = seen[0] if seen else None
    if first is None or first.token.kind != Kind.NUMBER or not first.token.integer:
        return
    times = any(v.unit is not None and v.unit.kind in (TIME, RATE, INVERSE) for v in seen)
    after = _AFTER_COUNTER if times and first.unit is None else _AFTER_COUNTER[:2]
    leads = not line[: first.token.start].strip() and line[first.token.end :].startswith(after)
    if leads and first.token.value is not None and not labelled & {"step", "epoch"}:
        labelled.add("step")
        first.meaning = None
        yield Field("step", first.token.value)


def _counter_fields(role: str, value: _Seen, hints: Hints) -> Iterator[Field]:
    value.meaning = None
    token = value.token
    assert token.value is not None
    if hints.pair is not None and token.whole is not None and value.label.text == hints.pair[0]:
        yield Field(hints.pair[1], token.value)
        yield Field(hints.pair[2], token.whole)
        return
    yield Field(role, token.value)
    if token.whole is not None:
        yield Field(f"{role}_total", token.whole)


def _named_by_phase(
    seen: Sequence[_Seen], labelled: set[str], unlabelled: Sequence[_Seen]
) -> Iterator[Field]:
    """"Train: 0 [50/1251]" counts epochs, "train 050 1.77 99.0" counts steps."""
    for value in seen:
        words = set(value.label.words)
        if not words or not words <= _TRAIN_WORDS | _VALIDATION_WORDS or not value.token.integer:
            continue
        if value.token.kind != Kind.NUMBER or value.unit is not None or value.token.value is None:
            continue
        fractions = [v for v in unlabelled if v.token.kind == Kind.FRACTION]
        role = "epoch" if fractions else "step"
        if role not in labelled:
            labelled.add(role)
            value.meaning = None
            yield Field(role, value.token.value)
        return


def _bracketed(value: _Seen) -> bool:
    """An integer alone in brackets, as the 20 in `Epoch: [0][20]`."""
    token = value.token
    alone = token.kind == Kind.NUMBER and token.integer and value.paren
    return alone and not value.label.words and value.unit is None and value.meaning is None


def _unlabelled(values: Sequence[_Seen], labelled: set[str], hints: Hints) -> Iterator[Field]:
    wanted = hints.fractions
    if not wanted:
        fractions = [v for v in values if v.token.kind == Kind.FRACTION]
        counted = "epoch" in labelled or "step" in labelled
        wanted = ("epoch", "step") if not counted and len(fractions) > 1 else ("step",)
    free = [role for role in wanted if role not in labelled]
    for role, value in zip(free, values, strict=False):
        if value.token.value is None or not role:
            continue
        labelled.add(role)
        value.meaning = None
        yield Field(role, value.token.value)
        if value.token.whole is not None:
            yield Field(f"{role}_total", value.token.whole)


def _counter_role(value: _Seen) -> str | None:
    """epoch or step where the name or the unit says so, for integers and fractions."""
    token, unit = value.token, value.unit
    if token.kind not in (Kind.NUMBER, Kind.FRACTION) or not token.integer:
        return None
    if unit is not None and unit.kind != COUNT:
        return None
    if token.kind == Kind.FRACTION or value.label.any(("global",)):
        found = meaning_of(value.label, None, integer=True, clock=False)
        if found is not None and found.role in ("epoch", "step"):
            return found.role
    if unit is not None and unit.thing in ("epoch", "step"):
        ordinal = value.raw.rstrip().endswith("第")
        attached = not value.label.words and not value.paren
        return unit.thing if ordinal or attached else None
    return None


def metric_name(role: str) -> str:
    """"val_loss" of "metric:val_loss"."""
    return role.removeprefix(METRIC)
