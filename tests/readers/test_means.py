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


def of_five_epochs(slow: float, single: float) -> str:
    """Lines of every hundredth step; the first of each epoch is slow: it starts workers."""
    text = ""
    for epoch in range(5):
        for n in range(0, 700, 100):
            mean = (slow + n * single) / (n + 1)
            text += f"Epoch: [{epoch}/90] Iter:[{n}/656], Time: {mean:.2f}, lr: [0.01], Loss: 0.3\n"
    return text


def test_coarse_averages_are_freed_of_the_slow_first_step(run_of: RunOf) -> None:
    run = run_of(of_five_epochs(60.0, 0.32))
    assert float(np.nanmedian(run.step_s)) == pytest.approx(0.32, rel=0.03)


def test_times_that_fall_for_another_reason_stay_as_printed(run_of: RunOf) -> None:
    text = "".join(
        f"Epoch: [{e}/90] Iter:[{n}/656], Time: {t:.2f}, Loss: 0.3\n"
        for e in range(5)
        for n, t in zip(range(0, 700, 100), (5.0, 0.5, 0.3, 0.5, 0.3, 0.5, 0.3), strict=True)
    )
    printed = run_of(text).step_s
    assert set(np.round(printed[np.isfinite(printed)], 2).tolist()) == {5.0, 0.5, 0.3}
