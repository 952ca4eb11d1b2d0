"""Epochs and steps in a line: by name, by unit, by a bar, or by their place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from perfdoctor.readers.bars import BAR_ETA, OVER_EPOCHS, is_bar
from perfdoctor.readers.lexer import Kind
from perfdoctor.readers.line_values import Seen
from perfdoctor.readers.phases import TRAIN_WORDS, VALIDATION_WORDS
from perfdoctor.readers.roles import Field, Hints
from perfdoctor.readers.units import COUNT, INVERSE, RATE, TIME
from perfdoctor.readers.vocabulary import meaning_of
from perfdoctor.readers.word_sets import word_set

#: `[1,0]<stdout>:` is what `mpirun --tag-output` writes: a job and a rank.
_OF_RANK = re.compile(r"^\[[0-9]{1,9},[0-9]{1,9}\]<std(?:out|err)>:")
#: Where a bar stands in the line; "3.2 it/s" alone is none.
_BARRED = re.compile(
    r"[0-9.]\s?%\s?(?:Completed)?\s?[|\[]|\[[0-9:?]{4,12}\s?[<,]|[=>.]\]\s?-\s|(?:it/s|s/it)\s?\]"
)
_PAIR = re.compile(r"^\W{0,3}[\[(]\s*[0-9]{1,6}\s*,\s*[0-9]{1,9}\s*[\])]")


def counters(line: str, seen: Sequence[Seen], hints: Hints) -> Iterator[Field]:
    """Epochs and steps: by a bar, by name, by unit, or as the first fractions of the line."""
    _percent_counts_nothing(line, seen)
    bar = next((v for v in seen if is_bar(line, v)), None)
    if bar is not None:
        yield from _bar_counters(line, bar, seen)
        return
    barred = any(v.label.text == BAR_ETA for v in seen) or _BARRED.search(line) is not None
    for value in seen:
        if barred and value.meaning is not None and value.meaning.role == "step":
            value.meaning = None  # a postfix of the bar; the bar itself counts
    yield from _without_bar(line, seen, hints)


def _percent_counts_nothing(line: str, seen: Sequence[Seen]) -> None:
    """ "Epochs ━━━ 24%" is no epoch; "第1轮: 24%" has its number before the name."""
    for i, value in enumerate(seen):
        named = value.meaning is not None and value.meaning.role in ("epoch", "step")
        if not named or not line.startswith("%", value.token.end):
            continue
        before = seen[i - 1] if i else None
        if before is not None and before.raw.rstrip().endswith("第") and before.token.integer:
            before.meaning = value.meaning
        value.meaning = None


def _without_bar(line: str, seen: Sequence[Seen], hints: Hints) -> Iterator[Field]:
    labelled = {v.meaning.role for v in seen if v.meaning is not None}
    unlabelled: list[Seen] = []
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
        elif (
            value.token.kind == Kind.FRACTION
            and value.unit is None
            and role is None
            and not _is_date(line, value)
            and not _is_score(line, value, seen)
        ):
            unlabelled.append(value)
    bracketed = "epoch" in labelled or bool(hints.bracketed)
    unlabelled += [v for v in seen if bracketed and _bracketed(v)]
    pair = [v for v in seen if v.token.kind == Kind.NUMBER][:2]
    yield from _counter_and_seconds(line, pair, labelled)
    if _OF_RANK.match(line) and len(pair) == 2 and pair[1].token.value is not None:
        yield Field("rank", pair[1].token.value)
    elif "epoch" not in labelled and "step" not in labelled and _PAIR.match(line):
        yield from _unlabelled(pair, labelled, Hints(fractions=("epoch", "step")))
    yield from _named_by_phase(seen, labelled, unlabelled)
    yield from _leading(line, seen, labelled | {"step"} if unlabelled else labelled)
    yield from _unlabelled(sorted(unlabelled, key=lambda v: v.token.start), labelled, hints)


#: "12/13 9:57:5": a day and its time.
_TIME_OF_DAY = re.compile(r"\s[0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(?![0-9:])")


def _is_date(line: str, value: Seen) -> bool:
    """A fraction that begins the line, with a time of day after it."""
    begins = not line[: value.token.start].strip("[( ")
    return begins and _TIME_OF_DAY.match(line, value.token.end) is not None


#: `[10 | 28.79] loss=3.60 avg=3.60`, as the fine-tuners of GPT-2 print
_SECONDS_BESIDE = re.compile(
    r"^\s{0,8}\[\s{0,8}[0-9]{1,9}\s{0,4}\|\s{0,8}[0-9]{1,9}\.[0-9]{1,6}\]\s"
)


def _counter_and_seconds(line: str, pair: Sequence[Seen], labelled: set[str]) -> Iterator[Field]:
    """A line that begins with a counter and seconds, without names, in one pair of brackets; what
    the seconds are of, all lines together show."""
    if len(pair) < 2 or labelled & {"step", "epoch"} or _SECONDS_BESIDE.match(line) is None:
        return
    step, seconds = (v.token.value for v in pair)
    if step is None or seconds is None or not pair[0].token.integer:
        return
    labelled.add("step")
    for value in pair:
        value.meaning = None
    yield Field("step", step)
    yield Field("elapsed_s", seconds)


_SCORES = word_set("acc accuracy correct precision recall top prec hit hits f1 err error wer cer")


def _is_score(line: str, value: Seen, seen: Sequence[Seen]) -> bool:
    """ "Acc: 26.2% (13104/50000)", "Accuracy: 9500/10000": right answers of all, no counter."""
    if value.label.any(_SCORES):
        return True
    before = [v for v in seen if v.token.end <= value.token.start][-1:]
    between = line[before[0].token.end : value.token.start].replace(" ", "") if before else ""
    return between == "%(" and before[0].label.any(_SCORES)


def _bar_counters(line: str, bar: Seen, seen: Sequence[Seen]) -> Iterator[Field]:
    """The bar counts; what stands before it can only name the epoch."""
    assert bar.token.value is not None
    role = "epoch" if OVER_EPOCHS.match(line) else "step"
    yield Field(role, bar.token.value)
    if bar.token.whole is not None:
        yield Field(f"{role}_total", bar.token.whole)
    rest = [v for v in seen if not is_bar(line, v) and _counter_role(v) != "step"]
    for value in seen:
        if value.meaning is not None and value.meaning.role == "step":
            value.meaning = None  # in the postfix of the bar
    if role == "step":
        yield from _without_bar(line, rest, Hints(fractions=("epoch",)))
        return
    for value in rest:
        if value.meaning is not None and value.meaning.role in ("step_s", "steps_per_s"):
            per_epoch = value.meaning.role == "step_s"
            value.meaning = replace(value.meaning, role="epoch_s") if per_epoch else None


_AFTER_COUNTER = (": ", ":\t", ", ", "\t")


def _leading(line: str, seen: Sequence[Seen], labelled: set[str]) -> Iterator[Field]:
    """ " 9798: 0.370096, …": a line that begins with a number and a colon; with another separator
    if it tells a time as well."""
    first = seen[0] if seen else None
    if first is None or first.token.kind != Kind.NUMBER or not first.token.integer:
        return
    times = any(v.unit is not None and v.unit.kind in (TIME, RATE, INVERSE) for v in seen)
    after = _AFTER_COUNTER if times and first.unit is None else _AFTER_COUNTER[:2]
    leads = not line[: first.token.start].strip() and line[first.token.end :].startswith(after)
    counted = labelled & {"step", "epoch"}
    if (
        leads
        and counted
        and first.token.value is not None
        and line.startswith(": ", first.token.end)
    ):
        first.meaning = None
        yield Field("rank", first.token.value)  # as `srun --label` writes before each line
        return
    if leads and first.token.value is not None and not labelled & {"step", "epoch"}:
        labelled.add("step")
        first.meaning = None
        yield Field("step", first.token.value)


def _counter_fields(role: str, value: Seen, hints: Hints) -> Iterator[Field]:
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
    seen: Sequence[Seen], labelled: set[str], unlabelled: Sequence[Seen]
) -> Iterator[Field]:
    """ "Train: 0 [50/1251]" counts epochs, "train 050 1.77 99.0" counts steps."""
    for value in seen:
        words = set(value.label.words)
        phases = TRAIN_WORDS | VALIDATION_WORDS - {"eval", "evaluation"}
        if not words or not words <= phases or not value.token.integer:
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


def _bracketed(value: Seen) -> bool:
    """An integer alone in brackets, as the 20 in `Epoch: [0][20]`."""
    token = value.token
    alone = token.kind == Kind.NUMBER and token.integer and value.paren
    return alone and not value.label.words and value.unit is None and value.meaning is None


def _unlabelled(values: Sequence[Seen], labelled: set[str], hints: Hints) -> Iterator[Field]:
    wanted = hints.fractions
    if not wanted:
        fractions = [v for v in values if v.token.kind == Kind.FRACTION]
        counted = "epoch" in labelled or "step" in labelled
        wanted = ("epoch", "step") if not counted and len(fractions) > 1 else ("step",)
        wanted = (hints.bracketed,) if hints.bracketed else wanted
    if hints.pair is not None and not hints.pair[0]:
        pairs = [v for v in values if v.token.kind == Kind.FRACTION]
        for value in pairs[:1]:
            labelled.update(hints.pair[1:])
            yield from _counter_fields("step", value, hints)
    free = [role for role in wanted if role not in labelled]
    for role, value in zip(free, values, strict=False):
        if value.token.value is None or not role:
            continue
        labelled.add(role)
        value.meaning = None
        yield Field(role, value.token.value)
        if value.token.whole is not None:
            yield Field(f"{role}_total", value.token.whole)


def _counter_role(value: Seen) -> str | None:
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
