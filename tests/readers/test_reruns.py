"""Several starts in one file: epochs that come again, and settings that change."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perfdoctor.record import Run

RunOf = Callable[..., Run]


def epochs(first: int, last: int, step_s: float, steps: int = 50) -> str:
    lines = []
    for epoch in range(first, last + 1):
        lines += [f"epoch {epoch} step {i}/{steps} loss 1.5 step_time {step_s:.3f}s"
                  for i in range(10, steps + 1, 10)]  # fmt: skip
        lines += [f"epoch {epoch} done, epoch time: {step_s * steps:.2f} s"]
    return "\n".join(lines) + "\n"


def test_epochs_that_are_trained_again_count_as_they_were_the_last_time(run_of: RunOf) -> None:
    run = run_of(epochs(1, 6, 0.2) + epochs(4, 5, 0.4))
    assert run.restarts == (29,)
    assert run.epochs is not None
    assert run.epochs.number.tolist() == [1, 2, 3, 4, 5]
    assert run.epochs.time_s.tolist() == pytest.approx([10, 10, 10, 20, 20])
    assert any("the last time counts" in note for note in run.notes)


def test_the_wall_clock_holds_what_was_trained_twice(run_of: RunOf) -> None:
    run = run_of(epochs(1, 6, 0.2) + epochs(4, 5, 0.4))
    assert run.wall_s == pytest.approx(6 * 10 + 2 * 20)


def test_a_training_of_its_own_has_its_own_epochs_and_a_warning(run_of: RunOf) -> None:
    run = run_of(epochs(1, 6, 0.2) + epochs(1, 3, 0.1, steps=80))
    assert run.epochs is not None
    assert run.epochs.number.tolist() == [1, 2, 3]
    assert run.epochs.time_s.tolist() == pytest.approx([8, 8, 8])
    assert any("50, then 80 steps" in text for text in run.warnings)


def test_epochs_alone_begin_again_where_their_number_falls(run_of: RunOf) -> None:
    text = "".join(f"Epoch {i}: loss 0.5, epoch time: {t:.1f} s\n"
                   for first, t in ((1, 30.0), (3, 50.0))
                   for i in range(first, 8 if first == 1 else 6))  # fmt: skip
    run = run_of(text)
    assert run.epochs is not None
    assert run.epochs.number.tolist() == [1, 2, 3, 4, 5]
    assert run.epochs.time_s.tolist() == [30, 30, 50, 50, 50]


def start(**settings: int) -> str:
    return f"Namespace({', '.join(f'{name}={value}' for name, value in settings.items())})\n"


def test_of_runs_with_different_batches_the_last_is_reported(run_of: RunOf) -> None:
    run = run_of(start(batch_size=32, epochs=2) + epochs(1, 2, 0.2)
                 + start(batch_size=64, epochs=2) + epochs(1, 2, 0.4))  # fmt: skip
    assert run.configuration["batch_size"] == 64
    assert set(run.step_s.tolist()) == {0.4}
    assert run.samples.tolist() == [64] * run.step_s.size
    assert run.restarts == ()
    assert any("batch_size 32, then 64" in text and "line 14 on" in text for text in run.warnings)


def test_settings_that_change_at_a_restart_hold_for_nothing(run_of: RunOf) -> None:
    run = run_of(start(batch_size=32, num_workers=2) + epochs(1, 3, 0.2)
                 + start(batch_size=32, num_workers=8) + epochs(2, 5, 0.2))  # fmt: skip
    assert run.configuration["batch_size"] == 32
    assert "num_workers" not in run.configuration
    assert len(run.restarts) == 1
    assert any("num_workers 2, then 8" in text for text in run.warnings)


def test_a_resumed_run_that_goes_on_longer_is_the_same_run(run_of: RunOf) -> None:
    run = run_of(start(batch_size=32, epochs=3) + epochs(1, 3, 0.2)
                 + start(batch_size=32, epochs=5) + epochs(3, 5, 0.2))  # fmt: skip
    assert run.configuration["epochs"] == 5
    assert run.warnings == ()
    assert len(run.restarts) == 1


def test_the_end_of_the_last_epoch_is_not_of_a_next_one(run_of: RunOf) -> None:
    text = "".join(f"{{'loss': 1.5, 'epoch': {i / 10}}}\n" for i in range(1, 21))
    run = run_of(text)
    assert run.epochs is not None
    assert run.epochs.number.tolist() == [0, 1]
