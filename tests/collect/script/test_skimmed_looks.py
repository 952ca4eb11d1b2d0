"""Looks of skimmed steps count for the labels that watched ones were seen under."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.skimmed_looks import told_apart
from perfdoctor.collect.script.stacks import Frame, Sampled

#: Function → first line.
_FUNCTIONS = {
    "main": 1,
    "train": 10,
    "forward": 50,
    "linear": 5,
    "mse": 9,
    "plot": 70,
    "relu": 20,
    "fetch": 30,
}


def _look(label: int, calls: Sequence[tuple[str, int]], count: int = 1) -> Sampled:
    """Calls (function, line), outermost first."""
    stack = [Frame(f"{name}.py", line, name, _FUNCTIONS[name]) for name, line in reversed(calls)]
    return Sampled(label, tuple(stack), count * 0.05, count)


TRAIN = (("main", 2), ("train", 12))
AFTER = (("main", 2), ("train", 15))
WATCHED = [
    _look(r.FORWARD, [*TRAIN, ("forward", 51), ("linear", 6)], 8),
    _look(r.AFTER_FORWARD, [*TRAIN, ("mse", 9)], 2),
    _look(r.BACKWARD, [("main", 2), ("train", 13)], 20),
    _look(r.VALIDATION, [("main", 3), ("forward", 51), ("linear", 6)], 5),
]


def _labels(*calls: tuple[str, int], count: int = 10) -> dict[int, float]:
    found = told_apart([*WATCHED, _look(r.SKIMMED, calls, count)])
    assert found[: len(WATCHED)] == WATCHED
    assert sum(one.seconds for one in found[len(WATCHED) :]) == pytest.approx(count * 0.05)
    return {one.label: one.seconds / (count * 0.05) for one in found[len(WATCHED) :]}


def test_where_a_watched_step_was_met() -> None:
    assert _labels(*TRAIN, ("forward", 51), ("linear", 6)) == {r.FORWARD: 1.0}
    assert _labels(*TRAIN, ("mse", 9)) == {r.AFTER_FORWARD: 1.0}
    assert _labels(("main", 2), ("train", 13)) == {r.BACKWARD: 1.0}


def test_a_line_that_does_several_things_is_divided() -> None:
    found = _labels(*TRAIN)
    assert found == pytest.approx({r.FORWARD: 0.8, r.AFTER_FORWARD: 0.2})


def test_an_unknown_line_of_a_function_of_one_label_is_of_that_one() -> None:
    assert _labels(*TRAIN, ("forward", 53)) == {r.FORWARD: 1.0}
    assert _labels(*TRAIN, ("forward", 53), ("relu", 21)) == {r.FORWARD: 1.0}


def test_an_unknown_line_of_the_loop_is_other() -> None:
    assert _labels(*AFTER) == {r.OTHER: 1.0}
    assert _labels(*AFTER, ("plot", 71)) == {r.OTHER: 1.0}


def test_an_unknown_call_of_a_known_line_is_divided_like_the_line() -> None:
    found = _labels(*TRAIN, ("relu", 21))
    assert found == pytest.approx({r.FORWARD: 0.8, r.AFTER_FORWARD: 0.2})


def test_validation_tells_nothing_of_training_steps() -> None:
    assert _labels(("main", 3), ("forward", 51)) == {r.OTHER: 1.0}


def test_the_loader_s_lines_are_the_loader_s() -> None:
    loader = r.SKIMMED + 1
    next_batch = (("main", 2), ("train", 11), ("fetch", 31))
    watched = _look(loader, next_batch, 3)
    found = told_apart([*WATCHED, watched, _look(r.SKIMMED, next_batch)])
    assert found[-1].label == loader


def test_without_any_watched_look_all_is_other() -> None:
    found = told_apart([_look(r.SKIMMED, TRAIN)])
    assert [one.label for one in found] == [r.OTHER]
    assert told_apart([]) == []
