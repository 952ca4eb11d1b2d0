"""Files, folders, globs, pipes and compressed files → streams of bytes, as UTF-8."""

from __future__ import annotations

import bz2
import codecs
import glob
import gzip
import io
import lzma
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from perfdoctor.errors import PerfdoctorError

STDIN = "-"
HEAD_BYTES = 2**20
TAIL_BYTES = 2**16
_BLOCK = 4 * 2**20
#: Lines looked at to recognise the format.
_SAMPLE = 1_200
#: What folders hold beside logs.
_NOT_LOGS = frozenset(
    ".py .pyc .pt .pth .ckpt .bin .safetensors .onnx .h5 .npy .npz .pkl .png .jpg .jpeg .gif .svg "
    ".pdf .zip .tar .whl .so .md .rst .html .css .js .ipynb .yaml .yml .toml .sh .cfg .ini .lock "
    ".model .parquet .arrow .mp4 .wav .webp .ico".split()
)
_OTHER_JSON = frozenset(
    "config.json tokenizer.json tokenizer_config.json special_tokens_map.json vocab.json "
    "generation_config.json adapter_config.json package.json wandb-metadata.json".split()
)


@dataclass(frozen=True)
class Head:
    """The beginning of a file, and its end where it can be had cheaply.

    `text` and `tail` are decoded; `raw` are the first bytes, uncompressed. `name` is the file's
    without a suffix of compression.
    """

    name: str
    raw: bytes
    text: str
    tail: str = ""
    encoding: str = "utf-8"

    @cached_property
    def lines(self) -> list[str]:
        """The lines of head and tail, progress bars split."""
        both = self.text if not self.tail else f"{self.text}\n{self.tail}"
        return both.replace("\r", "\n").split("\n")

    @cached_property
    def sample(self) -> list[str]:
        """Some of the lines that are not empty: the first, the last, and others evenly between."""
        filled = [line for line in self.lines if line.strip()]
        if len(filled) <= _SAMPLE:
            return filled
        part = _SAMPLE // 3
        between = filled[part:-part]
        return filled[:part] + between[:: -(-len(between) // part)] + filled[-part:]


def expand(given: Sequence[str]) -> list[str]:
    """The files that are meant, each once, in order.

    Raises:
        PerfdoctorError: something does not exist, or a folder holds nothing that could be a log.
    """
    found: list[str] = []
    for path in given:
        found += _expanded(path)
    return list(dict.fromkeys(found))


def _expanded(path: str) -> list[str]:
    if path == STDIN:
        return [path]
    place = Path(path)
    if place.is_dir():
        inside = in_folder(place)
        if not inside:
            raise PerfdoctorError(
                f"{path}: no logs in this folder; name the files to read", slug="log-folder-empty"
            )
        return inside
    if place.exists():
        return [path]
    matches = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []
    files = [match for match in matches if Path(match).is_file()]
    if not files:
        reason = "nothing matches" if glob.has_magic(path) else "no such file"
        raise PerfdoctorError(f"{path}: {reason}", slug="log-missing")
    return files


def in_folder(folder: Path) -> list[str]:
    """What could be a log in a folder and the folders in it."""
    return [
        str(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and _may_be_log(path.relative_to(folder))
    ]


def _may_be_log(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.suffix not in _NOT_LOGS and path.name not in _OTHER_JSON


class Source:
    """One file to read: its head, its blocks, and all of it at once.

    Raises:
        PerfdoctorError: it cannot be opened or unpacked, or holds nothing.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._held: bytes | None = None
        self._stream: IO[bytes] | None = None

    def head(self) -> Head:
        """The beginning and the end of the file."""
        raw = self._first()
        encoding = encoding_of(raw)
        text = raw.decode(encoding, "replace").lstrip("\ufeff")
        tail = self._tail().decode(encoding, "replace") if encoding != "utf-16" else ""
        return Head(_plain_name(self.path), raw, text, tail, encoding)

    def blocks(self) -> Iterator[bytes]:
        """The file in blocks, as UTF-8."""
        encoding = encoding_of(self._first())
        raw = self._blocks()
        yield from raw if encoding == "utf-8" else _as_utf8(raw, encoding)

    def whole(self) -> bytes:
        """All of it, as it is."""
        return b"".join(self._blocks())

    def _first(self) -> bytes:
        if self._held is None:
            try:
                self._stream = _open(self.path)
                self._held = _read_up_to(self._stream, HEAD_BYTES)
            except (OSError, EOFError, lzma.LZMAError, ValueError) as error:
                raise _unreadable(self.path, error) from None
            if not self._held.strip(b"\0\r\n\t \xef\xbb\xbf"):
                raise PerfdoctorError(f"{self.path}: the file is empty", slug="log-empty")
        return self._held

    def _blocks(self) -> Iterator[bytes]:
        yield self._first()
        assert self._stream is not None
        try:
            while block := self._stream.read(_BLOCK):
                yield block
        except (EOFError, lzma.LZMAError, OSError, ValueError) as error:
            # a compressed file that was cut off: what came before counts
            if self.path == STDIN:
                raise _unreadable(self.path, error) from None
        finally:
            self._stream.close()
            self._stream, self._held = None, None

    def _tail(self) -> bytes:
        if self.path == STDIN or self._stream is None or not isinstance(
            self._stream, io.BufferedReader
        ):  # fmt: skip
            return b""
        place = self._stream.tell()
        end = self._stream.seek(0, io.SEEK_END)
        start = max(place, end - TAIL_BYTES)
        self._stream.seek(start)
        tail = self._stream.read(TAIL_BYTES)
        self._stream.seek(place)
        return tail


def _open(path: str) -> IO[bytes]:
    if path == STDIN:
        return sys.stdin.buffer
    stream = open(path, "rb")  # noqa: SIM115 - the caller closes it when all is read
    magic = stream.read(6)
    stream.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(stream)  # type: ignore[return-value]
    if magic.startswith(b"\xfd7zXZ"):
        return lzma.open(stream)
    if magic.startswith(b"BZh"):
        return bz2.open(stream)
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        import zstandard

        found: IO[bytes] = zstandard.ZstdDecompressor().stream_reader(
            stream, read_across_frames=True
        )
        return found
    return stream


def _read_up_to(stream: Any, count: int) -> bytes:
    """Pipes and decompressors give less than asked for at a time."""
    parts: list[bytes] = []
    size = 0
    while size < count and (block := stream.read(count - size)):
        parts.append(block)
        size += len(block)
    return b"".join(parts)


def _unreadable(path: str, error: Exception) -> PerfdoctorError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return PerfdoctorError(f"{path}: cannot be read: {reason}", slug="log-unreadable")


def _plain_name(path: str) -> str:
    name = Path(path).name
    for suffix in (".gz", ".xz", ".zst", ".bz2"):
        name = name.removesuffix(suffix)
    return name


def encoding_of(raw: bytes) -> str:
    """utf-8, utf-16 (either order) or gb18030, from the first bytes."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    sample = raw[:4096]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    half = max(1, len(sample) // 2)
    if odd > 0.6 * half and even < 0.1 * half:
        return "utf-16-le"
    if even > 0.6 * half and odd < 0.1 * half:
        return "utf-16-be"
    return "gb18030" if _is_gbk(raw) else "utf-8"


def _is_gbk(raw: bytes) -> bool:
    """Not UTF-8, but every letter beyond ASCII is a common Chinese character in GBK."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(raw)
        return False
    except UnicodeDecodeError:
        pass
    try:
        text = codecs.getincrementaldecoder("gb18030")().decode(raw)
    except UnicodeDecodeError:
        return False
    beyond = [c for c in text if c > "\x7f"]
    return sum("\u4e00" <= c <= "\u9fff" or c in "，。：；（）％【】" for c in beyond) > 0.8 * len(
        beyond
    )


def _as_utf8(blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    for block in blocks:
        yield decoder.decode(block).encode()
    yield decoder.decode(b"", True).encode()


def is_binary(head: Head) -> bool:
    """Neither text nor one of the text encodings: control characters all over."""
    if head.encoding != "utf-8":
        return False
    sample = head.raw.lstrip(b"\0")[:8192]  # a file that a crash left begins with zeros
    odd = sum(sample.count(c) for c in (*range(8), *range(14, 27), 28, 29, 30, 31))
    return odd > 0.1 * len(sample)
