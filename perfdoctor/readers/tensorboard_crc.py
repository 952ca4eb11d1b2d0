"""CRC-32C as TFRecord files use it, of one string or of many rows of the same length at once.

The checksum of a row is the exclusive or of one table look-up a byte, since CRCs are linear: the
byte with `d` bytes behind it is looked up in table `d`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint32]
#: Castagnoli's polynomial, bits reversed, and TFRecord's mask (tensorflow/tsl/lib/hash/crc32c.h).
_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
_ONES = 0xFFFFFFFF


def _byte_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _byte_table()
_NP_TABLE = np.array(_TABLE, dtype=np.uint32)
_behind = [_NP_TABLE]


def masked_crc(data: bytes) -> int:
    """The masked CRC-32C of `data` as it stands behind it in a TFRecord file."""
    crc = _ONES
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= _ONES
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _ONES


def masked_crcs(rows: Bytes) -> Words:
    """The masked CRC-32C of each row."""
    length = rows.shape[1]
    crc: Words = np.full(rows.shape[0], _of_zeros(length), dtype=np.uint32)
    for column, values in enumerate(np.ascontiguousarray(rows.T)):
        crc ^= _table_behind(length - 1 - column)[values]
    masked: Words = ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(_MASK_DELTA)
    return masked


def _table_behind(distance: int) -> Words:
    """What a byte adds to the checksum if `distance` bytes come after it."""
    while len(_behind) <= distance:
        last = _behind[-1]
        _behind.append(_NP_TABLE[last & np.uint32(0xFF)] ^ (last >> np.uint32(8)))
    return _behind[distance]


@lru_cache(maxsize=1024)
def _of_zeros(length: int) -> int:
    crc = _ONES
    for _ in range(length):
        crc = _TABLE[crc & 0xFF] ^ (crc >> 8)
    return crc ^ _ONES
