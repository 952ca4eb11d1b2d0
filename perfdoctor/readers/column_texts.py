"""Cells of text → numbers: durations, moments, numbers with a unit; cells of one shape at once."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.lexer import Dialect, Kind, tokens
from perfdoctor.readers.values import Runs
from perfdoctor.record import Floats

#: What a cell is: a number, a moment, a duration, or a time of day that says its half of it.
NUMBER, MOMENT, DURATION, TIME_OF_DAY = 0, 1, 2, 3
_DIGITS = re.compile(r"[0-9]+")
_DIGITS_ALIKE = str.maketrans("123456789", "000000000")
#: What is longer is a text, no value.
_LONGEST = 64


def text_values(texts: Sequence[str], dialect: Dialect) -> tuple[Floats, NDArray[np.int8] | None]:
    """The number in each cell (NaN: none), and what each is; None where all are plain numbers."""
    try:
        return np.array(list(map(float, texts)), np.float64), None
    except ValueError:
        pass
    numbers = np.full(len(texts), np.nan)
    kinds = np.zeros(len(texts), np.int8)
    shapes: defaultdict[str, list[int]] = defaultdict(list)
    for i, text in enumerate(texts):
        if len(text) <= _LONGEST:
            shapes[text.translate(_DIGITS_ALIKE)].append(i)
    for shape, places in shapes.items():
        found, kind = _of_one_shape(shape, [texts[i] for i in places], dialect)
        if found is not None:
            numbers[places] = found
            kinds[places] = kind
    return numbers, kinds


def _of_one_shape(shape: str, texts: Sequence[str], dialect: Dialect) -> tuple[Floats | None, int]:
    """Texts that differ in their digits only."""
    try:
        float(shape)
    except ValueError:
        if not shape.isascii() or not shape.strip():
            return None, NUMBER
    else:
        return np.array(list(map(float, texts)), np.float64), NUMBER
    if shape != shape.strip():
        texts = [text.strip() for text in texts]
    first = texts[0]
    token = next(iter(tokens(first, dialect)), None)
    if token is None or token.value is None or token.start > 1:
        return None, NUMBER
    kind = NUMBER
    if token.kind == Kind.MOMENT:
        kind = MOMENT
    elif token.kind == Kind.TIME_OF_DAY:
        kind = TIME_OF_DAY
    elif token.kind in (Kind.CLOCK, Kind.DURATION, Kind.MINUTES):
        kind = DURATION
    elif token.end < len(first) - 4:
        return None, NUMBER  # a text that begins with a number
    cells = np.frombuffer("".join(texts).encode(), np.uint8).reshape(len(texts), len(first))
    spans = [match.span() for match in _DIGITS.finditer(first)]
    return token.value.read(Runs(cells, spans)), kind
