"""Text and token ids: windows for a language model."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from perfdoctor.workload import UnreadableSampleError
from perfdoctor.workloads.kinds import DataFile, Found, Recognised, counted, read_each, reason_of
from perfdoctor.workloads.reference import gpt_reference

BLOCK_SIZE = 128
#: Larger vocabularies are folded into this many ids: the output layer of 50 257 ids would take
#: twenty times as long as the rest of the reference model.
MAX_VOCABULARY = 2_048
_SCANNED_TOKENS = 20_000_000


@dataclass(frozen=True)
class TokenFile:
    """Where the tokens of one file lie, and how they are stored."""

    path: str
    count: int
    dtype: str = "u1"
    offset_bytes: int = 0

    def map(self) -> NDArray[Any]:
        """The tokens, mapped. Raises OSError or ValueError for a file that is gone or shorter."""
        return np.memmap(self.path, self.dtype, "r", self.offset_bytes, (self.count,))


class TokenWindows(Dataset[tuple[Tensor, Tensor]]):
    """Consecutive windows of `block_size` token ids, and the same shifted by one as the target.

    A file shorter than a window gives one, filled up with zeros. `skipped` holds (path, reason)
    of files without tokens. `__getitem__` raises `UnreadableSampleError` for a file that changed.
    """

    def __init__(
        self,
        files: Sequence[TokenFile],
        vocabulary: int,
        skipped: list[tuple[str, str]],
        block_size: int = BLOCK_SIZE,
    ) -> None:
        self.files, self.vocabulary, self.block_size = tuple(files), vocabulary, block_size
        self.skipped = skipped
        self.ends = list(accumulate(max(1, (f.count - 1) // block_size) for f in files))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        number = bisect_right(self.ends, index)
        start = (index - (self.ends[number - 1] if number else 0)) * self.block_size
        file = self.files[number]
        try:
            window = file.map()[start : start + self.block_size + 1].astype(np.int64)
        except (OSError, ValueError) as error:
            raise UnreadableSampleError(file.path, reason_of(error)) from error
        return shifted(window, self.vocabulary, self.block_size)


def shifted(window: NDArray[np.int64], vocabulary: int, block_size: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets from up to `block_size + 1` ids; ids are folded into the vocabulary."""
    ids = torch.zeros(block_size + 1, dtype=torch.int64)
    ids[: len(window)] = torch.from_numpy(window % vocabulary)
    return ids[:-1], ids[1:]


def recognise(found: Found) -> Recognised:
    """Windows over `.bin` token files, or, where there are none, over the bytes of text files.

    Raises:
        PerfdoctorError: no file holds tokens; with `strict`, one holds none.
    """
    binary = [file for file in found.files if file.path.suffix.lower() == ".bin"]
    if not binary:
        return _recognise(found, found.files, _text, ("text file", "read as bytes"))
    ignored = len(found.files) - len(binary)
    left_out = counted(ignored, ".txt file")
    note = (f"Left out {left_out} beside the .bin files.",) if ignored else ()
    how = (".bin file", "read as little-endian uint16 token ids, as nanoGPT writes them")
    return _recognise(found, binary, _uint16, how, note)


def recognise_npy(found: Found) -> Recognised:
    """Windows over one-dimensional integer `.npy` files; raises as `recognise` does."""
    return _recognise(found, found.files, _npy, (".npy file", "of integers read as token ids"))


def _recognise(
    found: Found,
    files: Sequence[DataFile],
    read: Callable[[Path], TokenFile],
    how: tuple[str, str],
    more: tuple[str, ...] = (),
) -> Recognised:
    done, skipped = read_each(files, read, strict=found.strict)
    held = [file for _, file in done]
    known = 256 if read is _text else _largest_id(held) + 1
    vocabulary = min(known, MAX_VOCABULARY)
    count = sum(file.count for file in held)
    notes = (
        f"Recognised {count} tokens in {counted(len(held), how[0])} {how[1]} ({found.where}).",
        *more,
    )
    if known > vocabulary:
        notes += (f"Token ids up to {known - 1} are folded into {vocabulary}.",)
    dataset = TokenWindows(held, vocabulary, skipped)
    return Recognised(
        dataset=dataset,
        samples=len(dataset),
        reference=gpt_reference(vocabulary, BLOCK_SIZE),
        notes=notes,
    )


def _text(path: Path) -> TokenFile:
    return _checked(TokenFile(str(path), path.stat().st_size))


def _uint16(path: Path) -> TokenFile:
    size = path.stat().st_size
    if size % 2:
        raise ValueError(f"has {size} bytes, an odd number, so it does not hold uint16 token ids")
    return _checked(TokenFile(str(path), size // 2, "<u2"))


def _npy(path: Path) -> TokenFile:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"has shape {array.shape} of {array.dtype}, not a row of token ids")
    return _checked(TokenFile(str(path), len(array), array.dtype.str, array.offset))


def _checked(file: TokenFile) -> TokenFile:
    if file.count < 2:
        raise ValueError("has fewer than two tokens")
    with Path(file.path).open("rb"):  # raises now, not in a worker later, if we may not read it
        return file


def _largest_id(files: Sequence[TokenFile]) -> int:
    """Of the first 20 million tokens; a larger one met later is folded."""
    largest, left = 1, _SCANNED_TOKENS
    for file in files:
        if left <= 0:
            break
        part = file.map()[:left]
        largest, left = max(largest, int(part.max())), left - len(part)
    return largest
