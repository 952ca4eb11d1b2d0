"""The recorder: every nanosecond to one label, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.step_rows import MOST_LABELS, SAMPLES, WIDTH, StepRows


class Clock:
    """Nanoseconds that only pass when told to."""

    def __init__(self) -> None:
        self.now = 1_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _spend(clock: Clock, recorder: r.Recorder, label: int, nanoseconds: int) -> None:
    recorder.enter(label)
    clock.now += nanoseconds
    recorder.leave()


def test_time_belongs_to_the_innermost_label(clock: Clock) -> None:
    recorder = r.Recorder(clock)
    recorder.switch(r.OTHER)
    recorder.enter(r.OPTIMIZER)
    clock.now += 5
    _spend(clock, recorder, r.BACKWARD, 7)
    clock.now += 1
    recorder.leave()
    clock.now += 2
    assert recorder.spent[r.OPTIMIZER] == 6
    assert recorder.spent[r.BACKWARD] == 7
    assert recorder.spent[r.OTHER] == 2


def test_what_an_exception_left_open_is_closed(clock: Clock) -> None:
    recorder = r.Recorder(clock)
    recorder.enter(r.FORWARD)
    depth = recorder.depth
    recorder.enter(r.LOSS)
    recorder.enter(r.BACKWARD)
    clock.now += 3
    recorder.unwind(depth)
    assert recorder.current == r.FORWARD
    assert recorder.spent[r.BACKWARD] == 3


def test_rebasing_changes_what_lies_outside_of_everything(clock: Clock) -> None:
    recorder = r.Recorder(clock)
    recorder.enter(r.FORWARD)
    recorder.rebase(r.VALIDATION)
    recorder.leave()
    assert recorder.current == recorder.base == r.VALIDATION


def test_labels_past_the_limit_are_other(clock: Clock) -> None:
    recorder = r.Recorder(clock)
    labels = [recorder.label(f"mine {i}") for i in range(2 * MOST_LABELS)]
    assert len(recorder.names) == MOST_LABELS
    assert labels[-1] == r.OTHER
    assert recorder.label("mine 0") == labels[0]


Move = Callable[[r.Recorder], None]
_MOVES: tuple[Move, ...] = (
    lambda recorder: recorder.enter(r.FORWARD),
    lambda recorder: recorder.enter(r.BACKWARD),
    lambda recorder: recorder.leave(),
    lambda recorder: recorder.switch(r.VALIDATION),
    lambda recorder: recorder.rebase(r.OTHER),
    lambda recorder: recorder.end_step(),
    lambda recorder: recorder.relabel(r.FORWARD, r.VALIDATION),
)


@given(st.lists(st.tuples(st.integers(0, len(_MOVES) - 1), st.integers(0, 1000)), max_size=60))
def test_nothing_of_the_wall_clock_is_lost_or_counted_twice(moves: list[tuple[int, int]]) -> None:
    clock = Clock()
    recorder = r.Recorder(clock)
    for move, nanoseconds in moves:
        clock.now += nanoseconds
        _MOVES[move](recorder)
    recorder.end()
    assert sum(recorder.totals[:MOST_LABELS]) == clock.now - recorder.began


class Device:
    """A queue that lags: work is queued at once and takes its time when the device gets to it."""

    def __init__(self) -> None:
        self.free_at = 0.0
        self.host = 0.0

    def queue(self, seconds: float) -> None:
        self.free_at = max(self.free_at, self.host) + seconds

    def now(self) -> float:
        return max(self.free_at, self.host)

    def seconds(self, start: float, end: float) -> float | None:
        return end - start if end <= self.host else None

    host_seconds = seconds


def test_on_a_device_its_queue_counts_and_is_never_waited_for(clock: Clock) -> None:
    device, recorder = Device(), r.Recorder(clock)
    recorder.switch(r.OTHER)
    recorder.end_step()
    recorder.use_device(device)
    for _ in range(2):
        recorder.enter(r.FORWARD)
        device.queue(2.0)
        recorder.leave()
        recorder.enter(r.AFTER_FORWARD)
        device.queue(0.5)
        recorder.leave()
        recorder.relabel(r.AFTER_FORWARD, r.LOSS)
        recorder.samples = 4
        recorder.end_step()
    assert recorder.steps.steps == 1  # the device has not got there yet
    device.host = 3.0
    recorder.end()
    assert recorder.steps.steps == 2
    row = recorder.steps.rows().single[1]
    assert row[r.FORWARD] == 2e9
    assert row[r.LOSS] == 5e8
    assert row[SAMPLES] == 4


def _row(step: int) -> list[int]:
    row = [0] * WIDTH
    row[r.FORWARD], row[SAMPLES] = step, 1
    return row


@given(st.integers(0, 500))
def test_thinned_rows_keep_every_step_in_their_sums(steps: int) -> None:
    rows = StepRows(most=16)
    for step in range(1, steps + 1):
        rows.add(_row(step))
    kept = rows.rows()
    whole = kept.stride * len(kept.sums)
    assert rows.steps == steps
    assert steps - whole < kept.stride
    assert kept.sums[:, SAMPLES].sum() == whole
    assert kept.sums[:, r.FORWARD].sum() == whole * (whole + 1) // 2
    np.testing.assert_array_equal(
        kept.single[:, r.FORWARD], kept.stride * np.arange(1, len(kept.sums) + 1)
    )


def test_memory_does_not_grow_with_the_number_of_steps() -> None:
    rows = StepRows(most=64)
    for step in range(10_000):
        rows.add(_row(step))
    assert len(rows.rows().sums) <= 64


def test_rows_can_grow_while_a_copy_is_looked_at() -> None:
    rows = StepRows()
    rows.add(_row(1))
    kept = rows.rows()
    rows.add(_row(2))  # raises BufferError if `kept` looked into what grows
    assert len(kept.sums) == 1
