"""No line can make reading take more than linear time, and none can break it.

The limits in seconds are far above what the work takes: they only tell a hang.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers import formats
from perfdoctor.readers.assembly import assemble
from perfdoctor.readers.fields import analyse
from perfdoctor.readers.files import Head
from perfdoctor.readers.forms import FORMS
from perfdoctor.readers.headers import header_above
from perfdoctor.readers.labels import label_of
from perfdoctor.readers.lexer import Dialect, tokens
from perfdoctor.readers.lines import LONGEST_LINE, chunks
from perfdoctor.readers.records import Reading
from perfdoctor.readers.settings_in_logs import printed_settings
from perfdoctor.readers.structured import read_csv, read_json_lines
from perfdoctor.readers.templates import parse
from perfdoctor.readers.text import read_text
from perfdoctor.readers.text_kinds import dialect_of
from perfdoctor.readers.units import unit_at

Within = Callable[[float], AbstractContextManager[None]]

REPEATED = [
    "1", "0", "12 ", "1.", ".", "1,", "1,234,", "1:", "1:22:", "1/", "1 / ", "1-", "-", "+1", "1e",
    "1e5",
    "_1", "a_", " ", "\t", " 1", "[", "]", "(", "[(", "{", '{"a":', "'", '"', "\\", "|", "| ", "1|",
    "a", "A", "aA", "a1", "a.", 'a.py"', "a=1 ", "a: 1, ", "=", ":", ",", "<", "1%", "100%|", "[>",
    "#",
    "1 m ", "1h2", "1 day, ", "and ", "Jan 1 ", "Mon, ", "2024-01-01 ", "2024-01-01T", "01/02/",
    "1/1 [00:00<00:00, ", "[1/1] eta: ", "time: ", "time (ms) | ", "eta: ", "per ", "samples/",
    "/s",
    "s/it ", "kimg 1", "Epoch: [", "Epoch 1 step 1 ", "epoch1", "step 1 loss ",
    "iter: 1 total_loss: ",
    "iteration ", "train 000 1", "wps=1, ", "'loss': ", "Ep. 1 : Up. 1", "Cost Time: 1", ":::MLL ",
    "1MiB / ", "Saved ", "nan ", "0x", "v1.", "(a:1", "轮", "第1轮", "年1月",
    "耗时", "样本/秒 ", "é",
    "\x1b[", "\x1b]0;", "\x00a", "1 s for 2 steps ", "(avg 1", "1 (2) ", "1.5k tok/s ",
    "1.234,5 ", "collection=a_", "#1 DONE ", "Fetched 1", "step:1 - timing_s/step:1 - ",
    "0.1s, 2/s (", "1:22 PM ", "--a 1 ", "initializing val ", "start_step=1 ", "epochs: 1",
]  # fmt: skip


def filled(part: str, size: int = LONGEST_LINE) -> str:
    return (part * (size // len(part) + 1))[:size]


def hostile_lines(size: int = LONGEST_LINE) -> Iterable[tuple[str, str]]:
    """What is repeated, and a line of it, with something readable before and behind it."""
    for part in REPEATED:
        yield part, f"step 1 time {filled(part, size - 40)} 1.5 x"


def check(
    within: Within, seconds: float, work: Callable[[str], object], size: int = LONGEST_LINE
) -> None:
    """`work` ends within `seconds` for every hostile line."""
    for part, line in hostile_lines(size):
        try:
            with within(seconds):
                work(line)
        except pytest.fail.Exception:
            pytest.fail(f"hangs on a line of {part!r}")


@pytest.mark.parametrize("dialect", [Dialect(), Dialect(decimal_comma=True, day_first=True)])
def test_tokens_are_found_in_linear_time(within: Within, dialect: Dialect) -> None:
    size = 8000 if dialect == Dialect() else 2000
    check(within, 2, lambda line: list(tokens(line, dialect)), size)


def test_a_line_is_analysed_in_linear_time(within: Within) -> None:
    check(within, 3, lambda line: analyse(line, Dialect()), 8000)


@pytest.mark.parametrize(
    "part", ["1", "0", ".", "1.", " ", "a", "-", "(", "[", "|", '"', "=", "轮"]
)
def test_a_line_of_one_sign_is_analysed_in_linear_time(within: Within, part: str) -> None:
    # far longer than what is read of a line: anything quadratic would take minutes
    with within(3):
        analyse(f"step 1 time {filled(part, 60_000)} 1.5 x", Dialect())


def test_units_and_names_are_read_in_linear_time(within: Within) -> None:
    check(within, 1, lambda line: (unit_at(line, 12), label_of(line), unit_at(line, 0)), 60_000)


def test_escapes_are_taken_out_in_linear_time(within: Within) -> None:
    def work(line: str) -> None:
        for _ in chunks([line.encode(), b"\x1b[0m\n"]):
            pass

    check(within, 2, work, 500_000)
    for part in (
        b"\x1b[",
        b"\x1b[0;",
        b"\x1b[ ",
        b"\x1b]",
        b"\x1b]8;;",
        b"\x1b",
        b"\x1b\\",
        b"\x1b[0 ",
    ):
        with within(2):
            assert sum(len(chunk) for chunk in chunks([part * 200_000, b"\nend"])) >= 1


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_signatures_are_looked_for_in_linear_time(within: Within, form: object) -> None:
    # far longer than the 6 000 characters that are looked at: anything quadratic would take minutes
    signature = form.pattern  # type: ignore[attr-defined]
    check(within, 1.5, signature.search, 30_000)


def test_a_head_of_hostile_lines_is_recognised_in_linear_time(within: Within) -> None:
    def work(line: str) -> None:
        with suppress(PerfdoctorError):  # told to be binary
            formats.detect(Head("x.log", line.encode(), line))

    check(within, 3, work, 8000)


def test_decimal_commas_and_dates_are_looked_for_in_linear_time(within: Within) -> None:
    check(within, 3, lambda line: dialect_of(Head("x", b"", line)), 60_000)


def test_printed_settings_are_looked_for_in_linear_time(within: Within) -> None:
    check(within, 3, printed_settings, 20_000)


def test_names_above_a_table_are_looked_for_in_linear_time(within: Within) -> None:
    def work(line: str) -> None:
        [chunk] = chunks([f"{line}\n{line}\n1 2 3 4\n".encode()])
        header_above(chunk, len(chunk) - 1, "1 2 3 4")

    check(within, 2, work)


def test_tables_are_read_in_linear_time(within: Within) -> None:
    def work(line: str) -> None:
        with suppress(PerfdoctorError):
            read_csv("x", [f"{line}\n1,2\n{line}\n".encode()], {})

    check(within, 3, work)


def test_json_is_read_in_linear_time(within: Within) -> None:
    def work(line: str) -> None:
        read_json_lines("x", [f'{{"a": "{line}"}}\n{line}\n'.encode()], {})

    check(within, 3, work)


def test_json_nested_without_end_is_an_unread_line() -> None:
    lines = b'{"step": 1, "dt_ms": 3}\n' * 10 + b'{"a":' * 3000 + b"\n"
    table = read_json_lines("x", [lines], {})
    assert (len(table.lines), table.unread) == (10, 1)


@pytest.mark.parametrize(
    "template",
    ["{a:d} .* {b:f}", "{t:t} .* x {b:f} y", "{a:w} end", "a {x:d} {y:d} {z:f}!", "{x:f}{y:f}",
    "{a:t}{b:t}!"]
)  # fmt: skip
def test_templates_are_matched_in_linear_time(within: Within, template: str) -> None:
    taken = parse("pattern", (template,))
    check(within, 3, lambda line: taken.template(line, Dialect()), 4000)


def read_whole(text: bytes) -> None:
    found = read_text("x.log", [text], Dialect(), formats.GENERIC.form.hints)
    reading = Reading(path="x.log", format="generic", records=found.records, lines=found.lines)
    assemble(reading, "x", None)


@pytest.mark.parametrize("part", REPEATED)
def test_a_log_of_hostile_lines_is_read_to_its_end(within: Within, part: str) -> None:
    text = "".join(f"step {i} time {filled(part, 50 + 13 * i)}\n" for i in range(40))
    with within(10):
        read_whole(text.encode())


_BYTES = st.lists(
    st.one_of(st.binary(max_size=20), st.sampled_from([part.encode() for part in REPEATED]),
    st.just(b"\n"),
              st.sampled_from([b"step 1 ", b"epoch 2 ", b"time 0.5 s", b"\r", b"3/10 ", b"val ",
              b"[rank1] ", b"12:00:00 "])),
    max_size=60,
).map(b"".join)  # fmt: skip


@given(_BYTES)
@settings(max_examples=250, deadline=None)
def test_any_bytes_are_read_to_a_run(data: bytes) -> None:
    read_whole(data)


_ROWS = st.lists(
    st.tuples(
        st.sampled_from(["step", "epoch", "iter", "Epoch: [1]"]), st.integers(0, 50),
        st.sampled_from(["time", "step_time", "elapsed", "took", "data", "eta"]), st.floats(0, 1e4),
        st.sampled_from([" s", " ms", "", " (0.5)", " it/s", " val_loss: 2"]),
        st.sampled_from(["", "12:00:00 ", "2024-05-01 23:59:59 ", "val ", "[rank3] ", "Test: "]),
    ).map(lambda row: f"{row[5]}{row[0]} {row[1]} {row[2]}: {row[3]:.3f}{row[4]}\n"),
    max_size=30,
).map("".join)  # fmt: skip


@given(_ROWS)
@settings(max_examples=250, deadline=None)
def test_any_order_of_records_makes_a_run(text: str) -> None:
    read_whole(text.encode())


@given(_BYTES)
@settings(max_examples=60, deadline=None)
def test_any_head_has_a_format_or_is_binary(data: bytes) -> None:
    head = Head("x.log", data, data.decode("utf-8", "replace"))
    try:
        formats.detect(head)
    except PerfdoctorError as error:
        assert error.slug == "log-binary"
