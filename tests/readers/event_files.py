"""A tiny writer of TensorBoard event files, independent of the reader."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

from perfdoctor.readers.records import Reading

START = 1.7e9


def masked_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def record(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return (
        length
        + struct.pack("<I", masked_crc(length))
        + payload
        + struct.pack("<I", masked_crc(payload))
    )


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def sized(field: int, payload: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def simple(value: float) -> bytes:
    return b"\x15" + struct.pack("<f", value)


def tensor(dtype: int, content: bytes, *, shape: bytes = b"") -> bytes:
    """`content` is the encoded field that holds the numbers."""
    return sized(8, b"\x08" + varint(dtype) + sized(2, shape) + content)


def plugin(name: str, content: bytes = b"", display_name: str = "") -> bytes:
    data = sized(1, name.encode()) + (sized(2, content) if content else b"")
    return sized(9, sized(1, data) + (sized(2, display_name.encode()) if display_name else b""))


def value(tag: str, *parts: bytes) -> bytes:
    return sized(1, sized(1, tag.encode()) + b"".join(parts))


def event(time_s: float, step: int, *values: bytes) -> bytes:
    payload = b"\x09" + struct.pack("<d", time_s)
    payload += b"\x10" + varint(step) if step else b""
    return record(payload + (sized(5, b"".join(values)) if values else b""))


def scalar(time_s: float, step: int, tag: str, number: float) -> bytes:
    return event(time_s, step, value(tag, simple(number)))


def version(time_s: float) -> bytes:
    return record(b"\x09" + struct.pack("<d", time_s) + sized(3, b"brain.Event:2"))


def together(time_s: float, step: int, numbers: Mapping[str, float]) -> bytes:
    """What a loop logs at a step: one event a tag, microseconds apart."""
    return b"".join(
        scalar(time_s + 1e-5 * index, step, tag, number)
        for index, (tag, number) in enumerate(numbers.items())
    )


def logged(reading: Reading) -> list[tuple[float, str, float]]:
    """(step, tag, value) of every metric cell that has a value."""
    records = reading.records
    steps = records.column("step") if "step" in records else np.zeros(len(records))
    return [
        (float(step), role[7:], float(number))
        for role, column in records.columns.items()
        if role.startswith("metric:")
        for step, number in zip(steps, column, strict=True)
        if not np.isnan(number)
    ]


def small_file(steps: int = 6) -> bytes:
    return version(START) + b"".join(
        together(START + step, step, {"loss": step / 2, "lr": 0.5}) for step in range(steps)
    )
