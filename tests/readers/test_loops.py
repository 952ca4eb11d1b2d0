"""Restarts that are none: other loops' counters, copies, broken digits; and steps' numbers."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from perfdoctor.readers.fields import analyse
from perfdoctor.readers.lexer import Dialect
from perfdoctor.readers.roles import Hints
from perfdoctor.record import Run
from perfdoctor.thinning import POINTS, thinned

RunOf = Callable[..., Run]


def steps(run: Run) -> list[float]:
    assert run.track is not None and run.track.step is not None
    return run.track.step.tolist()


@pytest.mark.parametrize("what", ["VALIDATION", "TEST"])
def test_a_validation_after_a_rank_is_no_training_step(run_of: RunOf, what: str) -> None:
    lines = []
    for epoch in range(3):
        lines += [f"0: TRAIN [{epoch}][{i}/60]\tTime 0.250 (0.250)\tTok/s 9000 (9000)"
                  for i in range(0, 60, 10)]  # fmt: skip
        lines += [f"0: {what} [{epoch}][0/5]\tTime 0.900 (0.900)\tTok/s 2000 (2000)"]
    run = run_of("\n".join(lines) + "\n")
    assert run.restarts == ()
    assert run.step_s.tolist() == [0.25] * 18


def test_steps_without_an_epoch_among_steps_with_one_are_an_evaluation(run_of: RunOf) -> None:
    rows: list[dict[str, float]] = []
    for epoch in (1, 2, 3):
        rows += [{"epoch": epoch, "step": 40 * epoch + i, "time": 0.2, "loss": 1 / (i + epoch)}
                 for i in range(0, 40, 4)]  # fmt: skip
        rows += [{"step": epoch, "time": 0.9, "accuracy": 0.5 + epoch / 10}]
    run = run_of("".join(json.dumps(row) + "\n" for row in rows), "scalars.jsonl")
    assert run.restarts == ()
    assert run.step_s.tolist() == [0.2] * 30


def stamped(step: int, second: int) -> str:
    minute, second = divmod(second, 60)
    time = f"2024-03-04 10:{minute:02}:{second:02},000"
    return f"{time} INFO epoch 1 step {step} loss {9 / (step + 3):.5f} step_time 0.2{step % 7}0s\n"


def test_lines_that_are_there_twice_count_once(run_of: RunOf) -> None:
    text = "".join(stamped(10 * i, 2 * i) for i in range(1, 40))
    run = run_of(text + "=======\n" + text)
    assert run.restarts == ()
    assert run.step_s.size == 39


def test_a_rerun_is_no_copy(run_of: RunOf) -> None:
    text = "".join(stamped(10 * i, 2 * i) for i in range(1, 40))
    again = "".join(stamped(10 * i, 300 + 2 * i) for i in range(1, 40))
    run = run_of(text + again)
    assert run.restarts == (38,)
    assert run.step_s.size == 78


def test_a_counter_that_lost_a_digit_is_no_restart(run_of: RunOf) -> None:
    counters = [10 * i for i in range(1, 41)]
    counters[19] = 2  # 200
    text = "".join(f"epoch 1 step {n} loss 1.5 step_time 0.250s\n" for n in counters)
    run = run_of(text)
    assert run.restarts == ()
    assert steps(run) == [10 * i for i in range(1, 41)]


def test_a_percentage_is_no_epoch(run_of: RunOf) -> None:
    text = "".join(
        f"第{epoch}轮:  {2 * n}%|████      | {n}/50 [00:{n // 10:02}<00:04, 10.00it/s]\n"
        for epoch in (1, 2)
        for n in range(5, 51, 5)
    )
    run = run_of(text)
    assert run.epochs is not None
    assert run.epochs.number.tolist() == [1, 2]
    assert run.restarts == ()


def test_a_date_at_the_beginning_of_a_line_counts_no_steps() -> None:
    line = "12/13 9:57:5 Epoch 110/900, accuracy = 0.5, time = 61.5,lr=0.01"
    roles = {field.role for field in analyse(line, Dialect(), Hints()).fields}
    assert "epoch" in roles
    assert "step" not in roles


def test_lines_without_a_counter_are_counted_from_one(run_of: RunOf) -> None:
    run = run_of("".join(f"loss {9 / (i + 3):.4f} step_time 0.25{i % 3}s\n" for i in range(9)))
    assert steps(run) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_the_last_record_is_in_the_report_however_long_the_log_is() -> None:
    count = POINTS * 3 // 2
    assert thinned({"step": np.arange(count)})["step"][-1] == count - 1
