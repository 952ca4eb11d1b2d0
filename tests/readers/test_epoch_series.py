"""The epochs that a log numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from perfdoctor.readers.epochs import different
from perfdoctor.record import Run


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], []),
        ([3.0], [3.0]),
        ([1.0, 1.0, 2.0, 4.0, 4.0], [1.0, 2.0, 4.0]),
        ([2.0, 2.0, 1.0, 2.0], [1.0, 2.0]),
    ],
)
def test_each_number_comes_once_and_in_order(values: list[float], found: list[float]) -> None:
    assert different(np.array(values)).tolist() == found


def test_an_epoch_ends_where_it_is_last_told_of(run_of: Callable[..., Run]) -> None:
    text = "".join(
        f"epoch {epoch} step {step} step_time 0.5 s\n" for epoch in (1, 2) for step in (1, 2, 3)
    )
    run = run_of(text + "saved\nepoch 2 done\n")
    assert run.epochs is not None
    assert run.epochs.line is not None
    assert run.epochs.line.tolist() == [3, 8]
