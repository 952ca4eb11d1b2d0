"""TensorBoard event files: every scalar as it was logged, whatever else is in the file."""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from pathlib import Path

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
    varint,
    version,
)

from perfdoctor.readers import tensorboard_events, tensorboard_rows
from perfdoctor.readers.tensorboard import is_event_file, read, role_of_tag


def test_what_was_logged_together_becomes_one_row() -> None:
    reading = read("run", small_file())
    records = reading.records
    assert reading.format == "tensorboard_events"
    assert (len(records), reading.lines, reading.unread, reading.notes) == (6, 13, 0, ())
    assert records.line.tolist() == [2, 4, 6, 8, 10, 12]
    assert records.column("step").tolist() == [0, 1, 2, 3, 4, 5]
    assert records.column("time").tolist() == [START + step for step in range(6)]
    assert records.column("metric:loss").tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
    assert records.column("metric:lr").tolist() == [0.5] * 6


def test_the_wall_clock_runs_from_the_opening_of_the_file_to_its_last_event() -> None:
    data = version(START) + scalar(START + 60, 1, "loss", 1) + scalar(START + 90, 2, "loss", 1)
    assert read("run", data).facts == {"wall_s": 90.0}


def test_the_same_step_logged_minutes_later_is_a_row_of_its_own() -> None:
    data = scalar(START, 7, "train/loss", 1) + scalar(START + 300, 7, "val/loss", 2)
    records = read("run", data).records
    assert records.column("step").tolist() == [7, 7]
    assert records.column("time").tolist() == [START, START + 300]
    assert np.isnan(records.column("metric:val/loss")).tolist() == [True, False]


def test_a_step_that_is_never_given_makes_no_column_and_loses_no_value() -> None:
    data = b"".join(together(START, 0, {"a": number, "b": -number}) for number in (1, 2, 3))
    records = read("run", data).records
    assert "step" not in records
    assert records.column("metric:a").tolist() == [1, 2, 3]
    assert records.column("metric:b").tolist() == [-1, -2, -3]
    assert records.line.tolist() == [1, 3, 5]


def test_a_tag_that_comes_twice_in_one_burst_moves_no_other_step() -> None:
    data = (
        scalar(START, 1, "a", 1)
        + scalar(START, 2, "a", 2)
        + scalar(START, 2, "b", 3)
        + scalar(START, 2, "a", 4)
        + scalar(START, 3, "a", 5)
    )
    records = read("run", data).records
    assert records.column("step").tolist() == [1, 2, 2, 3]
    assert records.column("metric:a").tolist() == [1, 2, 4, 5]
    assert records.line.tolist() == [1, 2, 4, 5]


@pytest.mark.parametrize(
    ("number", "content"),
    [
        (0.25, simple(0.25)),
        (0.25, tensor(1, sized(4, struct.pack("<f", 0.25)))),
        (0.1, tensor(2, sized(4, struct.pack("<d", 0.1)))),
        (-7, tensor(3, sized(4, struct.pack("<i", -7)))),
        (-7, tensor(9, sized(4, struct.pack("<q", -7)))),
        (0.5, tensor(19, sized(4, struct.pack("<e", 0.5)))),
        (1, tensor(10, sized(4, b"\1"))),
        (0.25, tensor(1, sized(5, struct.pack("<f", 0.25)))),
        (0.25, tensor(1, b"\x2d" + struct.pack("<f", 0.25))),
        (0.1, tensor(2, sized(6, struct.pack("<d", 0.1)))),
        (300, tensor(3, sized(7, varint(300)))),
        (-3, tensor(9, sized(10, varint(-3)))),
        (300, tensor(9, b"\x50" + varint(300))),
    ],
)
@pytest.mark.parametrize("steps", [1, 3])
def test_a_number_is_read_however_it_is_written(number: float, content: bytes, steps: int) -> None:
    data = b"".join(event(START, step, value("x", content)) for step in range(1, steps + 1))
    assert read("run", data).records.column("metric:x").tolist() == [number] * steps


def test_numbers_of_other_plugins_and_arrays_are_no_scalars() -> None:
    four = sized(4, struct.pack("<ff", 1, 2))
    data = (
        event(START, 1, value("array", tensor(1, four)))
        + event(START, 1, value("_hparams_/x", plugin("hparams", b"abc"), simple(0)))
        + event(START, 1, value("text", plugin("text"), tensor(7, sized(8, b"hello"))))
        + event(START, 1, value("fine", plugin("scalars", display_name="Fine"), simple(3)))
    )
    assert logged(read("run", data)) == [(1, "fine", 3)]


def test_records_that_differ_only_in_where_a_number_ends_are_told_apart() -> None:
    summary = sized(5, value("loss", simple(1)))
    long = record(b"\x09" + struct.pack("<d", START) + b"\x10\x81\x90\x05" + summary)
    twice = record(b"\x09" + struct.pack("<d", START) + b"\x10\x01\x10\x05" + summary)
    steps = [step for step, _, _ in logged(read("run", long + twice))]
    assert steps == [0x01 | 0x10 << 7 | 0x05 << 14, 5]  # the last of a field counts


