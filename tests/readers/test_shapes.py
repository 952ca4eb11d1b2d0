"""Many lines at once are read as each would be alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor.readers import lines as lines_module
from perfdoctor.readers import shapes as shapes_module
from perfdoctor.readers.fields import Hints, Template, analyse
from perfdoctor.readers.lexer import Dialect
from perfdoctor.readers.lines import Chunk, chunks
from perfdoctor.readers.records import METRIC, Records
from perfdoctor.readers.shapes import ShapeReader
from perfdoctor.readers.text import read_text
from perfdoctor.readers.values import Runs


def records_of(text: str) -> Records:
    return read_text("x.log", [text.encode()], Dialect(), Hints()).records


def row(records: Records, i: int) -> dict[str, float]:
    """The values of one row that are there; metrics left out, as only the first names are kept."""
    return {
        role: float(values[i])
        for role, values in records.columns.items()
        if np.isfinite(values[i]) and not role.startswith(METRIC)
    }


_LINES = st.one_of(
    st.builds("step {} step_time {:.3f} s".format, st.integers(0, 10**6), st.floats(0, 100)),
    st.builds("Epoch: [{}][{}/1000] Time {:.2f} ({:.2f})".format, *[st.integers(0, 999)] * 2,
    *[st.floats(0, 1e4)] * 2),
    st.builds("{}/{} [00:{:02d}<01:00, {:.2f}it/s]".format, *[st.integers(1, 99999)] * 2,
    st.integers(0, 59), st.floats(0, 99)),
    st.builds("2024-05-{:02d} 12:00:{:02d} saved in {} ms".format, st.integers(1, 31),
    st.integers(0, 59), st.integers(0, 10**5)),
    st.just("nothing here"),
    st.just(""),
    st.builds("loss: {:e} throughput: {:,} tokens/s".format, st.floats(1e-9, 1e9),
    st.integers(0, 10**7)),
)  # fmt: skip


@given(st.lists(_LINES, max_size=150))
@settings(max_examples=60, deadline=None)
def test_lines_together_are_read_as_each_is_alone(lines: list[str]) -> None:
    together = records_of("\n".join(lines))
    alone = [(i + 1, records_of(line)) for i, line in enumerate(lines) if line]
    expected = [(i, row(records, 0)) for i, records in alone if len(records)]
    found = [(int(together.line[i]), row(together, i)) for i in range(len(together))]
    assert found == expected


@given(st.lists(_LINES, min_size=1, max_size=300), st.integers(1, 4000))
@settings(max_examples=30, deadline=None)
def test_lines_in_many_chunks_are_read_as_in_one(lines: list[str], size: int) -> None:
    whole = records_of("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "_CHUNK", size)
        blocks = [f"{line}\n".encode() for line in lines]
        cut_up = read_text("x.log", blocks, Dialect(), Hints()).records
    assert cut_up.line.tolist() == whole.line.tolist()
    assert [row(cut_up, i) for i in range(len(cut_up))] == [
        row(whole, i) for i in range(len(whole))
    ]


@pytest.mark.parametrize("digits", range(1, 19))
def test_whole_numbers_of_any_length_are_what_their_digits_say(digits: int) -> None:
    numbers = [0, 1, 10**digits // 7, 10**digits - 1]
    text = "".join(f"{number:0{digits}d}" for number in numbers).encode()
    cells = np.frombuffer(text, np.uint8).reshape(len(numbers), digits)
    assert Runs(cells, [(0, digits)]).whole(0).tolist() == [float(number) for number in numbers]


@pytest.mark.parametrize("count", [10, 63, 64, 65, 500])
def test_few_and_many_lines_of_a_shape_are_read_alike(count: int) -> None:
    records = records_of("".join(f"step {i:04d} step_time {i % 7:03d} ms\n" for i in range(count)))
    assert records.column("step").tolist() == list(range(count))
    assert np.allclose(records.column("step_s"), [i % 7 / 1000 for i in range(count)])


def test_many_shapes_of_one_length_keep_the_order_of_the_lines() -> None:
    words = [
        "alpha",
        "bravo",
        "delta",
        "gamma",
        "kappa",
        "omega",
        "sigma",
        "theta",
        "zetas",
        "lotus",
        "mango",
    ]
    lines = [f"step {i:04d} {words[i % 11]} took 0.25 s" for i in range(2000)]
    assert records_of("\n".join(lines)).column("step").tolist() == list(range(2000))


class Asked:
    """Counts how often a line is analysed."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, chunk: Chunk, i: int) -> Template:
        self.lines.append(chunk[i].decode())
        return analyse(self.lines[-1], Dialect())


def test_each_kind_of_line_is_analysed_once() -> None:
    asked = Asked()
    reader = ShapeReader(asked, lambda shape: False)
    text = "".join(f"step {i} step_time {0.25 + i / 7} s\n" for i in range(9000))
    for chunk in chunks([text.encode()]):
        reader.read(chunk)
    # a step of one to four digits, a time of one to four: decimals do not count
    assert len(asked.lines) <= 8


def test_shapes_are_forgotten_before_memory_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes_module, "_REMEMBERED", 10)
    letters = [chr(97 + i % 26) + chr(97 + i // 26) for i in range(600)]
    lines = [f"step {100 + i}, in_{name}_x, step_time 0.25 s\n" for i, name in enumerate(letters)]
    [chunk] = chunks(["".join(lines).encode()])
    asked = Asked()
    reader = ShapeReader(asked, lambda shape: False)
    for _ in range(2):
        block = reader.read(chunk)
        assert block.columns["step"].tolist() == list(range(100, 700))
        assert (block.columns["step_s"] == 0.25).all()
    assert len(asked.lines) == 1200


def test_metrics_of_single_steps_are_left_out_and_those_of_epochs_kept() -> None:
    records = records_of("step 1 loss 2.1 step_time 3 ms\nEpoch 1 done: val_loss: 1.9\n")
    assert [role for role in records.columns if role.startswith(METRIC)] == ["metric:val_loss"]


def test_no_more_names_of_metrics_are_kept_than_a_report_can_use() -> None:
    text = "".join(f"epoch 1 m{chr(97 + i % 26)}{chr(97 + i // 26)}: 0.5\n" for i in range(200))
    metrics = [role for role in records_of(text).columns if role.startswith(METRIC)]
    assert 10 < len(metrics) < 50


def test_a_column_of_one_value_takes_no_memory() -> None:
    records = records_of("".join(f"step {i} step_time 250 ms\n" for i in range(5000)))
    assert records.columns["step_s"].strides == (0,)
    assert records.columns["step"].strides == (8,)


def test_lines_that_look_like_records_and_give_nothing_are_handed_back() -> None:
    reader = ShapeReader(lambda chunk, i: Template(), lambda shape: b"took" in shape)
    [chunk] = chunks([b"step 1\nit took 3 s\nit took long\nfoo\n"])
    assert reader.read(chunk).unread == [1]
