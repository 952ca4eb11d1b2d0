"""Progress bars in a line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from perfdoctor.readers.labels import label_of
from perfdoctor.readers.lexer import Kind
from perfdoctor.readers.line_values import Seen
from perfdoctor.readers.roles import Field
from perfdoctor.readers.units import INVERSE, RATE, TIME, Unit

PROGRESS_BAR = re.compile(r"[0-9.]\s?%\s?(?:Completed)?\s?[|\[]|it/s|s/it|[=>.]\]\s?-\s")
BAR_ETA = "bar_eta"
#: A bar drawn out of signs, as `[=====>...]` and `|######|`.
_DRAWN = re.compile(r"[=#█]{4}|\|#{2}")
#: `100% (124 of 124) |####| Elapsed Time: 1:01:55`, the bar of the package progressbar2
_BAR_OF = re.compile(r"^\s{0,20}[0-9]{1,3}% \([0-9]{1,9} of [0-9]{1,9}\) \|")


def progress_bar(line: str, seen: Sequence[Seen]) -> Iterator[Field]:
    """tqdm: `14/97 [02:28<14:42, 10.63s/batch, …`: elapsed, then what remains."""
    for before, value, after in zip([None, *seen], seen, [*seen[1:], None], strict=False):
        token = value.token
        if token.kind not in (Kind.MINUTES, Kind.CLOCK, Kind.DURATION) or token.value is None:
            continue
        remains = line[token.end : token.end + 2].lstrip().startswith("<")
        opened = line[max(0, token.start - 20) : token.start].rstrip(" *").endswith("[")
        counted = before is not None and before.token.kind in (Kind.FRACTION, Kind.NUMBER)
        if opened and counted and (remains or (after is not None and _is_rate(after.unit))):
            value.meaning = None
            yield Field("bar_elapsed_s", token.value)
            if remains and after is not None and after.token.kind != Kind.NUMBER:
                after.meaning = None
                after.label = label_of(BAR_ETA)
            return
    if _BAR_OF.match(line):
        for value in seen:
            if value.label.any(("elapsed",)) and value.token.value is not None:
                value.meaning = None
                yield Field("bar_elapsed_s", value.token.value)
                return
    yield from _keras(seen)
    yield from _old_keras(line, seen)
    yield from _total(line, seen)


def _total(line: str, seen: Sequence[Seen]) -> Iterator[Field]:
    """`391/391 ====>  Step: 67ms | Tot: 12s489ms`: the sum over the bar has a name."""
    if not _DRAWN.search(line) or not any(v.token.kind == Kind.FRACTION for v in seen):
        return
    for value in seen:
        timed = value.token.kind in (Kind.MINUTES, Kind.CLOCK, Kind.DURATION) or (
            value.unit is not None and value.unit.kind == TIME
        )
        if timed and value.label.any(("tot", "total")) and value.token.value is not None:
            value.meaning = None
            scale = 1.0 if value.unit is None else value.unit.scale
            yield Field("bar_elapsed_s", value.token.value, scale)
            return


def _keras(seen: Sequence[Seen]) -> Iterator[Field]:
    """`1875/1875 [====] - 2s 1ms/step`: seconds without a name before the time of a step."""
    counted = any(v.token.kind == Kind.FRACTION and v.unit is None for v in seen)
    for value, after in pairwise(seen):
        follows = after.unit is not None and after.unit.kind == INVERSE and not after.label.words
        timed = value.unit is not None and value.unit.kind == TIME and not value.label.words
        if counted and follows and timed and value.token.value is not None:
            assert value.unit is not None
            value.meaning = None
            yield Field("bar_elapsed_s", value.token.value, value.unit.scale)
            return


#: `50000/50000 [====] - 17s - loss: 0.3`
_ENDED = re.compile(r"=\] - [0-9]{1,7}s(?: - |$)")


def _old_keras(line: str, seen: Sequence[Seen]) -> Iterator[Field]:
    """Keras before 2.0.9 prints the seconds of a whole bar only."""
    match = _ENDED.search(line)
    for value in seen if match is not None else ():
        inside = match is not None and match.start() < value.token.start < match.end()
        if inside and value.token.value is not None and not value.label.words:
            value.meaning = None
            yield Field("bar_plain_s", value.token.value)
            return


def _is_rate(unit: Unit | None) -> bool:
    return unit is not None and unit.kind in (RATE, INVERSE)


#: `Epochs:  10%|█   | 1/10 [`: a bar over epochs, where `Epoch 3: 10%|` is one over its steps.
OVER_EPOCHS = re.compile(r"^\W{0,8}(?:[Tt]rain(?:ing)? )?[Ee]pochs?\s{0,4}:?\s{0,8}[0-9]{1,3}%\|")
_NO_TOTAL = re.compile(r"/\?\s{0,4}\[\s{0,4}[0-9:]{2,12}(?:<|,)")
_BAR_END = re.compile(r"\s{0,4}\[\s{0,4}[0-9:]{2,12}(?:<|,)")


def is_bar(line: str, value: Seen) -> bool:
    """The fraction that a bar ends with: `| 203/203 [08:31<00:00, …`."""
    if value.token.kind == Kind.NUMBER:
        return value.token.integer and _NO_TOTAL.match(line, value.token.end) is not None
    return value.token.kind == Kind.FRACTION and _BAR_END.match(line, value.token.end) is not None
