"""Files, folders, pipes and compressed files → bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers import files, formats
from perfdoctor.readers.files import Head, Source, encoding_of, expand, is_binary
from perfdoctor.record import Run

LOG = b"".join(b"step %d step_time 0.25 s loss 2.%d\n" % (i, i * 7919 % 1000) for i in range(3000))


def zstd(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    found: bytes = zstandard.ZstdCompressor().compress(data)
    return found


PACKERS = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress, "zst": zstd}


def whole(path: Path) -> bytes:
    return b"".join(Source(str(path)).blocks())


@pytest.mark.parametrize("suffix", PACKERS)
def test_compressed_files_are_unpacked(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"train.log.{suffix}"
    path.write_bytes(PACKERS[suffix](LOG))
    source = Source(str(path))
    assert source.head().name == "train.log"
    assert b"".join(source.blocks()) == LOG
    assert source.cut_off is None


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_compressed_file_is_known_by_its_bytes_not_its_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "train.log"
    path.write_bytes(PACKERS[suffix](LOG))
    assert whole(path) == LOG


@pytest.mark.parametrize("suffix", ["gz", "zst", "bz2", "xz"])
def test_files_packed_one_behind_the_other_are_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "train.log"
    path.write_bytes(PACKERS[suffix](LOG) + PACKERS[suffix](b"the end\n"))
    assert whole(path) == LOG + b"the end\n"


@pytest.mark.parametrize("suffix", ["gz", "xz"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_of_a_compressed_file_that_is_cut_off_the_beginning_is_read(
    run_of: Callable[..., Run], suffix: str, share: float
) -> None:
    packed = PACKERS[suffix](LOG)
    run = run_of(packed[: int(len(packed) * share)], f"train.log.{suffix}")
    assert 0.25 * 3000 < run.step_s.size < 3000
    assert any("cut off" in note for note in run.notes)


def test_what_was_unpacked_before_a_cut_far_in_the_file_counts(tmp_path: Path) -> None:
    data = os.urandom(3 * 2**20)
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(data)[:-1000])
    source = Source(str(path))
    found = source.whole()
    assert data.startswith(found)
    assert len(data) - len(found) < 200_000
    assert source.cut_off


def test_bytes_behind_a_compressed_file_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(LOG) + b"garbage")
    assert whole(path) == LOG


@pytest.mark.parametrize(
    "start", [b"\x1f\x8b", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"BZh91AY&SY"]
)
def test_what_only_begins_like_a_compressed_file_is_one_line(tmp_path: Path, start: bytes) -> None:
    if start.startswith(b"\x28"):
        pytest.importorskip("zstandard")
    path = tmp_path / "x.log"
    path.write_bytes(start + b"junk" * 100)
    with pytest.raises(PerfdoctorError) as caught:
        Source(str(path)).head()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_text_that_begins_with_letters_of_a_compressed_file_is_text(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"BZh step 1 took 0.25 s\n" * 5)
    assert whole(path).startswith(b"BZh step")


def test_zstandard_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    path = tmp_path / "x.log.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + b"junk" * 10)
    with pytest.raises(PerfdoctorError, match="pip install zstandard"):
        Source(str(path)).head()


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b" \r\n\t", b"\xef\xbb\xbf", bytes(100), bytes(3 * 2**20)]
)
def test_a_file_that_holds_nothing_is_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(content)
    with pytest.raises(PerfdoctorError, match="the file is empty") as caught:
        Source(str(path)).head()
    assert caught.value.slug == "log-empty"


def test_zeros_at_the_beginning_are_skipped_however_many(tmp_path: Path) -> None:
    # what a writer leaves whose file was emptied behind its back
    path = tmp_path / "x.log"
    path.write_bytes(bytes(9 * 2**20 + 3) + LOG)
    source = Source(str(path))
    assert source.head().text.startswith("step 0")
    assert b"".join(source.blocks()) == LOG


class Stdin:
    """Standard input that gives `data` in small pieces."""

    def __init__(self, data: bytes) -> None:
        class Pieces(io.RawIOBase):
            def __init__(self) -> None:
                self.rest = data

            def readable(self) -> bool:
                return True

            def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
                piece = self.rest[: min(len(buffer), 1000)]
                self.rest = self.rest[len(piece) :]
                buffer[: len(piece)] = piece
                return len(piece)

        self.buffer = io.BufferedReader(Pieces())


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_standard_input_is_read_in_the_pieces_that_come(
    monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(pack(LOG)))
    reading = formats.read("-", lambda read: None)
    assert len(reading.records) == reading.lines == 3000


def test_standard_input_without_anything_is_called_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(b""))
    with pytest.raises(PerfdoctorError, match="standard input: the file is empty"):
        formats.read("-", lambda read: None)


def test_a_named_pipe_is_read_though_it_cannot_go_back(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(LOG,))
    writer.start()
    try:
        assert len(formats.read(str(path), lambda read: None).records) == 3000
    finally:
        writer.join()


def test_the_end_of_a_long_file_helps_to_recognise_it(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"downloading things\n" * 100_000 + b"the very end\n")
    head = Source(str(path)).head()
    assert "the very end" in head.sample
    assert len(head.sample) < 1300


def test_reading_goes_on_behind_the_head_after_its_end_was_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(LOG * 30)
    source = Source(str(path))
    source.head()
    assert source.whole() == LOG * 30


ENCODED = [
    ("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("utf-16", "utf-16"), ("utf-16-le", "utf-16-le"),
    ("utf-16-be", "utf-16-be"), ("gbk", "gb18030"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "recognised"), ENCODED)
def test_text_is_read_in_the_encoding_it_is_in(
    tmp_path: Path, written: str, recognised: str
) -> None:
    text = (
        "第1轮 第20步，损失 2.1，耗时 0.25 秒\n"
        if "16" not in written
        else "step 20: took 0.25 s\n"
    )
    path = tmp_path / "x.log"
    path.write_bytes(
        text.encode(written) * 40 if written != "utf-16" else (text * 40).encode(written)
    )
    source = Source(str(path))
    assert source.head().encoding == recognised
    read = b"".join(source.blocks()).decode().replace("\ufeff", "")
    assert read == text * 40


def test_a_character_on_the_border_of_the_head_is_whole(tmp_path: Path) -> None:
    text = "第1步，耗时 0.25 秒\n" * 80_000
    path = tmp_path / "x.log"
    path.write_bytes(text.encode("gbk"))
    assert whole(path).decode() == text


def test_latin_letters_and_broken_bytes_are_not_taken_for_chinese() -> None:
    assert encoding_of("Époque 1: durée 0,25 s\n".encode("latin-1") * 20) == "utf-8"
    assert encoding_of(b"step 1 \xff\xfe took 0.25 s\n" * 20) == "utf-8"


def _head(raw: bytes) -> Head:
    encoding = encoding_of(raw)
    return Head("x", raw, raw.decode(encoding, "replace"), encoding=encoding)


@pytest.mark.parametrize(
    "raw",
    [
        np.random.default_rng(0).bytes(50_000), np.random.default_rng(1).random(4000).tobytes(),
        np.arange(10_000, dtype=np.int16).tobytes(), np.arange(10_000, dtype=np.int32).tobytes(),
        bytes(range(256)) * 40,
    ],
)  # fmt: skip
def test_numbers_and_random_bytes_are_binary(raw: bytes) -> None:
    assert is_binary(_head(raw))


@pytest.mark.parametrize(
    "raw",
    [
        LOG, b"\x1b[32mstep\x1b[0m 1\r" * 50, b"\x08" * 30 + b"1/9",
        LOG[:5000] + bytes(5000) + LOG[:5000], bytes(500) + LOG,
        "étape 1 durée\n".encode("latin-1"), "エポック 1".encode("shift-jis"),
        "에포크 1 단계".encode("euc-kr"),
        "step 1\r\n".encode("utf-16"), "第1步".encode("gbk"),
    ],
)  # fmt: skip
def test_text_in_whatever_state_is_not_binary(raw: bytes) -> None:
    assert not is_binary(_head(raw))


@given(st.binary(min_size=1, max_size=400))
@settings(max_examples=100, deadline=None)
def test_any_bytes_have_an_encoding_they_can_be_decoded_with(raw: bytes) -> None:
    raw.decode(encoding_of(raw), "replace")
    is_binary(_head(raw))


def test_folders_are_searched_for_what_could_be_a_log(tmp_path: Path) -> None:
    for name in (
        "a.log",
        "sub/b.csv",
        "model.pt",
        ".hidden/c.log",
        "sub/config.json",
        "train.py",
        "x.log.gz",
        "events",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = [str(Path(path).relative_to(tmp_path)) for path in expand([str(tmp_path)])]
    assert found == ["a.log", "events", "sub/b.csv", "x.log.gz"]


def test_patterns_are_expanded_in_order_and_files_named_twice_read_once(tmp_path: Path) -> None:
    for name in ("b.log", "a.log", "c.txt"):
        (tmp_path / name).write_text("x")
    found = expand([str(tmp_path / "*.log"), str(tmp_path / "a.log"), str(tmp_path / "c.txt")])
    assert [Path(path).name for path in found] == ["a.log", "b.log", "c.txt"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "run[1].log"
    path.write_text("x")
    assert expand([str(path)]) == [str(path)]


@pytest.mark.parametrize(
    ("given", "says"),
    [("nothing.log", "no such file"), ("*.nothing", "nothing matches"),
    ("empty", "no logs in this folder")],
)  # fmt: skip
def test_what_is_not_there_is_one_line(tmp_path: Path, given: str, says: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PerfdoctorError, match=says) as caught:
        expand([str(tmp_path / given)])
    assert "\n" not in str(caught.value)


def test_standard_input_is_no_file() -> None:
    assert expand([files.STDIN]) == ["-"]


def test_a_folder_in_place_of_a_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PerfdoctorError, match="cannot be read"):
        Source(str(tmp_path)).head()


def test_a_name_that_is_too_long_is_said_in_one_line() -> None:
    with pytest.raises(PerfdoctorError, match="cannot be read: File name too long") as found:
        expand(["x" * 300])
    assert found.value.exit_code == 2


def test_a_folder_that_may_not_be_read_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files.os, "scandir", refuse)
    with pytest.raises(PerfdoctorError, match="cannot be read: Permission denied"):
        expand([str(tmp_path)])
