"""Event files that are cut off or damaged: what is whole is read, and nothing is invented."""

from __future__ import annotations

import struct
from collections import Counter

import numpy as np
import pytest
from event_files import (
    START,
    event,
    logged,
    plugin,
    record,
    scalar,
    simple,
    sized,
    small_file,
    tensor,
    together,
    value,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers import tensorboard_records
from perfdoctor.readers.records import Reading
from perfdoctor.readers.tensorboard import read

Logged = tuple[float, str, float]


def metric(tag: str) -> str:
    return f"metric:{tag}"


def test_a_last_record_that_is_cut_off_is_left_out_and_said() -> None:
    reading = read("run", small_file()[:-3])
    assert len(logged(reading)) == 11
    assert reading.notes == ("The file ends within a record; all before it is read.",)
    assert reading.unread == 0


def test_a_record_with_a_wrong_checksum_is_left_out_and_counted() -> None:
    data = bytearray(small_file())
    data[data.index(struct.pack("<f", 2.5))] ^= 1
    reading = read("run", bytes(data))
    assert sorted(logged(reading)) == sorted(
        set(logged(read("run", small_file()))) - {(5, "loss", 2.5)}
    )
    assert reading.unread == 1
    assert reading.unread_samples[0].line == 12
    assert reading.notes == ("Record 12 left out: wrong checksum or contents.",)


def test_a_damaged_length_costs_one_record() -> None:
    data = bytearray(small_file())
    start = 12 + data[0] + 4  # of the second record, which is the first scalar
    data[start] ^= 0xFF
    reading = read("run", bytes(data))
    assert sorted(logged(reading)) == sorted(
        set(logged(read("run", small_file()))) - {(0, "loss", 0.0)}
    )
    assert "damaged before record 2" in reading.notes[0]
    assert reading.unread == 1


def test_a_run_appended_behind_a_record_that_was_cut_off_is_read_from_its_first_record() -> None:
    cut = scalar(START, 9, "loss", 9)[:20]
    reading = read("run", small_file() + cut + together(START, 7, {"loss": 7, "lr": 0.5}))
    assert Counter(logged(reading)) == Counter(
        [*logged(read("run", small_file())), (7, "loss", 7), (7, "lr", 0.5)]
    )
    assert reading.unread >= 1


def test_a_record_cut_off_in_front_of_a_short_rest_hides_nothing() -> None:
    long = event(START, 9, value("image", sized(4, b"x" * 5000)))[:100]
    assert len(logged(read("run", small_file() + long + small_file(steps=2)))) == 12 + 4


def test_zeros_at_the_end_are_damage_and_cost_nothing() -> None:
    reading = read("run", small_file() + bytes(100_000))
    assert len(logged(reading)) == 12
    assert reading.notes == (
        "Reading ended after record 13: the last 100000 bytes of the file are damaged.",
    )


def test_what_holds_no_record_is_refused_in_one_line() -> None:
    with pytest.raises(PerfdoctorError, match=r"x/run has no TensorBoard records") as caught:
        read("x/run", b"version https://git-lfs.github.com/spec/v1\noid sha256:1234\n")
    assert caught.value.slug == "events-unreadable"
    assert "\n" not in str(caught.value)


def test_a_file_that_is_damaged_all_over_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard_records, "_MAX_GAPS", 3)
    bad = b"\xff" * 30
    data = b"".join(scalar(START + i, i, "loss", i) + bad for i in range(1, 9))
    reading = read("run", data)
    assert [number for _, _, number in logged(reading)] == [1, 2, 3, 4]
    assert any("Reading ended" in note for note in reading.notes)


tags = st.text(st.characters(codec="utf-8"), max_size=12)
numbers = st.floats(width=32)
entries = st.tuples(
    st.floats(min_value=0, max_value=1e10),
    st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300),
    tags,
    numbers,
    st.sampled_from(("simple", "float", "double", "content")),
)
Entry = tuple[float, int, str, float, str]


def encoded(entry: Entry) -> bytes:
    time_s, step, tag, number, form = entry
    single, double = struct.pack("<f", number), struct.pack("<d", number)
    parts = {
        "simple": (simple(number),),
        "float": (plugin("scalars"), tensor(1, sized(5, single))),
        "double": (tensor(2, sized(6, double)),),
        "content": (tensor(1, sized(4, single)), plugin("scalars", b"\x08\x01")),
    }
    return event(time_s, step, value(tag, *parts[form]))


def expected(written: list[Entry]) -> Counter[Logged]:
    return Counter(
        (float(step), tag, number) for _, step, tag, number, _ in written if number == number
    )


def everything(reading: Reading) -> Counter[Logged]:
    return Counter(logged(reading))


@settings(deadline=None)
@given(st.lists(entries, max_size=30), st.sampled_from((2, 7, 16_384)))
def test_everything_that_was_written_is_read(written: list[Entry], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorboard_records, "BLOCK", block)
        reading = read("run", b"".join(map(encoded, written)), metric)
    assert everything(reading) == expected(written)
    assert (reading.lines, reading.unread) == (len(written), 0)


@settings(deadline=None)
@given(st.lists(entries, min_size=1, max_size=8), st.data())
def test_a_file_cut_anywhere_gives_all_that_is_whole(
    written: list[Entry], data: st.DataObject
) -> None:
    parts = [encoded(entry) for entry in written]
    whole = b"".join(parts)
    cut = data.draw(st.integers(0, len(whole) - 1))
    ends = np.cumsum([len(part) for part in parts])
    complete = int((ends <= cut).sum())
    reading = read("run", whole[:cut], metric)
    assert everything(reading) == expected(written[:complete])
    assert ("ends within" in "".join(reading.notes)) == (cut not in {0, *ends.tolist()})


@settings(deadline=None)
@given(st.lists(entries, min_size=1, max_size=6), st.data())
def test_a_byte_that_is_wrong_anywhere_invents_nothing(
    written: list[Entry], data: st.DataObject
) -> None:
    damaged = bytearray(b"".join(map(encoded, written)))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        reading = read("run", bytes(damaged), metric)
    except PerfdoctorError as error:
        assert error.slug == "events-unreadable"
        assert len(written) == 1
        return
    lost = expected(written) - everything(reading)
    assert everything(reading) <= expected(written)
    assert sum(lost.values()) <= 1


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_read_or_refused(data: bytes) -> None:
    for content in (data, record(data), small_file(2) + data, small_file(1) + record(data)):
        try:
            read("run", content)
        except PerfdoctorError as error:
            assert error.slug == "events-unreadable"
