"""Clocks that are set back while the training goes on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pytest
from test_fields import fields

from perfdoctor.readers.fields import analyse
from perfdoctor.readers.lexer import Dialect
from perfdoctor.readers.records import VALIDATION
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


def test_a_time_on_a_clock_of_twelve_hours_is_of_no_epoch(run_of: RunOf) -> None:
    run = run_of(
        "".join(
            f"Epoch {e} loss 2.5\nTRAINING COMPLETED @ {1 + e}:{7 + e:02d} PM\n" for e in range(6)
        )
    )
    assert run.epochs is not None
    times = run.epochs.time_s[np.isfinite(run.epochs.time_s)]
    assert times == pytest.approx(np.full(times.size, 3660.0))


def test_no_name_makes_a_time_of_day_a_duration() -> None:
    found = fields("10:07 PM validation step 3, epoch time: 10:09 PM")
    assert found == {"clock": 79620, "step": 3}
    assert analyse("10:07 PM validation step 3", Dialect()).phase == VALIDATION


@pytest.mark.parametrize(
    ("name", "head", "row"),
    [("log.csv", "step,loss,time", "{},0.5,{} PM"),
     ("train.log", "| Step | Loss | Time |\n|------|------|------|", "| {} | 0.5 | {} PM |"),
     ("train.log", "started", "{1} PM step {0} loss 0.5")],
)  # fmt: skip
def test_times_of_day_in_a_column_are_told_from_durations(
    run_of: RunOf, name: str, head: str, row: str
) -> None:
    rows = [row.format(100 * i, f"{(12 + i // 60 - 1) % 12 + 1}:{i % 60:02d}") for i in range(90)]
    run = run_of("\n".join((head, *rows)), name)
    assert np.nanmedian(run.step_s) == pytest.approx(0.6)
    assert run.wall_s == pytest.approx(89 * 60)


def test_a_line_break_parts_a_time_from_what_was_logged_then(run_of: RunOf) -> None:
    lines = [
        f"2024-03-01 10:{i // 6:02d}:{i % 6 * 10:02d} INFO\nTrain Epoch: 1 [{20 * i}/4000] loss 1\n"
        for i in range(1, 120)
    ]
    run = run_of("".join(lines))
    assert np.nanmedian(run.step_s) == pytest.approx(0.5)
    assert run.wall_s == pytest.approx(1180)


def test_the_time_of_a_line_that_tells_more_is_its_own(run_of: RunOf) -> None:
    lines = [
        f"2024-03-01 10:{i // 6:02d}:{i % 6 * 10:02d} INFO saved, lr 0.1\nstep {20 * i} loss 1\n"
        for i in range(1, 60)
    ]
    assert not np.isfinite(run_of("".join(lines)).step_s).any()
