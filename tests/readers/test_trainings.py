"""Several trainings in one file become several runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perfdoctor.readers.gathering import gather
from perfdoctor.record import Run


def training(batch_size: int, step_s: float, epochs: int = 2, every: int = 10) -> str:
    text = f"Namespace(batch_size={batch_size}, lr=0.1, epochs={epochs})\n"
    for epoch in range(1, epochs + 1):
        for step in range(every, 201, every):
            text += f"epoch {epoch}/{epochs} step {step}/200 loss 0.5 time {step_s:.4f} s\n"
    return text


def runs_of(tmp_path: Path, text: str) -> tuple[Run, ...]:
    path = tmp_path / "train.log"
    path.write_text(text)
    return gather([str(path)], lambda *_: None).runs


def step_s(run: Run) -> float:
    return float(np.nanmedian(run.step_s))


def test_trainings_with_other_batches_are_runs_of_their_own(tmp_path: Path) -> None:
    first, second = runs_of(tmp_path, training(32, 0.25) + training(64, 0.41))
    assert (first.name, second.name) == ("train.log, training 1", "train.log, training 2")
    assert (first.configuration["batch_size"], second.configuration["batch_size"]) == (32, 64)
    assert first.restarts == second.restarts == ()
    assert step_s(first) == pytest.approx(0.25)
    assert step_s(second) == pytest.approx(0.41)
    assert any("lines 42 to 82" in note for note in second.notes)


def test_a_time_means_the_same_in_all_trainings_of_a_file(tmp_path: Path) -> None:
    text = training(32, 0.25) + training(64, 0.41) + training(128, 0.8)
    assert [step_s(run) for run in runs_of(tmp_path, text)] == pytest.approx([0.25, 0.41, 0.8])


def test_the_same_training_run_again_after_its_end_is_another_run(tmp_path: Path) -> None:
    assert len(runs_of(tmp_path, 3 * training(32, 0.25))) == 3


def test_a_training_that_broke_off_and_began_anew_is_one_run(tmp_path: Path) -> None:
    broken = "".join(training(32, 0.25).splitlines(keepends=True)[:15])
    (run,) = runs_of(tmp_path, broken + training(32, 0.25))
    assert len(run.restarts) == 1


def test_a_resumed_training_is_one_run(tmp_path: Path) -> None:
    lines = training(32, 0.25).splitlines(keepends=True)
    (run,) = runs_of(tmp_path, "".join(lines[:35] + lines[28:]))
    assert len(run.restarts) == 1


def test_counters_that_begin_anew_in_each_epoch_are_one_training(tmp_path: Path) -> None:
    text = "".join(f"step {s}/50 step_time 0.25\n" for _ in range(30) for s in range(5, 51, 5))
    assert len(runs_of(tmp_path, text)) == 1


def told(steps: range, time_s: float, tokens_per_s: float) -> str:
    return "".join(
        f"step {s}, loss: 6.4, time: {1e3 * time_s:.2f} ms, tokens/sec: {tokens_per_s}\n"
        for s in steps
    )


def test_a_diary_with_steps_that_hold_more_is_of_two_trainings(tmp_path: Path) -> None:
    text = told(range(40, 50), 0.1, 10_000.0) + "\n" + told(range(12), 0.35, 46_000.0)
    first, second = runs_of(tmp_path, text)
    assert (step_s(first), step_s(second)) == pytest.approx((0.1, 0.35))


def test_blocks_of_markdown_are_of_two_trainings(tmp_path: Path) -> None:
    lines = "".join(f"step {s} loss 6.4 time {0.1:.3f} s\n" for s in range(20))
    assert len(runs_of(tmp_path, f"```\n{lines}```\nNow with bf16:\n```\n{lines}```\n")) == 2
    assert len(runs_of(tmp_path, lines + lines)) == 1


def test_a_small_last_batch_of_an_epoch_makes_no_other_training(tmp_path: Path) -> None:
    epoch = told(range(1, 20), 0.1, 10_000.0) + told(range(20, 21), 0.1, 5_000.0)
    assert len(runs_of(tmp_path, 3 * epoch)) == 1


def stamped(begins_s: int, steps: int, every_s: int) -> str:
    moments = (begins_s + every_s * i for i in range(steps))
    return "".join(
        f"2024-03-01 {s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d} iter={i:04d} loss=0.5\n"
        for i, s in enumerate(moments)
    )


def test_a_counter_that_begins_anew_after_a_long_pause_is_of_another_run(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, stamped(0, 17, 4) + stamped(2000, 17, 2))
    assert [step_s(run) for run in runs] == pytest.approx([4, 2])
    assert all(run.epochs is None for run in runs)


def test_a_counter_that_begins_anew_after_a_short_pause_is_of_the_same_run(tmp_path: Path) -> None:
    assert len(runs_of(tmp_path, stamped(0, 17, 4) + stamped(120, 17, 4))) == 1
    assert len(runs_of(tmp_path, stamped(0, 170, 4) + stamped(2000, 170, 4))) == 1
    assert len(runs_of(tmp_path, stamped(0, 17, 1) + stamped(400, 17, 1))) == 1


def test_pauses_that_come_again_and_again_are_the_rhythm_of_epochs(tmp_path: Path) -> None:
    text = "".join(stamped(2000 * epoch, 17, 4) for epoch in range(6))
    assert len(runs_of(tmp_path, text)) == 1
