"""The framing of TFRecord files: where each record lies, and where to go on after damage.

A record is its length (8 bytes, little endian), the masked CRC of the length, the payload, and the
masked CRC of the payload (tensorflow/core/lib/io/record_writer.h).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.tensorboard_crc import masked_crc, masked_crcs

HEADER, FOOTER = 12, 4
AROUND = HEADER + FOOTER
#: Records handled at a time: enough for numpy, and the working memory stays at a few MB.
BLOCK = 16_384
#: Places where the framing is lost before reading stops; each costs a search.
_MAX_GAPS = 1_000
_FIRST_WINDOW, _LAST_WINDOW = 4_096, 1 << 18
_header = struct.Struct("<QI").unpack_from


@dataclass(frozen=True)
class Block:
    """Records that follow each other: where their payloads start, their sizes in bytes, and the
    number (1-based) of the first."""

    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    first: int


@dataclass
class Framing:
    """What was found while the records were read.

    Attributes:
        records: how many. gaps: numbers of the records before which the framing was lost.
        cut: the file ends within a record. rest_bytes: at its end, and no records.
    """

    records: int = 0
    gaps: list[int] = field(default_factory=list)
    cut: bool = False
    rest_bytes: int = 0


def looks_like_records(head: bytes) -> bool:
    """Whether `head` begins with a record's length and its right checksum."""
    if len(head) < HEADER:
        return False
    length, crc = _header(head)
    return bool(length > 0 and masked_crc(head[:8]) == crc)


def blocks(data: memoryview, framing: Framing) -> Iterator[Block]:
    """The records of `data`, in order; `framing` is filled in on the way."""
    known: dict[int, int] = {}
    at = previous = 0
    while at < len(data):
        begins, end = _run(data, at, known)
        if begins:
            previous = begins[-1] + HEADER
            edges = np.array([*begins, end], dtype=np.int64)
            yield Block(edges[:-1] + HEADER, np.diff(edges) - AROUND, framing.records + 1)
            framing.records += len(begins)
        full = len(begins) == BLOCK
        at = end if full or end == len(data) else _after_damage(data, end, previous, framing)


def _run(data: memoryview, at: int, known: dict[int, int]) -> tuple[list[int], int]:
    """Where up to BLOCK records from `at` begin, and where the next would.

    This loop is a third of the time of reading, so it does no more than it must: `known` holds
    the checksums of lengths that were seen.
    """
    begins: list[int] = []
    append, size = begins.append, len(data)
    last = size - AROUND
    for _ in range(BLOCK):
        if at > last:
            break
        length, crc = _header(data, at)
        if known.get(length) != crc:
            if masked_crc(bytes(data[at : at + 8])) != crc:
                break
            _remember(known, length, crc)
        after = at + length + AROUND
        if after > size:
            break
        append(at)
        at = after
    return begins, at


def _remember(known: dict[int, int], length: int, crc: int) -> None:
    if len(known) > BLOCK:
        known.clear()
    known[length] = crc


def _after_damage(data: memoryview, at: int, search: int, framing: Framing) -> int:
    """Where reading goes on after the bad record at `at`; the end of the data if nowhere.

    The search begins inside the record before, which may itself have been cut short.
    """
    found = _next_header(data, search) if len(framing.gaps) < _MAX_GAPS else None
    if found is not None:
        framing.gaps.append(framing.records + 1)
        return found
    head = bytes(data[at : at + HEADER])
    framing.cut = len(head) < HEADER or looks_like_records(head)
    framing.rest_bytes = len(data) - at
    return len(data)


def _next_header(data: memoryview, at: int) -> int | None:
    """The first place from `at` on where a whole record with a right header begins."""
    window = _FIRST_WINDOW
    last = len(data) - AROUND
    while at <= last:
        count = min(window, last - at + 1)
        found = _headers_in(data, at, count)
        if found is not None:
            return found
        at += count
        window = min(window * 4, _LAST_WINDOW)
    return None


def _headers_in(data: memoryview, at: int, count: int) -> int | None:
    low, high, crc = (
        np.ndarray((count,), dtype="<u4", buffer=data, offset=at + skip, strides=(1,))
        for skip in (0, 4, 8)
    )
    places = np.arange(at, at + count) + AROUND
    likely = np.flatnonzero((low > 0) & (high == 0) & (places + low <= len(data)))
    if likely.size == 0:
        return None
    lengths = np.ascontiguousarray(low[likely].astype("<u8")).view(np.uint8).reshape(-1, 8)
    right = likely[masked_crcs(lengths) == crc[likely]]
    return at + int(right[0]) if right.size else None
