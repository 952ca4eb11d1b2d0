"""Traces cut off while they were written, with bad events in them, and larger than a piece."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_files import kernel, note, op, steps, trace

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers import trace_json
from perfdoctor.readers.trace import read
from perfdoctor.readers.trace_json import document

ODD_NAMES = ('a"}, {"b', "}],[{", "\\", "é\u2028", "", "x}\n,\n{y")
SIZES = st.sampled_from((1, 300, 5_000, 1 << 22))


def names(text: bytes) -> list[Any]:
    found = document(text)
    assert found is not None
    return [event.name for piece in found.pieces() for event in piece]


def odd_trace(indent: int | None = None) -> bytes:
    nested = {"groups": [{"ranks": [0, 1]}, {"ranks": [2]}, {}], "deep": {"a": {"b": {}}}}
    events = [{**op(name, i, i + 1), "args": nested} for i, name in enumerate(ODD_NAMES)]
    return trace(*events, indent=indent, displayTimeUnit="ns")


@pytest.mark.parametrize("indent", [None, 2])
@settings(deadline=None)
@given(size=SIZES)
def test_events_are_the_same_whatever_the_size_of_a_piece(indent: int | None, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_json, "_PIECE_BYTES", size)
        patch.setattr(trace_json, "_SMALLEST_BYTES", size // 4)
        assert names(odd_trace(indent)) == list(ODD_NAMES)


@pytest.mark.parametrize("indent", [None, 2])
@settings(deadline=None)
@given(data=st.data())
def test_a_trace_cut_anywhere_gives_the_events_before_the_cut(
    indent: int | None, data: st.DataObject
) -> None:
    whole = odd_trace(indent)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    found = document(cut)
    got = [] if found is None else [event.name for piece in found.pieces() for event in piece]
    assert got == list(ODD_NAMES)[: len(got)]
    ends = [whole.index(json.dumps(name).encode()) for name in ODD_NAMES]
    assert len(got) >= sum(end < len(cut) for end in ends) - 1
    if found is not None and len(got) < len(ODD_NAMES):
        assert found.cut


def test_a_cut_is_said_with_how_much_was_read() -> None:
    whole = trace(*steps(5), indent=1)
    reading = read("t.json", whole[: whole.index(b"ProfilerStep#3") + 30])
    assert reading.records.column("step").tolist() == [0, 1, 2]
    assert reading.notes[0] == "The trace is cut off; the 3 events before the cut are read."


def test_a_trace_cut_before_its_first_event_ends_is_refused_in_one_line() -> None:
    whole = trace(*steps(1))
    with pytest.raises(PerfdoctorError, match="cut off") as caught:
        read("t.json", whole[: whole.index(b"dur")])
    assert caught.value.slug == "trace-unreadable"


def test_what_stands_in_front_of_the_events_survives_a_cut() -> None:
    whole = trace(*steps(3), distributedInfo={"rank": 2})
    reading = read("t.json", whole[:-150])
    assert reading.records.column("rank").tolist() == [2, 2]


@pytest.mark.parametrize(
    "bad",
    [
        b'"args": {"memory bandwidth (GB/s)": inf}',
        b'"args": {"x": NaN}',
        b'"name": "C:\\path"',
        b'"name": "\xff\xfe"',
        b'"name": ["a"]',
        b'"ts": "soon"',
    ],
)
@pytest.mark.parametrize("place", [0, 7, 39])
def test_an_event_that_is_not_json_costs_no_other(bad: bytes, place: int) -> None:
    events = [json.dumps(step).encode() for step in steps(40)]
    events[place] = b'{"ph": "X", "dur": 5, ' + bad + b"}"
    data = b'{"schemaVersion": 1, "traceEvents": [\n' + b",\n".join(events) + b'], "x": {"y": 1}}'
    reading = read("t.json", data)
    assert reading.records.column("step").tolist() == [n for n in range(40) if n != place]
    assert reading.unread == 1
    assert reading.notes[0] == "1 event is left out: not valid JSON."


def test_a_trace_of_bad_events_alone_is_refused() -> None:
    with pytest.raises(PerfdoctorError, match="cannot be read as a trace"):
        read("t.json", b'{"traceEvents": [{"ts": inf}]}')


@pytest.mark.parametrize("end", ["]", "", ",", ",\n]"])
def test_a_list_of_events_needs_no_end(end: str) -> None:
    data = json.dumps(steps(3)).removesuffix("]") + end
    reading = read("t.json", data.encode())
    assert reading.records.column("step").tolist() == [0, 1, 2]
    assert any("cut off" in note for note in reading.notes) is ("]" not in end)


def test_times_that_are_no_times_are_left_out() -> None:
    data = trace(*steps(2), op("a", 1, 2)).replace(b'"ts": 1,', b'"ts": 1e400,')
    far = {**op("b", 0, 1), "ts": 1e300}
    backwards = {**kernel("c", 5, 5), "dur": -1e9}
    assert read("t", data).facts["wall_s"] == pytest.approx(2e-4)
    facts = read("t", trace(*steps(2), far, backwards)).facts
    assert facts["wall_s"] == pytest.approx(2e-4)
    assert facts["kernel_s"] == 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
odd_events = st.fixed_dictionaries(
    {},
    optional={
        "ph": st.sampled_from("XiMsf") | json_values,
        "name": st.sampled_from(("ProfilerStep#1", "ProfilerStep#2", "[memory]")) | json_values,
        "cat": st.sampled_from(("kernel", "user_annotation", "gpu_memcpy", "Trace")) | json_values,
        "ts": st.floats(allow_nan=False, allow_infinity=False) | json_values,
        "dur": st.floats(0, 1e6) | json_values,
        "pid": json_values,
        "tid": json_values,
        "args": st.dictionaries(
            st.sampled_from(("correlation", "Total Reserved", "Device Type")),
            json_values,
            max_size=3,
        )
        | json_values,
    },
)


@settings(deadline=None)
@given(st.lists(odd_events, max_size=6), st.dictionaries(
    st.sampled_from(("distributedInfo", "deviceProperties", "baseTimeNanoseconds", "with_stack")),
    json_values, max_size=4))  # fmt: skip
def test_no_event_however_odd_stops_the_reader(events: list[Any], head: dict[str, Any]) -> None:
    for data in (trace(*events, **head), json.dumps(events).encode()):
        try:
            reading = read("t.json", data)
        except PerfdoctorError as error:
            assert error.slug == "trace-unreadable"
        else:
            assert reading.lines + reading.unread >= len(events)


@settings(deadline=None)
@given(st.binary(max_size=80), st.sampled_from((b"", b'{"traceEvents": [', b"[", b'[{"ph": "X"},')))
def test_no_bytes_stop_the_reader(data: bytes, begin: bytes) -> None:
    try:
        read("t.json", begin + data)
    except PerfdoctorError as error:
        assert error.slug == "trace-unreadable"


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(PerfdoctorError):
        read("t.json", b'{"traceEvents": [{"args": ' + b"[" * 200_000)


def test_a_large_event_between_small_ones_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_json, "_PIECE_BYTES", 2_000)
    monkeypatch.setattr(trace_json, "_SMALLEST_BYTES", 500)
    large = {
        **note("large", 1, 2),
        "args": {"list": [{"n": n} for n in range(20)], "s": "x" * 9_000},
    }
    assert names(trace(kernel("k", 0, 1), large, kernel("l", 2, 3))) == ["k", "large", "l"]
