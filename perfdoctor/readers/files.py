"""Files, folders, globs, pipes and compressed files → streams of bytes, as UTF-8."""

from __future__ import annotations

import bz2
import codecs
import glob
import gzip
import io
import lzma
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

from perfdoctor.errors import PerfdoctorError

STDIN = "-"
HEAD_BYTES = 2**20
TAIL_BYTES = 2**16
_BLOCK = 2**20
#: Fewer zeros may be the upper bytes of UTF-16.
_FIRST_ZEROS = bytes(16)
#: Lines looked at to recognise the format.
_SAMPLE = 1_200
_DIGITS_ALIKE = str.maketrans("123456789", "000000000")
#: What folders hold beside logs.
_SUFFIXES = """
    .py .pyc .pt .pth .ckpt .bin .safetensors .onnx .h5 .npy .npz .pkl .png .jpg .jpeg .gif .svg
    .pdf .zip .tar .whl .so .md .rst .html .css .js .ipynb .yaml .yml .toml .sh .cfg .ini .lock
    .model .parquet .arrow .mp4 .wav .webp .ico
"""
_NAMES = """
    config.json tokenizer.json tokenizer_config.json special_tokens_map.json vocab.json
    generation_config.json adapter_config.json package.json wandb-metadata.json
"""
_NOT_LOGS, _OTHER_JSON = frozenset(_SUFFIXES.split()), frozenset(_NAMES.split())


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
    def varied(self) -> str:
        """Lines of each form once (forms differ in more than digits): settings are among them."""
        text = "\n".join(self.lines)
        alike = text.translate(_DIGITS_ALIKE).split("\n")
        # the last of each form, in the order of the first
        return "\n".join(dict(zip(alike, self.lines, strict=True)).values())

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
    if is_folder(path):
        inside = in_folder(place)
        if not inside:
            raise PerfdoctorError(
                f"{path}: no logs in this folder; name the files to read", slug="log-folder-empty"
            )
        return inside
    if place.exists():
        return [path]
    # Path.glob takes no absolute patterns
    matches = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []  # noqa: PTH207
    files = [match for match in matches if Path(match).is_file()]
    if not files:
        reason = "nothing matches" if glob.has_magic(path) else "no such file"
        raise PerfdoctorError(f"{path}: {reason}", slug="log-missing")
    return files


def is_folder(path: str) -> bool:
    """Whether `path` names a folder.

    Raises:
        PerfdoctorError: the system does not tell (a name too long, a folder above that may not be
            entered), or the folder may not be read.
    """
    try:
        found = Path(path).is_dir()
        if found:
            os.scandir(path).close()
    except OSError as error:
        raise _unreadable(path, error) from None
    return found


def in_folder(folder: Path) -> list[str]:
    """What could be a log in a folder and the folders in it; `Path.is_file` raises where one of
    these may not be entered."""
    return [
        str(path)
        for path in sorted(folder.rglob("*"))
        if os.path.isfile(path) and _may_be_log(path.relative_to(folder))  # noqa: PTH113
    ]


