"""Scalars as columns, and how they come out of the bytes of their records."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.tensorboard_crc import Bytes
from perfdoctor.readers.tensorboard_layout import VARIABLE, Number
from perfdoctor.record import Floats

#: A scalar by itself: record, seconds, step, tag, value.
Single = tuple[int, float, float, int, float]


@dataclass(frozen=True)
class Scalars:
    """Scalars in the order of the file, one element each.

    Attributes:
        record: its number. time_s: since 1970. step: as logged. tag: index into the names.
    """

    record: NDArray[np.int64]
    time_s: Floats
    step: Floats
    tag: NDArray[np.int32]
    value: Floats

    def take(self, rows: NDArray[np.intp]) -> Scalars:
        """Some of them, in this order."""
        return Scalars(
            self.record[rows], self.time_s[rows], self.step[rows], self.tag[rows], self.value[rows]
        )


def joined(parts: list[Scalars]) -> Scalars | None:
    """All parts as one; None if there are none. Empties the list, so that no more than one column
    is held twice."""
    if not parts:
        return None
    record, time_s, step, tag, value = (
        [getattr(part, column.name) for part in parts] for column in fields(Scalars)
    )
    parts.clear()
    return Scalars(
        _emptied(record), _emptied(time_s), _emptied(step), _emptied(tag), _emptied(value)
    )


def _emptied(parts: list[Any]) -> Any:
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def from_singles(singles: Sequence[Single]) -> Scalars:
    """Columns of scalars that were read one by one."""
    record, time_s, step, tag, value = zip(*singles, strict=True)
    return Scalars(
        np.array(record, dtype=np.int64),
        np.array(time_s),
        np.array(step, dtype=np.float64),
        np.array(tag, dtype=np.int32),
        np.array(value, dtype=np.float64),
    )


def numbers_in(number: Number | None, rows: Bytes) -> Floats:
    """The field's value in each row; 0 where it is left out, as in proto3."""
    if number is None:
        return np.zeros(len(rows))
    part = np.ascontiguousarray(rows[:, number.at : number.at + number.bytes])
    if number.kind != VARIABLE:
        return part.view(number.kind).ravel().astype(np.float64)
    total = np.zeros(len(rows), dtype=np.uint64)
    for index in range(number.bytes):
        bits = (part[:, index] & np.uint8(0x7F)).astype(np.uint64)
        total |= bits << np.uint64(7 * index)
    return total.view(np.int64).astype(np.float64)


def number_in(number: Number | None, record: memoryview) -> float:
    """The field's value in one record; 0 where it is left out."""
    if number is None:
        return 0.0
    if number.kind != VARIABLE:
        return float(struct.unpack_from(number.kind, record, number.at)[0])
    total = sum((record[number.at + i] & 0x7F) << 7 * i for i in range(number.bytes))
    total &= (1 << 64) - 1
    return float(total - (1 << 64) if total >= 1 << 63 else total)
