"""Bytes → lines, as terminals and crashes leave them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor.readers import lines as lines_module
from perfdoctor.readers.lines import LONGEST_LINE, Chunk, chunks

NEW_RECORD = re.compile(rb"[\n\r\x08\x0b\x0c]")


def cut_up(data: bytes, size: int) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


def rows(found: list[Chunk]) -> list[tuple[int, bytes]]:
    """Line numbers and what is not empty of the lines."""
    return [
        (int(number), line)
        for chunk in found
        for number, line in zip(chunk.number, chunk.lines, strict=True)
        if line
    ]


def read(data: bytes, size: int = 7) -> list[tuple[int, bytes]]:
    return rows(list(chunks(cut_up(data, size))))


def expected(data: bytes) -> list[tuple[int, bytes]]:
    """What an editor would number so; frames of progress bars are lines with one number."""
    found = []
    for number, line in enumerate(data.replace(b"\r\n", b"\n").split(b"\n"), start=1):
        found += [(number, frame) for frame in NEW_RECORD.split(line) if frame]
    return found


def test_lines_are_numbered_from_one() -> None:
    assert read(b"a\nb\n\nc") == [(1, b"a"), (2, b"b"), (4, b"c")]


def test_windows_line_ends_count_once() -> None:
    assert read(b"a\r\nb\r\n\r\nc\r\n") == [(1, b"a"), (2, b"b"), (4, b"c")]


def test_frames_of_a_progress_bar_are_records_of_one_line() -> None:
    assert read(b"x\n10%\r20%\r30%\nend") == [
        (1, b"x"),
        (2, b"10%"),
        (2, b"20%"),
        (2, b"30%"),
        (3, b"end"),
    ]


def test_backspaces_begin_a_new_record() -> None:
    assert read(b"1/9" + b"\x08" * 3 + b"2/9\n") == [(1, b"1/9"), (1, b"2/9")]


@pytest.mark.parametrize(
    "escape",
    [b"\x1b[32m", b"\x1b[0;1;31m", b"\x1b[K", b"\x1b[2J", b"\x1b[?25l", b"\x1b[1A",
    b"\x1b]0;title\x07", b"\x1b]8;;http://x\x1b\\", b"\x1bM"],
)  # fmt: skip
def test_colours_cursor_movements_and_titles_are_taken_out(escape: bytes) -> None:
    assert read(escape + b"step " + escape + b"1" + escape + b"\n", 1000) == [(1, b"step 1")]


def test_zeros_are_taken_out() -> None:
    assert read(b"\0\0\0step 1\nst\0ep 2\n") == [(1, b"step 1"), (2, b"step 2")]


def test_a_line_that_is_too_long_keeps_its_beginning_and_its_number() -> None:
    data = b"a\n" + b"x" * (LONGEST_LINE + 5) + b"\nb\n\n"
    [chunk] = chunks([data])
    assert chunk.cut == 1
    assert rows([chunk]) == [(1, b"a"), (2, b"x" * LONGEST_LINE), (3, b"b")]
    assert len(chunk) == len(chunk.number) == len(chunk.lines)


def test_lines_go_on_being_counted_over_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "_CHUNK", 64)
    data = b"".join(b"step %d\r\n" % i + b"bar %d\rbar\r" % i for i in range(200)) + b"end"
    found = list(chunks(cut_up(data, 10)))
    assert len(found) > 20
    assert rows(found) == expected(data)


def test_a_line_longer_than_memory_should_hold_is_cut_while_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lines_module, "_CHUNK", 1000)
    held = []

    def blocks() -> Iterator[bytes]:
        yield b"first\n"
        for _ in range(2000):
            yield b"y" * 1000
            held.append(1)
        yield b"\nlast\n"

    found = list(chunks(blocks()))
    assert [number for number, _ in rows(found)] == [1, 2, 3]
    assert sum(chunk.cut for chunk in found) == 1
    assert max(len(chunk.data) for chunk in found) < 6 * LONGEST_LINE


def test_what_was_read_adds_up_to_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "_CHUNK", 100)
    data = b"\x1b[1mstep 1\x1b[0m\r\n" * 100
    assert sum(chunk.size for chunk in chunks(cut_up(data, 33))) == len(data)


@given(
    st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"\x08", b"\x0c", b"a", b"1", b"step 1",
    b" "]), max_size=60).map(b"".join),
    st.integers(1, 20),
    st.integers(1, 40),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_lines_do_not_depend_on_where_blocks_end(data: bytes, size: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "_CHUNK", chunk)
        assert read(data, size) == expected(data)


@given(st.binary(max_size=300), st.integers(1, 50))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_lines_with_as_many_numbers(data: bytes, size: int) -> None:
    for chunk in chunks(cut_up(data, size)):
        assert len(chunk) == chunk.number.size == len(chunk.lines)
        assert [chunk[i] for i in range(len(chunk))] == chunk.lines
