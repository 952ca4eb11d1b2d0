"""Averages that are printed beside values."""

from collections.abc import Callable

import numpy as np
import pytest

from perfdoctor.record import Run

RunOf = Callable[..., Run]


def text_of(means: list[float]) -> str:
    return "".join(
        f"Epoch: [0][{n}/1000] Time 0.500 ({mean:.3f}) Loss 0.3\n"
        for n, mean in zip(range(100, 1000, 100), means, strict=True)
    )


def test_averages_since_the_epoch_began_tell_the_steps_between(run_of: RunOf) -> None:
    run = run_of(text_of([(0.8 * n + 40) / n for n in range(100, 1000, 100)]))
    assert run.mean_step_s is not None
    assert run.mean_step_s[1:] == pytest.approx(np.full(8, 0.8), rel=0.01)


def test_averages_of_the_last_steps_tell_nothing_of_those_before(run_of: RunOf) -> None:
    run = run_of(text_of([9.0, 0.5, 6.0, 0.4, 9.0, 0.5, 6.0, 0.4, 9.0]))
    assert run.mean_step_s is None
