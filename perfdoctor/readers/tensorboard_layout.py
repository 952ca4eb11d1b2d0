"""Where the parts of one `Event` message lie: a walk over its protobuf fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from perfdoctor.readers.tensorboard_crc import Bytes
from perfdoctor.record import Bools

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
#: TensorProto.dtype → the type of its elements in `tensor_content` (types.proto), in the letters of
#: `struct`, which are numpy's too.
_CONTENT = {
    1: "<f", 2: "<d", 3: "<i", 4: "B", 5: "<h", 6: "b", 9: "<q", 10: "?", 17: "<H", 19: "<e",
    22: "<I", 23: "<Q",
}  # fmt: skip
VARIABLE = "varint"
_HALF = 19
#: TensorProto's fields for single numbers: fixed width, and variable.
_FIXED_FIELDS = {5: "<f", 6: "<d"}
_VARINT_FIELDS = (7, 10, 11, 16, 17)
_CONTINUES, _FREE = 0x80, 0x00
_SCALARS_PLUGIN = b"scalars"


class MalformedError(ValueError):
    """Not a protobuf message."""


@dataclass(frozen=True)
class Number:
    """A number's place in the record. `kind` is a type in the letters of `struct`, or VARIABLE."""

    at: int
    bytes: int
    kind: str


@dataclass(frozen=True)
class Scalar:
    """A tag and its value."""

    tag_at: int
    tag_bytes: int
    value: Number


@dataclass(frozen=True)
class Layout:
    """What one record looks like.

    `loose` are the parts that differ between records that look the same: start, end, and the
    bits of each byte that do not differ after all (where a varint goes on).
    """

    loose: tuple[tuple[int, int, int], ...]
    time: Number | None = None
    step: Number | None = None
    scalars: tuple[Scalar, ...] = ()


class Pattern:
    """A layout with the bytes that all records of it share."""

    def __init__(self, layout: Layout, record: Bytes) -> None:
        self.layout = layout
        mask = np.full(record.size, 0xFF, dtype=np.uint8)
        for start, stop, bits in layout.loose:
            mask[start:stop] = bits
        self._mask, self._shared = mask, record & mask

    def matches(self, rows: Bytes) -> Bools:
        """Which rows look like this."""
        same: Bools = ((rows & self._mask) == self._shared).all(axis=1)
        return same


@dataclass(frozen=True)
class _Field:
    number: int
    wire: int
    start: int
    stop: int

    def is_bytes(self, number: int) -> bool:
        return self.number == number and self.wire == LENGTH


_Loose = list[tuple[int, int, int]]


def layout_of(record: memoryview) -> Layout:
    """The layout of a record's payload.

    Raises:
        MalformedError: it is no protobuf message.
    """
    loose: _Loose = []
    time = step = None
    scalars: list[Scalar] = []
    for field in _fields(record, 0, len(record)):
        match field.number, field.wire:
            case 1, 1:
                time = _number(field, "<d", loose)
            case 2, 0:
                step = _number(field, VARIABLE, loose)
            case 5, 2:
                scalars += _summary(record, field, loose)
            case _:
                _loosen(field, loose)
    return Layout(tuple(loose), time, step, tuple(scalars))


def _fields(record: memoryview, at: int, end: int) -> Iterator[_Field]:
    while at < end:
        key, at = _varint(record, at, end)
        start, wire = at, key & 7
        if wire == VARINT:
            _, at = _varint(record, at, end)
        elif wire == LENGTH:
            length, start = _varint(record, at, end)
            at = start + length
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:
            raise MalformedError(f"wire type {wire}")
        if at > end:
            raise MalformedError("a field ends behind its message")
        yield _Field(key >> 3, wire, start, at)


def _varint(record: memoryview, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = record[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise MalformedError("a number without an end")


def _number(field: _Field, kind: str, loose: _Loose) -> Number:
    loose.append((field.start, field.stop, _CONTINUES if kind == VARIABLE else _FREE))
    return Number(field.start, field.stop - field.start, kind)


def _loosen(field: _Field, loose: _Loose) -> None:
    loose.append((field.start, field.stop, _CONTINUES if field.wire == VARINT else _FREE))


def _summary(record: memoryview, summary: _Field, loose: _Loose) -> list[Scalar]:
    values = (f for f in _fields(record, summary.start, summary.stop) if f.is_bytes(1))
    scalars = (_value(record, value, loose) for value in values)
    return [scalar for scalar in scalars if scalar is not None]


def _value(record: memoryview, value: _Field, loose: _Loose) -> Scalar | None:
    """One Summary.Value: its tag and number; None if it is something else."""
    tag: _Field | None = None
    number: Number | None = None
    plugin = b""
    for field in _fields(record, value.start, value.stop):
        match field.number, field.wire:
            case 2, 5:
                number = _number(field, "<f", loose)
            case 8, 2:
                number = _tensor(record, field, loose)
            case 9, 2:
                plugin = _plugin(record, field, loose)
            case _:
                tag = field if field.is_bytes(1) else tag
                _loosen(field, loose)
    if number is None or plugin not in (b"", _SCALARS_PLUGIN):
        return None
    at, size = (tag.start, tag.stop - tag.start) if tag is not None else (value.start, 0)
    return Scalar(at, size, number)


def _plugin(record: memoryview, metadata: _Field, loose: _Loose) -> bytes:
    """SummaryMetadata.plugin_data.plugin_name; all else in it (names to display) may differ."""
    name = b""
    for field in _fields(record, metadata.start, metadata.stop):
        if not field.is_bytes(1):
            _loosen(field, loose)
            continue
        for inner in _fields(record, field.start, field.stop):
            if inner.is_bytes(1):
                name = bytes(record[inner.start : inner.stop])
            else:
                _loosen(inner, loose)
    return name


def _tensor(record: memoryview, tensor: _Field, loose: _Loose) -> Number | None:
    """The only number of a TensorProto; None if there are none or several."""
    dtype = 0
    found: list[tuple[str, _Field]] = []
    for field in _fields(record, tensor.start, tensor.stop):
        if (field.number, field.wire) == (1, VARINT):
            dtype = _varint(record, field.start, field.stop)[0]
            continue
        kind = _kind(field, dtype)
        if kind is not None:
            found.append((kind, field))
        elif field.wire == LENGTH:
            _loosen(field, loose)
    if len(found) == 1 and _is_single(record, *found[0]):
        return _number(found[0][1], found[0][0], loose)
    for _, field in found:
        _loosen(field, loose)
    return None


def _kind(field: _Field, dtype: int) -> str | None:
    """How the numbers in a field of a TensorProto are written; None if it holds none."""
    if field.is_bytes(4):
        return _CONTENT.get(dtype)
    if field.number in _VARINT_FIELDS:
        return VARIABLE if dtype != _HALF else None
    return _FIXED_FIELDS.get(field.number)


def _is_single(record: memoryview, kind: str, field: _Field) -> bool:
    size = field.stop - field.start
    if kind != VARIABLE:
        return size == np.dtype(kind).itemsize
    goes_on = [byte >= 0x80 for byte in record[field.start : field.stop]]
    return 0 < size <= 10 and goes_on == [True] * (size - 1) + [False]
