"""Bytes of a text file → chunks of lines, whatever a terminal, a progress bar or a crash left."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: What is read of a longer line: no log prints more for a record.
LONGEST_LINE = 16_384
_CHUNK = 8 * 2**20
#: Colours, cursor movements, titles and links (ECMA-48 section 5.4).
_ESCAPES = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_=>]"
)
#: Carriage returns and backspaces overwrite the line: what follows is another record.
_OVERWRITES = bytes.maketrans(b"\r\x08\x0b\x0c", b"\n\n\n\n")
_NEWLINE = 10


@dataclass(frozen=True)
class Chunk:
    """Lines with their numbers. `data` joins them; `cut` counts lines that were too long."""

    data: bytes
    lines: list[bytes]
    number: NDArray[np.int64]
    cut: int = 0
    size: int = 0


def chunks(blocks: Iterable[bytes]) -> Iterator[Chunk]:
    """Whole lines, about 8 MiB at a time."""
    number, rest = 1, b""
    for block in _paced(blocks):
        data = rest + block
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if end and data[end - 1 : end] == b"\r" and end == len(data):
            end = max(data.rfind(b"\n", 0, end - 1), data.rfind(b"\r", 0, end - 1)) + 1
        if not end:
            rest = data if len(data) <= 4 * LONGEST_LINE else data[: 2 * LONGEST_LINE]
            continue
        rest = data[end:]
        chunk = _chunk(data[:end], number)
        number += data.count(b"\n", 0, end)
        yield chunk
    if rest:
        yield _chunk(rest, number)


def _paced(blocks: Iterable[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for block in blocks:
        held.append(block)
        size += len(block)
        if size >= _CHUNK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _chunk(data: bytes, number: int) -> Chunk:
    size = len(data)
    if b"\x1b" in data:
        data = _ESCAPES.sub(b"", data)
    if b"\0" in data:
        data = data.replace(b"\0", b"")
    if b"\r\n" in data:
        data = data.replace(b"\r\n", b"\n")
    overwritten = b"\r" in data or b"\x08" in data or b"\x0b" in data or b"\x0c" in data
    split = data.translate(_OVERWRITES) if overwritten else data
    lines = split.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
        split = split[:-1]
    if overwritten:
        numbers = _numbers(data, split, number)[: len(lines)]
    else:
        numbers = np.arange(number, number + len(lines), dtype=np.int64)
    cut = 0
    if size > LONGEST_LINE and any(len(line) > LONGEST_LINE for line in lines):
        cut = sum(len(line) > LONGEST_LINE for line in lines)
        lines = [line[:LONGEST_LINE] for line in lines]
        split = b"\n".join(lines)
    return Chunk(split, lines, numbers, cut, size)


def _numbers(data: bytes, split: bytes, number: int) -> NDArray[np.int64]:
    """Line numbers as an editor counts them: only line feeds make a new one."""
    cells = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(np.frombuffer(split + b"\n" * (len(data) - len(split)), np.uint8) == 10)
    feeds = cells[ends] == _NEWLINE
    found = np.empty(ends.size + 1, dtype=np.int64)
    found[0] = number
    found[1:] = number + np.cumsum(feeds)
    return found