def _may_be_log(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.suffix not in _NOT_LOGS and path.name not in _OTHER_JSON


class Source:
    """One file to read: its head, its blocks, and all of it at once.

    `cut_off` tells, once all is read, why a compressed file ended before its end.

    Raises:
        PerfdoctorError: it cannot be opened or unpacked, or holds nothing.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.cut_off: str | None = None
        self._held: bytes | None = None
        self._stream: IO[bytes] | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._packed = False

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
                self._stream = self._opened()
                self._pieces = self._read(self._stream)
                self._held = _up_to(self._pieces, HEAD_BYTES)
            except (OSError, ValueError) as error:
                raise _unreadable(self.path, error) from None
            if not self._held.strip(b"\r\n\t \xef\xbb\xbf\xff\xfe"):
                self._stream.close()
                raise self._nothing()
        return self._held

    def _opened(self) -> IO[bytes]:
        return _open(self.path)

    def _nothing(self) -> PerfdoctorError:
        if self.cut_off is not None:
            return PerfdoctorError(
                f"{_called(self.path)}: cannot be read: {self.cut_off}", slug="log-unreadable"
            )
        what = "empty, or it was cut off" if self._packed else "empty"
        return PerfdoctorError(f"{_called(self.path)}: the file is {what}", slug="log-empty")

    def _blocks(self) -> Iterator[bytes]:
        first, stream = self._first(), self._stream
        assert stream is not None
        try:
            yield first
            yield from self._pieces
        except (OSError, ValueError) as error:
            raise _unreadable(self.path, error) from None
        finally:
            stream.close()
            self._stream, self._held = None, None

    def _read(self, stream: Any) -> Iterator[bytes]:
        """Piece by piece, without zeros at the beginning: of a file that was emptied while it was
        written to, or lost in a crash. Of a compressed file that is cut off, what came before."""
        self._packed = not isinstance(stream, io.BufferedReader)
        zeros = True
        try:
            while piece := stream.read1(_BLOCK):
                zeros = zeros and piece.startswith(_FIRST_ZEROS)
                piece = piece.lstrip(b"\0") if zeros else piece
                zeros = zeros and not piece
                if piece:
                    yield piece
        except Exception as error:  # each kind of compression has errors of its own
            if not self._packed:
                raise
            self.cut_off = str(error) or type(error).__name__

    def _tail(self) -> bytes:
        stream = self._stream
        if not isinstance(stream, io.BufferedReader) or not stream.seekable():
            return b""
        place = stream.tell()
        end = stream.seek(0, io.SEEK_END)
        stream.seek(max(place, end - TAIL_BYTES))
        tail = stream.read(TAIL_BYTES)
        stream.seek(place)
        return tail


class Held(Source):
    """A text that no file holds, called `path`."""

    def __init__(self, path: str, data: bytes) -> None:
        super().__init__(path)
        self._data = data

    def _opened(self) -> IO[bytes]:
        # as a file is opened: only what is unpacked comes in another way
        return cast("IO[bytes]", io.BufferedReader(cast("io.RawIOBase", io.BytesIO(self._data))))


#: First bytes → what unpacks the file. bzip2's has a block's or the end's mark behind its level.
_PACKED = re.compile(
    rb"(?P<gzip>\x1f\x8b)|(?P<lzma>\xfd7zXZ\0)|(?P<zstd>\x28\xb5\x2f\xfd)"
    rb"|(?P<bz2>BZh[1-9](?:1AY&SY|\x17rE8P\x90))"
)


def _open(path: str) -> IO[bytes]:
    stream: Any = sys.stdin.buffer if path == STDIN else Path(path).open("rb")  # noqa: SIM115
    # a look ahead, because pipes cannot go back
    match = _PACKED.match(stream.peek(16)) if isinstance(stream, io.BufferedReader) else None
    kind = None if match is None else match.lastgroup
    if kind == "gzip":
        return cast("IO[bytes]", gzip.open(stream))
    if kind == "lzma":
        return lzma.open(stream)
    if kind == "bz2":
        return bz2.open(stream)
    if kind == "zstd":
        return _zstandard(path, stream)
    found: IO[bytes] = stream
    return found


def _zstandard(path: str, stream: Any) -> IO[bytes]:
    try:
        import zstandard
    except ImportError:
        raise PerfdoctorError(
            f"{path}: to unpack it, install zstandard: pip install zstandard", slug="log-unreadable"
        ) from None
    unpacker = zstandard.ZstdDecompressor()
    found: IO[bytes] = unpacker.stream_reader(stream, read_across_frames=True)
    return found


def _up_to(pieces: Iterator[bytes], count: int) -> bytes:
    """Pipes and decompressors give less than asked for at a time."""
    found: list[bytes] = []
    while count > 0 and (piece := next(pieces, b"")):
        found.append(piece)
        count -= len(piece)
    return b"".join(found)


def _called(path: str) -> str:
    return "standard input" if path == STDIN else path


def _unreadable(path: str, error: Exception) -> PerfdoctorError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return PerfdoctorError(f"{_called(path)}: cannot be read: {reason}", slug="log-unreadable")


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


#: The frequent characters of GB 2312 (rows 16–55) and its punctuation (rows 1–9); other bytes.
_GB2312 = re.compile(rb"[\xa1-\xa9\xb0-\xd7][\xa1-\xfe]|[\x80-\xff]")


def _is_gbk(raw: bytes) -> bool:
    """Not UTF-8, but what is beyond ASCII are frequent Chinese characters in GBK."""
    if _decodes(raw, "utf-8") or not _decodes(raw, "gb18030"):
        return False
    beyond = _GB2312.findall(raw)
    return sum(len(found) == 2 for found in beyond) > 0.8 * len(beyond)


def _decodes(raw: bytes, encoding: str) -> bool:
    """All of it, but for a character cut off at the end."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(raw)
    except UnicodeDecodeError:
        return False
    return True


def _as_utf8(blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    for block in blocks:
        yield decoder.decode(block).encode()
    yield decoder.decode(b"", True).encode()


#: Random bytes have 10 % of these control characters, numbers in binary more.
_MOST_CONTROLS = 0.05
_CONTROLS = bytes((*range(8), *range(14, 27), 28, 29, 30, 31))
_ZEROS = re.compile(rb"\0{16,}")


def is_binary(head: Head) -> bool:
    """Neither text nor one of the text encodings: control characters all over."""
    raw = head.raw if head.encoding == "utf-8" else head.text[:20_000].encode()
    sample = _ZEROS.sub(b"", raw[:20_000])  # a crash leaves blocks of zeros in a text
    return len(sample) - len(sample.translate(None, _CONTROLS)) > _MOST_CONTROLS * len(sample)
