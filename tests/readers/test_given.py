"""What a training was given, where it runs, and what it moves: numbers that nothing counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from test_fields import fields

from perfdoctor.readers.fields import analyse
from perfdoctor.readers.lexer import Dialect
from perfdoctor.readers.records import OTHER_PHASE, VALIDATION
from perfdoctor.record import Run

RunOf = Callable[..., Run]


def phase(line: str) -> float:
    return analyse(line, Dialect()).phase


# the plan


@pytest.mark.parametrize(
    "line",
    ["  BEGIN_EPOCH: 0", "  END_EPOCH: 484", "start_step=500", "stop_epoch: 40", "epochs: 30",
     '    "epochs": 12,'],
)  # fmt: skip
def test_what_is_planned_has_not_been_counted(line: str) -> None:
    assert not {"epoch", "step"} & set(fields(line))


@pytest.mark.parametrize(
    ("line", "role", "value"),
    [("Begin epoch 3", "epoch", 3), ("epoch: 3", "epoch", 3), ("loss: 0.5 epochs: 3", "epoch", 3),
     ("start step 40", "step", 40)],
)  # fmt: skip
def test_what_a_training_counts_is_no_plan(line: str, role: str, value: float) -> None:
    assert fields(line)[role] == value


def test_the_epochs_of_a_plan_are_not_among_those_seen(run_of: RunOf) -> None:
    plan = "TRAIN:\n  BEGIN_EPOCH: 0\n  END_EPOCH: 90\n  epochs: 90\n"
    lines = [f"epoch {e} step {i}/50 step_time 0.2s\n" for e in (4, 5) for i in range(50)]
    run = run_of(plan + "".join(lines))
    assert run.epochs is not None
    assert run.epochs.number.tolist() == [4, 5]


@pytest.mark.parametrize("line", ["INFO:   --T 2", "--steps 400", "  --step_time=3"])
def test_an_option_of_the_command_tells_nothing_of_the_training(line: str) -> None:
    assert not fields(line)


def test_the_line_of_an_option_tells_when_it_was_written() -> None:
    assert set(fields("2024-03-01 10:00:00 INFO   --step 2")) == {"time"}
    assert fields("step 40 --loss 2")["step"] == 40


# the machine


def test_the_memory_that_a_device_has_is_not_what_was_taken() -> None:
    line = "NVIDIA GeForce RTX 3090. Num GPUs = 1. Max memory: 23.558 GB. Platform: Linux."
    assert "memory_bytes" not in fields(line)
    assert "memory_bytes" in fields("step 3 | max memory: 23.558 GB")
    assert "memory_bytes" in fields("NVIDIA A100: max memory allocated: 23.558 GB")


@pytest.mark.parametrize(
    "line",
    ["totalMemory: 10.92GiB memoryClockRate(GHz): 1.582", "core clock (MHz): 1410",
     "step 3 clock 1410 MHz", "audio at 16 kHz"],
)  # fmt: skip
def test_the_clock_of_a_device_is_no_rate_of_steps(line: str) -> None:
    assert not {"steps_per_s", "step_s"} & set(fields(line))
    assert fields("train at (Hz): 1.5")["steps_per_s"] == 1.5


@pytest.mark.parametrize(
    "line",
    ["slurmstepd: error: *** STEP 307309.0 ON c17 CANCELLED AT 2024-03-01T10:00:00 ***",
     "srun: Job step 31 aborted: Waiting up to 32 seconds for job step to finish."],
)  # fmt: skip
def test_a_step_of_a_cluster_is_none_of_the_training(line: str) -> None:
    assert set(fields(line)) <= {"time"}


# what it moves


@pytest.mark.parametrize("name", ["wind_speed", "motor speed", "cmd_linear_speed"])
def test_how_fast_a_thing_moves_is_no_rate(name: str) -> None:
    assert not {"samples_per_s", "steps_per_s"} & set(fields(f"step 4 {name}: 4.44"))
    assert fields("step 4 train_speed: 4.44 samples/s")["samples_per_s"] == 4.44


@pytest.mark.parametrize("name", ["env_steps_per_s", "environment steps/s", "sim steps/sec"])
def test_steps_that_a_game_plays_are_samples_of_the_training(name: str) -> None:
    found = fields(f"iteration 4 {name}: 6200")
    assert found["samples_per_s"] == 6200
    assert "steps_per_s" not in found


# what it makes ready


@pytest.mark.parametrize(
    "line",
    ["Initializing val dataset", "Loading the validation images", "Building test dataloader"],
)
def test_a_validation_that_is_made_ready_has_not_begun(line: str) -> None:
    assert phase(line) == OTHER_PHASE
    assert phase("Running validation") == VALIDATION
    assert phase("Validating on the test set") == VALIDATION


def test_what_follows_a_dataset_that_is_made_ready_is_the_training(run_of: RunOf) -> None:
    head = "2024-03-01 10:00:00 Initializing val dataset\n"
    lines = "".join(
        f"2024-03-01 10:{m:02d}:{s:02d} iter {60 * m + s} loss 1.5\n"
        for m in range(1, 9)
        for s in range(0, 60, 10)
    )
    run = run_of(head + lines)
    assert "validation" not in {span.name for span in run.spans}
    assert np.isfinite(run.step_s).sum() > 40
