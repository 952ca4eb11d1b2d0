"""Scalars out of TensorBoard's `Event` messages, many at a time.

The messages of one tag look the same: after one has been walked field by field its layout is
known (where the time, the step, the tag and the value are), and every record of that size whose
other bytes are equal is read by column. Fields: tensorflow/core/util/event.proto,
framework/summary.proto and framework/tensor.proto.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.tensorboard_crc import Bytes, masked_crcs
from perfdoctor.readers.tensorboard_layout import Layout, MalformedError, Pattern, layout_of
from perfdoctor.readers.tensorboard_records import BLOCK, FOOTER, Block
from perfdoctor.readers.tensorboard_scalars import (
    Scalars,
    Single,
    from_singles,
    joined,
    number_in,
    numbers_in,
)
from perfdoctor.record import Floats

#: Larger records hold pictures or histograms: walked one by one, their checksums not verified.
_BY_COLUMN_BYTES = 512
#: Patterns of one size before the rest is walked one by one, so that odd files stay linear.
_MAX_PATTERNS = 32
#: Tags that are read; each takes a few hundred bytes beside its scalars.
_MAX_TAGS = 10_000
#: Sizes for which patterns are remembered.
_MAX_SIZES = 4_096


@dataclass
class Decoder:
    """Reads block after block; keeps the layouts and the tags it has seen.

    Attributes:
        names: tag → its index. bad_checksum, malformed: numbers of records left out.
        too_many_tags: whether scalars are left out because their tags are.
        began_s, ended_s: the earliest and the latest time of any record, since 1970.
    """

    names: dict[bytes, int] = field(default_factory=dict)
    bad_checksum: list[int] = field(default_factory=list)
    malformed: list[int] = field(default_factory=list)
    too_many_tags: bool = False
    began_s: float = math.inf
    ended_s: float = -math.inf
    _patterns: dict[int, list[Pattern]] = field(default_factory=dict)
    _found: list[Scalars] = field(default_factory=list)
    _singles: list[Single] = field(default_factory=list)

    def read(self, data: memoryview, block: Block) -> Scalars | None:
        """The scalars of the block's records; None if there are none."""
        order = np.argsort(block.sizes, kind="stable")
        sizes = block.sizes[order]
        edges = np.flatnonzero(np.diff(sizes)) + 1
        for rows in np.split(order, edges):
            self._same_size(data, block.starts[rows], int(block.sizes[rows[0]]), rows + block.first)
        self._end_singles()
        found = joined(self._found)
        # by record; those of one record stay in their order
        return found and found.take(np.argsort(found.record, kind="stable"))

    def _same_size(
        self, data: memoryview, starts: NDArray[np.int64], size: int, numbers: NDArray[np.int64]
    ) -> None:
        if size > _BY_COLUMN_BYTES:
            for start, number in zip(starts.tolist(), numbers, strict=True):
                self._alone(np.frombuffer(data, np.uint8, size, start), number)
            return
        rows, crcs = _gather(data, starts, size)
        right = masked_crcs(rows) == crcs
        self.bad_checksum += numbers[~right].tolist()
        left = np.flatnonzero(right)
        patterns = self._patterns_of(size)
        for pattern in patterns:
            left = self._matching(pattern, rows, left, numbers)
        while left.size and len(patterns) < _MAX_PATTERNS:
            layout = self._walk(rows[left[0]], numbers[left[0]])
            if layout is None:
                left = left[1:]
                continue
            patterns.append(Pattern(layout, rows[left[0]]))
            left = self._matching(patterns[-1], rows, left, numbers)
        for row in left:
            self._alone(rows[row], numbers[row])

    def _patterns_of(self, size: int) -> list[Pattern]:
        if size not in self._patterns and len(self._patterns) >= _MAX_SIZES:
            self._patterns.clear()
        return self._patterns.setdefault(size, [])

    def _walk(self, row: Bytes, number: np.int64) -> Layout | None:
        try:
            return layout_of(row.data)
        except MalformedError:
            self.malformed.append(int(number))
            return None

    def _alone(self, row: Bytes, number: np.int64) -> None:
        layout = self._walk(row, number)
        if layout is None:
            return
        time_s = number_in(layout.time, row.data)
        self._extend(np.array([time_s]))
        step = number_in(layout.step, row.data) if layout.scalars else 0.0
        for scalar in layout.scalars:
            tag = self._index(bytes(row.data[scalar.tag_at : scalar.tag_at + scalar.tag_bytes]))
            if tag >= 0:
                value = number_in(scalar.value, row.data)
                self._singles.append((int(number), time_s, step, tag, value))
        if len(self._singles) > BLOCK:
            self._end_singles()

    def _end_singles(self) -> None:
        if self._singles:
            self._found.append(from_singles(self._singles))
            self._singles.clear()

    def _matching(
        self, pattern: Pattern, rows: Bytes, left: NDArray[np.intp], numbers: NDArray[np.int64]
    ) -> NDArray[np.intp]:
        """Decodes those of the rows `left` that look so; returns the others."""
        alike = pattern.matches(rows[left])
        mine = left[alike]
        if mine.size:
            self._decode(pattern.layout, rows[mine], numbers[mine])
        return left[~alike]

    def _decode(self, layout: Layout, rows: Bytes, numbers: NDArray[np.int64]) -> None:
        time_s = numbers_in(layout.time, rows)
        self._extend(time_s)
        if not layout.scalars:
            return
        step = numbers_in(layout.step, rows)
        for scalar in layout.scalars:
            tag = self._tags(rows[:, scalar.tag_at : scalar.tag_at + scalar.tag_bytes])
            found = Scalars(numbers, time_s, step, tag, numbers_in(scalar.value, rows))
            known = tag >= 0
            self._found.append(found if known.all() else found.take(np.flatnonzero(known)))

    def _extend(self, time_s: Floats) -> None:
        known = time_s[np.isfinite(time_s) & (time_s > 0)]
        if known.size:
            self.began_s = min(self.began_s, float(known.min()))
            self.ended_s = max(self.ended_s, float(known.max()))

    def _tags(self, names: Bytes) -> NDArray[np.int32]:
        """The index of each name; -1 for those that are too many."""
        size = names.shape[1]
        if size == 0:  # "V0" is no type
            return np.full(len(names), self._index(b""), dtype=np.int32)
        # not "S": it would cut zeros off the end
        strings = np.ascontiguousarray(names).view(f"V{size}").ravel().tolist()
        index = {name: self._index(name) for name in dict.fromkeys(strings)}
        return np.fromiter(map(index.__getitem__, strings), np.int32, len(strings))

    def _index(self, name: bytes) -> int:
        index = self.names.get(name, -1)
        if index < 0 and len(self.names) < _MAX_TAGS:
            index = self.names[name] = len(self.names)
        self.too_many_tags |= index < 0
        return index


def _gather(
    data: memoryview, starts: NDArray[np.int64], size: int
) -> tuple[Bytes, NDArray[np.uint32]]:
    """The payloads as rows, and the checksums behind them."""
    every = np.ndarray(
        (len(data) - size - FOOTER + 1, size + FOOTER), np.uint8, data, strides=(1, 1)
    )
    rows = every[starts]
    crcs = np.ascontiguousarray(rows[:, size:]).view("<u4").ravel()
    return rows[:, :size], crcs