def test_pictures_histograms_and_graphs_are_passed_over() -> None:
    picture = sized(4, b"\x89PNG" * 1000)
    data = (
        record(b"\x09" + struct.pack("<d", START) + sized(4, b"graph" * 500))
        + event(START, 1, value("image", picture), value("loss", simple(0.5)))
        + event(START, 2, value("histogram", sized(5, b"\1" * 90)))
        + event(START + 1, 3, value("loss", simple(0.25)), value("image", picture))
    )
    reading = read("run", data)
    assert logged(reading) == [(1, "loss", 0.5), (3, "loss", 0.25)]
    assert (reading.lines, reading.unread) == (4, 0)


def test_a_file_without_scalars_says_so() -> None:
    data = version(START) + record(b"\x09" + struct.pack("<d", START) + sized(4, b"graph" * 50))
    reading = read("run", data)
    assert len(reading.records) == 0
    assert "no scalars" in reading.notes[0]


def test_an_empty_file_is_an_event_file_without_scalars() -> None:
    assert is_event_file("events.out.tfevents.1.host", b"")
    assert "no scalars" in read("run", b"").notes[0]


def test_several_values_of_one_event_are_one_row() -> None:
    data = b"".join(
        event(START + step, step, value("a", simple(step)), value("bb", simple(-step)))
        for step in (1, 2)
    )
    assert Counter(logged(read("run", data))) == Counter(
        [(1, "a", 1), (2, "a", 2), (1, "bb", -1), (2, "bb", -2)]
    )


def test_tags_of_one_length_are_told_apart() -> None:
    data = b"".join(together(START + s, s, {"aaa": 1, "aab": 2, "zaa": 3}) for s in (1, 2, 3))
    records = read("run", data).records
    assert [records.column(f"metric:{tag}").tolist() for tag in ("aaa", "aab", "zaa")] == [
        [1, 1, 1],
        [2, 2, 2],
        [3, 3, 3],
    ]


@pytest.mark.parametrize(
    ("tag", "role"),
    [
        ("epoch", "epoch"),
        ("train/epoch", "epoch"),
        ("train/epoch_time", "epoch_s"),
        ("epoch_duration", "epoch_s"),
        ("perf/step_time", "step_s"),
        ("iter_time", "step_s"),
        ("iteration-time", "step_s"),
        ("trainStepTime", "step_s"),
        ("data_time", "data_loading_s"),
        ("timer/forward_time", "forward_s"),
        ("throughput", "samples_per_s"),
        ("samples_per_second", "samples_per_s"),
        ("Perf/Images/sec", "samples_per_s"),
        ("time/fps", "samples_per_s_mean"),
        ("tokens/s", "tokens_per_s"),
        ("global_step/sec", "steps_per_s"),
        ("time/time_elapsed", "elapsed_s"),
        ("train/train_samples_per_second", "samples_per_s_mean"),
        ("val/step_time", "metric:val/step_time"),
        ("eval/samples_per_second", "metric:eval/samples_per_second"),
        ("train/loss", "metric:train/loss"),
        ("best_epoch", "metric:best_epoch"),
    ],
)
def test_usual_names_of_times_and_rates_have_roles(tag: str, role: str) -> None:
    assert role_of_tag(tag) == role


def test_milliseconds_in_a_tag_become_seconds() -> None:
    data = together(START, 1, {"Step Time (ms)": 250, "grad_ms": 250})
    records = read("run", data).records
    assert records.column("step_s").tolist() == [0.25]
    assert records.column("metric:grad_ms").tolist() == [250]


def test_the_first_tag_of_a_role_has_it_and_the_next_keeps_its_name() -> None:
    data = together(START, 1, {"z/step_time": 1, "a/step_time": 2})
    records = read("run", data).records
    assert records.column("step_s").tolist() == [1]
    assert records.column("metric:a/step_time").tolist() == [2]


def test_roles_can_be_given_by_the_caller() -> None:
    records = read("run", scalar(START, 1, "zeit", 0.5), lambda tag: "step_s").records
    assert records.column("step_s").tolist() == [0.5]


def test_tags_that_never_meet_are_bounded_and_the_rest_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tensorboard_rows, "_BYTES_AT_LEAST", 0)
    data = b"".join(scalar(START + i, i, f"t\x1b{i % 30}", i) for i in range(1, 301))
    data += b"".join(scalar(START + i, i, "step_time", i) for i in range(1, 301))
    reading = read("run", data)
    assert "step_s" in reading.records
    assert len(reading.records.columns) < 20
    assert any("tags are left out" in note and "\x1b" not in note for note in reading.notes)


def test_too_many_tags_are_bounded_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard_events, "_MAX_TAGS", 3)
    data = b"".join(scalar(START + i, i, f"tag{i}", i) for i in range(1, 9))
    reading = read("run", data)
    assert [tag for _, tag, _ in logged(reading)] == ["tag1", "tag2", "tag3"]
    assert "first 3 tags" in reading.notes[0]


def test_a_map_of_the_file_is_read_and_can_be_closed(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(small_file())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reading = read(str(path), data)
    assert len(logged(reading)) == 12


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("events.out.tfevents.1.host", small_file()[:64], True),
        ("renamed.bin", small_file()[:64], True),
        ("events.out.tfevents.1.host", b"\xff\x00" * 50, True),
        ("events.out.tfevents.1.host", b"version https://git-lfs.github.com/spec/v1\n" * 3, False),
        ("train.log", b"Epoch 1 loss 0.5\n" * 9, False),
        ("train.log", b"", False),
    ],
)
def test_event_files_are_known_by_their_first_record(
    name: str, head: bytes, expected: bool
) -> None:
    assert is_event_file(name, head) is expected
