"""Bytes of a text file → chunks of lines, whatever a terminal, a progress bar or a crash left."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: What is read of a longer line: no log prints more for a record.
LONGEST_LINE = 16_384
_CHUNK = 4 * 2**20
#: Colours, cursor movements, titles and links (ECMA-48 section 5.4).
_ESCAPES = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_=>]"
)
#: Carriage returns and backspaces overwrite the line: what follows is another record.
_OVERWRITES = bytes.maketrans(b"\r\x08\x0b\x0c", b"\n\n\n\n")
_OVERWRITING = (b"\r", b"\x08", b"\x0b", b"\x0c")
_UNPLAIN = (b"\x1b", b"\0", *_OVERWRITING)
_NEWLINE = 10
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Chunk:
    """Some lines of a file: line i is `data[starts[i]:ends[i]]`, and has `number[i]` in the file.

    `cut` counts lines that were too long; `size` is what was read for it, in bytes.
    """

    data: bytes
    starts: Indices
    ends: Indices
    number: Indices
    cut: int = 0
    size: int = 0

    def __len__(self) -> int:
        return int(self.starts.size)

    def __getitem__(self, i: int) -> bytes:
        return self.data[self.starts[i] : self.ends[i]]

    @property
    def lines(self) -> list[bytes]:
        """All of them."""
        found = self.data.split(b"\n")
        return found[: len(self)]


def chunks(blocks: Iterable[bytes]) -> Iterator[Chunk]:
    """Whole lines, about 4 MiB at a time."""
    number, rest = 1, b""
    for block in _paced(blocks):
        end = _end_of_lines(block)
        if not end:
            block, rest = rest + block, b""
            end = _end_of_lines(block)
        if not end:
            rest = block if len(block) <= 4 * LONGEST_LINE else block[: 2 * LONGEST_LINE]
            continue
        data = b"".join((rest, memoryview(block)[:end]))
        rest = block[end:]
        chunk = _chunk(data, number)
        number = int(chunk.number[-1]) + data.endswith(b"\n")
        yield chunk
    if rest:
        yield _chunk(rest, number)


def _end_of_lines(data: bytes) -> int:
    """Where the last whole line ends."""
    return max(data.rfind(b"\n"), data.rfind(b"\r")) + 1


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
    if any(c in data for c in _UNPLAIN):
        data = _ESCAPES.sub(b"", data).replace(b"\0", b"").replace(b"\r\n", b"\n")
    split = data.translate(_OVERWRITES) if any(c in data for c in _OVERWRITING) else data
    starts, ends = _bounds(split)
    numbers = _numbers(data, split, ends, number)
    cut = int((ends - starts > LONGEST_LINE).sum())
    if cut:
        pieces = [split[a : min(b, a + LONGEST_LINE)] for a, b in zip(starts, ends, strict=True)]
        split = b"\n".join(pieces) + b"\n"
        starts, ends = _bounds(split)
    return Chunk(split, starts, ends, numbers, cut, size)


def _bounds(data: bytes) -> tuple[Indices, Indices]:
    """Where the lines begin and end; what follows the last line feed is a line as well."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
    if data and not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    starts = np.empty_like(ends)
    starts[:1] = 0
    starts[1:] = ends[:-1] + 1
    return starts, ends


def _numbers(data: bytes, split: bytes, ends: Indices, number: int) -> Indices:
    """Line numbers as an editor counts them: only line feeds make a new one."""
    if data is split:
        return np.arange(number, number + ends.size, dtype=np.int64)
    feeds = np.frombuffer(data, np.uint8)[ends[:-1]] == _NEWLINE
    found = np.full(ends.size, number, dtype=np.int64)
    found[1:] += np.cumsum(feeds)
    return found
