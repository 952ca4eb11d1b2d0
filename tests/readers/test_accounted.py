"""Printed times and the clock: where they agree, where not, and what is left unexplained."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from perfdoctor.record import Run
from perfdoctor.wall import wall_clock

RunOf = Callable[..., Run]
BEGIN = datetime(2024, 3, 4, 9, 0)


def log(count: int, apart_s: float, printed_s: float, pause_at: int | None = None) -> str:
    lines = []
    for i in range(1, count + 1):
        late = 300.0 if pause_at is not None and i >= pause_at else 0.0
        moment = BEGIN + timedelta(seconds=apart_s * i + late)
        stamp = f"{moment:%Y-%m-%d %H:%M:%S},{moment.microsecond // 1000:03}"
        lines.append(f"{stamp} INFO step {i} loss {9 / (i + 3):.4f} step_time {printed_s:.3f}s\n")
    return "".join(lines)


def parts(run: Run) -> dict[str, float]:
    return {span.name: span.seconds for span in run.spans if span.seconds > 0.01}


def test_what_printed_step_times_leave_of_the_clock_is_unexplained(run_of: RunOf) -> None:
    run = run_of(log(200, 1.0, 0.5))
    assert run.step_s[5] == 0.5
    assert parts(run)["train"] == pytest.approx(99.5, rel=0.02)
    assert parts(run)["unexplained"] == pytest.approx(99.5, rel=0.02)
    assert any("only 50 % of the time between the lines" in text for text in run.warnings)


def test_printed_step_times_that_agree_with_the_clock_give_no_warning(run_of: RunOf) -> None:
    run = run_of(log(200, 0.5, 0.49))
    assert run.warnings == ()
    assert parts(run) == pytest.approx({"train": 99.5}, rel=0.02)


def test_a_pause_between_two_steps_is_no_training(run_of: RunOf) -> None:
    run = run_of(log(200, 0.5, 0.5, pause_at=100))
    assert run.warnings == ()
    assert parts(run)["unexplained"] == pytest.approx(300, rel=0.02)


def test_step_times_above_the_clock_are_called_averages(run_of: RunOf) -> None:
    run = run_of(log(200, 0.5, 0.6))
    assert any("add up to 120 %" in text for text in run.warnings)


def test_sums_of_elapsed_time_explain_the_training_of_one_epoch(run_of: RunOf) -> None:
    rows = [
        {
            "current_steps": 10 * i, "total_steps": 900, "loss": 2.0 / i, "epoch": i / 20,
            "elapsed_time": f"0:{65 * i // 60:02}:{65 * i % 60:02}", "remaining_time": "1:00:00",
        }
        for i in range(1, 21)
    ]  # fmt: skip
    run = run_of("".join(json.dumps(row) + "\n" for row in rows), "trainer_log.jsonl")
    assert run.epochs is not None
    assert run.epochs.number.tolist() == [0]
    assert parts(run)["train"] > 0.9 * sum(parts(run).values())


def test_an_epoch_before_the_first_line_counts_in_the_wall_clock(run_of: RunOf) -> None:
    run = run_of(
        "2024-03-04 09:00:44 INFO Epoch[1] Complete. Time taken: 00:00:44.000\n"
        "2024-03-04 09:01:28 INFO Epoch[2] Complete. Time taken: 00:00:44.000\n"
        "2024-03-04 09:02:13 INFO Epoch[3] Complete. Time taken: 00:00:45.000\n"
    )
    wall = wall_clock(run)
    assert wall is not None
    assert wall.total_s == pytest.approx(133)
    assert parts(run) == pytest.approx({"train": 133})


def test_averages_over_earlier_epochs_are_not_of_this_one(run_of: RunOf) -> None:
    lines, total, count = [], 1.2 * 500, 500
    for i in range(1, 21):
        single = 0.4 + 0.03 * i
        total, count = total + single, count + 1
        lines.append(f"Epoch: [11][{i}/48]\tTime {single:.3f} ({total / count:.3f})\t"
                     f"Data 0.002 (0.004)\tLoss 3.2 (37.0)\n")  # fmt: skip
    run = run_of("".join(lines))
    assert run.step_s[0] == pytest.approx(0.43)
    assert run.mean_step_s is None


def test_averages_of_the_epoch_tell_of_the_steps_between_the_lines(run_of: RunOf) -> None:
    lines = []
    for i in range(0, 201, 10):
        mean = (0.5 * (i + 1) + 2.0 * (i // 10)) / (i + 1)  # a stall of 2 s in each ten steps
        lines.append(f"Epoch: [0][{i}/400]\tTime 0.500 ({mean:.3f})\tData 0.002 (0.002)\n")
    run = run_of("".join(lines))
    assert run.mean_step_s is not None
    assert run.mean_step_s[1:].mean() == pytest.approx(0.7, rel=0.02)
