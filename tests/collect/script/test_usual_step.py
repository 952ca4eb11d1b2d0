"""Time that was not looked into goes to the labels of usual steps, and none is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdoctor.collect.script.skimmed_steps import SkimmedSteps, Stretch
from perfdoctor.collect.script.step_rows import SAMPLES, WIDTH
from perfdoctor.collect.script.usual_step import UsualStep

OTHER, FORWARD, BACKWARD, SKIMMED, LOADER = 0, 2, 5, 14, 15


def _row(**labels: int) -> list[int]:
    row = [0] * WIDTH
    for name, spent in labels.items():
        row[globals()[name]] = spent
    return row


def _learned(*rows: list[int]) -> UsualStep:
    usual = UsualStep(SKIMMED, OTHER)
    for row in rows:
        usual.watched(row)
    usual.learn()
    return usual


def _rows(usual: UsualStep, *taken: int, waited: int = 0, samples: int = 0) -> list[list[int]]:
    each = np.ones(len(taken), dtype=np.int64)
    times = np.array(taken, dtype=np.int64)
    stretch = Stretch(each * waited, times, each * samples, 0, 0, 0, 0)
    return usual.rows(stretch, LOADER).tolist()  # type: ignore[no-any-return]


def test_steps_are_parted_as_those_that_were_watched() -> None:
    usual = _learned(*[_row(FORWARD=100, BACKWARD=300, LOADER=50)] * 10)
    (row,) = _rows(usual, 480, waited=7, samples=32)
    assert row == _row(FORWARD=120, BACKWARD=360, LOADER=7, SAMPLES=32)


def test_what_one_step_differs_from_the_others_goes_to_the_largest_part() -> None:
    usual = _learned(*[_row(FORWARD=100, BACKWARD=300)] * 10)
    first, second, short = _rows(usual, 500, 396, 4)
    assert first == _row(FORWARD=75, BACKWARD=425)
    assert second == _row(FORWARD=75, BACKWARD=321)
    assert short == _row(FORWARD=1, BACKWARD=3)


def test_what_is_far_longer_than_usual_is_of_no_stage() -> None:
    usual = _learned(*[_row(FORWARD=100, BACKWARD=300)] * 10)
    (row,) = _rows(usual, 5_000)
    assert row == _row(FORWARD=100, BACKWARD=300, OTHER=4_600)


def test_steps_that_are_all_slow_are_slow_in_all_their_parts() -> None:
    usual = _learned(*[_row(FORWARD=100, BACKWARD=300)] * 10)
    found = _rows(usual, 400, 1200, 2000, 800, 400, 800, 400, 800, 800)
    assert found[1:4] == [_row(FORWARD=n, BACKWARD=3 * n) for n in (300, 500, 200)]
    alone = _row(FORWARD=100, BACKWARD=300, OTHER=400)
    assert [found[5], *found[7:]] == [alone] * 3


def test_unusual_steps_among_the_watched_ones_tell_nothing() -> None:
    validated = _row(FORWARD=100, BACKWARD=300, OTHER=9_000)
    usual = _learned(*[_row(FORWARD=100, BACKWARD=300)] * 10, validated)
    (row,) = _rows(usual, 400)
    assert row == _row(FORWARD=100, BACKWARD=300)


def test_a_step_that_was_watched_in_part_gets_what_it_lacks() -> None:
    usual = _learned(*[_row(FORWARD=100, BACKWARD=300, OTHER=50)] * 10)
    row = _row(FORWARD=100, BACKWARD=300, SKIMMED=55)
    usual.part(row)
    assert row == _row(FORWARD=100, BACKWARD=300, OTHER=55)
    row = _row(FORWARD=110, BACKWARD=310, OTHER=60, SKIMMED=5)
    usual.part(row)
    assert row == _row(FORWARD=110, BACKWARD=310, OTHER=65)


def test_steps_with_what_is_never_skimmed_tell_nothing() -> None:
    usual = UsualStep(SKIMMED, OTHER, [FORWARD])
    for _ in range(10):
        usual.watched(_row(FORWARD=1, BACKWARD=300))
    assert not usual.learn()


def test_few_steps_tell_nothing() -> None:
    usual = UsualStep(SKIMMED, OTHER)
    for _ in range(3):
        usual.watched(_row(FORWARD=100))
    assert usual.step_ns() is None
    assert not usual.learn()
    row = _row(SKIMMED=400)
    usual.part(row)
    assert row == _row(OTHER=400)


def test_the_length_of_a_step_has_its_loading_in_it() -> None:
    assert _learned(*[_row(FORWARD=100, LOADER=900)] * 10).step_ns() == 1000


def test_a_burst_is_forgiven_and_a_habit_is_not() -> None:
    usual = _learned(*[_row(FORWARD=100)] * 10)
    _rows(usual, 900_000_000, *[100] * 100)
    assert usual.is_regular()
    _rows(usual, 100_001_000)
    assert not usual.is_regular()


def test_the_step_after_a_stretch_tells_nothing() -> None:
    usual = _learned(*[_row(FORWARD=100)] * 10)
    usual.leave_out_next()
    for _ in range(30):
        usual.watched(_row(BACKWARD=100))
    usual.watched(_row(BACKWARD=100))
    usual.learn()
    assert _rows(usual, 100) == [_row(FORWARD=16, BACKWARD=84)]


@given(
    st.lists(st.lists(st.integers(0, 10**9), min_size=14, max_size=14), max_size=20),
    st.lists(st.integers(0, 10**10), max_size=20),
)
def test_no_time_is_lost(rows: list[list[int]], spent: list[int]) -> None:
    usual = _learned(*[[*row, *[0] * (WIDTH - 14)] for row in rows])
    row = _row(SKIMMED=sum(spent), LOADER=5)
    usual.part(row)
    assert sum(row) == sum(spent) + 5
    assert row[SKIMMED] == 0
    assert min(row) >= 0
    if usual.learn():
        for taken, found in zip(spent, _rows(usual, *spent, waited=3, samples=4), strict=True):
            assert sum(found) == taken + 3 + 4
            assert (found[LOADER], found[SAMPLES]) == (3, 4)
            assert min(found) >= 0


def test_notes_become_steps() -> None:
    notes = SkimmedSteps()
    notes.begin((1, 2, 3), LOADER, since=1000)
    assert notes.on == [1, 2, 3]
    notes.batches += [1200, 100, 32, 1550, 50, 32, 1800, 60, 16, 2540, 40, -1]
    notes.ends += [1500, 2500]
    found = notes.end()
    assert found.waited.tolist() == [100, 110]
    assert found.taken.tolist() == [400, 890]
    assert found.samples.tolist() == [32, 48]
    assert (found.until, found.next_waited, found.next_samples) == (2500, 40, 0)
    assert found.batches == 3
    assert not notes.on


@pytest.mark.parametrize("batches", [[], [1007, 7, 8]])
def test_a_stretch_may_end_before_its_first_step(batches: list[int]) -> None:
    notes = SkimmedSteps()
    notes.begin((1, 2, 3), LOADER, since=1000)
    notes.batches += batches
    found = notes.end()
    assert found.taken.size == 0
    assert found.until == 1000
    assert (found.next_waited, found.next_samples) == ((7, 8) if batches else (0, 0))
