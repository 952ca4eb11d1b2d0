"""Values with names → columns of roles, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.column_names import (
    PHASE_KEYS,
    PHASES,
    column_meaning,
    is_large,
    is_part_of_step,
    moment_or,
    of_game,
    since_1970,
)
from perfdoctor.readers.column_texts import DURATION, MOMENT, TIME_OF_DAY, text_values
from perfdoctor.readers.labels import Meaning
from perfdoctor.readers.lexer import Dialect
from perfdoctor.readers.records import METRIC, TRAIN, Records
from perfdoctor.readers.shapes import stack
from perfdoctor.record import Floats, UnreadLine

Ints = NDArray[np.int64]
#: A column of a block: its name, the rows that have it, and their values.
Named = tuple[str, Ints, Sequence[Any]]

_SAMPLES = 5
#: A table may name thousands of layers; these are enough to judge the epochs by.
_MOST_METRICS = 256
#: Whoever makes a new name for each row does not name values.
_MOST_NAMES = 5000
#: Objects in objects in objects: what lies deeper has no name that tells anything.
_DEEPEST = 16
#: Floats beyond this hold whole numbers only.
_WHOLE = 1e15
_TIMES = frozenset(
    ("unclear_s", "step_s", "epoch_s", "elapsed_s", "sample_s", "steps_per_s", "train_s")
)


@dataclass
class Table:
    """Rows as columns, while they are read. `roles`: what the format says of its names."""

    roles: Mapping[str, str] = field(default_factory=dict)
    dialect: Dialect = field(default_factory=Dialect)
    unread: int = 0
    unread_samples: list[UnreadLine] = field(default_factory=list)
    last_line: int = 0
    parts: bool = False
    device_rates: bool = False
    _lines: list[Ints] = field(default_factory=list)
    _blocks: list[tuple[int, dict[str, Floats]]] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)
    _metrics: set[str] = field(default_factory=set)

    @property
    def lines(self) -> Ints:
        """The lines that gave something."""
        return np.concatenate([np.empty(0, np.int64), *self._lines])

    def add(self, lines: Ints, columns: Sequence[Named]) -> None:
        """A block of rows: values that mean nothing here, and rows of no others, are left out."""
        block: dict[str, Floats] = {}
        for name, rows, values in sorted(columns, key=lambda named: is_part_of_step(named[0])):
            self._take(_Target(block, lines.size), name, rows, values)
        if not block:
            return
        kept = np.zeros(lines.size, np.bool_)
        for column in block.values():
            kept |= ~np.isnan(column)
        self._lines.append(lines[kept])
        self._blocks.append((int(kept.sum()), {role: c[kept] for role, c in block.items()}))

    def _take(
        self, into: _Target, name: str, rows: Ints, values: Sequence[Any], depth: int = 0
    ) -> None:
        if name not in self._names:
            if len(self._names) >= _MOST_NAMES:
                return
            self._names.add(name)
        kinds = set(map(type, values))
        if kinds <= {int, float}:
            self._numbers(into, name, rows, _floats(values))
            return
        for kind in kinds & {int, float, str, dict}:
            some, some_rows = values, rows
            if len(kinds) > 1:
                at = [i for i, value in enumerate(values) if type(value) is kind]
                some, some_rows = [values[i] for i in at], rows[at]
            if kind is str:
                self._texts(into, name, some_rows, some)
            elif kind is dict:
                if depth < _DEEPEST:
                    for inner, inner_rows, parts in _inside(some_rows, some):
                        whole = f"{name}/{inner}".rstrip("/")
                        self._take(into, whole, inner_rows, parts, depth + 1)
            else:
                self._numbers(into, name, some_rows, _floats(some))

    def _texts(self, into: _Target, name: str, rows: Ints, texts: Sequence[str]) -> None:
        if name.lower() in PHASE_KEYS:
            phases = np.array([PHASES.get(text.strip().lower(), np.nan) for text in texts])
            known = ~np.isnan(phases)
            into.column("phase")[rows[known]] = phases[known]
            texts, rows = [t for t, k in zip(texts, known, strict=True) if not k], rows[~known]
        numbers, kinds = text_values(texts, self.dialect)
        if kinds is None:
            self._numbers(into, name, rows, numbers)
            return
        for kind in np.unique(kinds):
            some = kinds == kind
            self._numbers(into, name, rows[some], numbers[some], int(kind))

    def _numbers(
        self, into: _Target, name: str, rows: Ints, numbers: Floats, kind: int = 0
    ) -> None:
        """Whether a number is whole, or as large as a moment, has a part in what it means."""
        whole = (np.abs(numbers) < _WHOLE) & (numbers == np.floor(numbers))
        large = is_large(numbers)
        told = ~np.isnan(numbers)
        for classes in (whole & ~large, ~whole & ~large, whole & large, ~whole & large):
            some = classes & told
            if not some.any():
                continue
            first = int(some.argmax())
            meaning = self._meaning(name, bool(whole[first]), bool(large[first]), kind)
            if meaning is not None and large[first]:
                meaning = moment_or(meaning, float(numbers[first]))
            if meaning is not None:
                counted = meaning.role == "time" and kind != MOMENT
                values = since_1970(numbers[some]) if counted else numbers[some]
                into.put(meaning, rows[some], values)

    def _meaning(self, name: str, whole: bool, large: bool, kind: int) -> Meaning | None:
        hinted = self.roles.get(name)
        if hinted is not None:
            # OpenMMLab writes memory in MiB
            scale = 2.0**20 if hinted == "memory_bytes" else 1.0
            return Meaning(hinted, scale) if hinted else None
        if kind in (MOMENT, TIME_OF_DAY):
            return Meaning("time" if kind == MOMENT else "clock")
        found = column_meaning(name, clock=kind == DURATION, whole=whole, large=large)
        if found is None:
            return None
        if found.role.startswith(METRIC) and found.role not in self._metrics:
            if len(self._metrics) >= _MOST_METRICS:
                return None
            self._metrics.add(found.role)
        self.parts |= found.part and not large
        self.device_rates |= found.device
        return found

    def records(self) -> Records:
        """All rows."""
        lines = self.lines
        columns = stack(self._blocks)
        self._blocks = []
        if self.parts and len([r for r in columns if r in _TIMES]) > 1:
            columns.pop("unclear_s", None)  # the time of some part, beside others
        if "step" in columns and of_game(self._names):
            columns.setdefault("env_steps", columns.pop("step"))
        phase = columns.get("phase", np.full(lines.size, TRAIN))
        columns["phase"] = np.where(np.isfinite(phase), phase, TRAIN)
        return Records(lines, columns)

    def note_unread(self, path: str, line: int, text: str) -> None:
        """Counts a line that gave nothing."""
        self.unread += 1
        if len(self.unread_samples) < _SAMPLES:
            self.unread_samples.append(UnreadLine(path=path, line=line, text=text[:200]))


@dataclass(frozen=True)
class _Target:
    """The columns of one block; the first value that a row has for a role stays."""

    columns: dict[str, Floats]
    size: int

    def column(self, role: str) -> Floats:
        """The column, made where there is none."""
        found = self.columns.get(role)
        if found is None:
            found = self.columns[role] = np.full(self.size, np.nan)
        return found

    def put(self, meaning: Meaning, rows: Ints, numbers: Floats) -> None:
        """Values in their rows."""
        column = self.column(meaning.role)
        values = numbers if meaning.scale == 1.0 else numbers * meaning.scale
        free = np.isnan(column[rows])
        column[rows[free]] = values[free]


def _floats(values: Sequence[Any]) -> Floats:
    try:
        return np.array(values, np.float64)
    except OverflowError:  # whole numbers of hundreds of digits
        return np.array([_float(value) for value in values])


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.nan


def _inside(rows: Ints, objects: Sequence[dict[str, Any]]) -> list[Named]:
    """The values in objects by their names; statistics of one value are that value's mean."""
    plain = [
        {"": found["mean"]} if isinstance(found.get("mean"), int | float) else found
        for found in objects
    ]
    return by_name(rows, plain)


def by_name(rows: Ints, objects: Sequence[dict[str, Any]]) -> list[Named]:
    """Objects as columns, in the order in which the names come."""
    names = tuple(objects[0]) if objects else ()
    if all(tuple(found) == names for found in objects):
        columns = zip(*[found.values() for found in objects], strict=True)
        return [(name, rows, column) for name, column in zip(names, columns, strict=True)]
    places: dict[str, list[int]] = {}
    values: dict[str, list[Any]] = {}
    for i, found in enumerate(objects):
        for name, value in found.items():
            if name not in places:
                places[name], values[name] = [], []
            places[name].append(i)
            values[name].append(value)
    return [(name, rows[places[name]], values[name]) for name in places]
