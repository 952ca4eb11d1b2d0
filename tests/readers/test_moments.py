"""Clocks that are set back while the training goes on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from perfdoctor.record import Run

RunOf = Callable[..., Run]


def stamped(step: int, moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} INFO epoch 1 step {step} loss 1.5 step_time 1.000s\n"


def log(back_s: float, *, again: bool = False) -> str:
    """400 steps of a second; half-way the clock is set back, and the run may begin again."""
    begin = datetime(2024, 10, 27, 2, 55)
    lines = []
    for i in range(400):
        shift = back_s if i >= 200 else 0.0
        step = i + 1 if not again or i < 200 else i - 199
        lines.append(stamped(step, begin + timedelta(seconds=i - shift)))
    return "".join(lines)


@pytest.mark.parametrize("back_s", [3600, 8 * 3600, 1800])
def test_an_hour_back_is_no_gap_while_the_steps_go_on(run_of: RunOf, back_s: float) -> None:
    run = run_of(log(back_s))
    assert run.wall_s == pytest.approx(399)
    assert {span.name for span in run.spans if span.seconds > 5} == {"train"}
    assert run.track is not None and run.track.at_s is not None
    assert run.track.at_s[-1] == pytest.approx(399)


def test_an_hour_back_where_the_run_begins_again_is_another_run(run_of: RunOf) -> None:
    run = run_of(log(3600, again=True))
    assert run.restarts == (199,)
    assert run.track is not None and run.track.at_s is not None
    assert run.track.at_s[-1] < 0


def test_times_that_fall_by_no_time_zone_are_left_as_they_are(run_of: RunOf) -> None:
    run = run_of(log(3600 - 450))
    assert run.track is not None and run.track.at_s is not None
    assert run.track.at_s[-1] == pytest.approx(399 - 3150)
