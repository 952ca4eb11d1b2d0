"""Where an epoch begins, by the first batches of the loaders that are trained on."""

from __future__ import annotations

import numpy as np
import pytest

from perfdoctor.collect.script.assembly import _begun


def starting(*steps: int, of: int = 170) -> np.ndarray:
    found = np.zeros(of, dtype=bool)
    found[list(steps)] = True
    return found


def test_two_loaders_that_begin_with_an_epoch_make_one() -> None:
    kept = _begun(starting(0, 1, 33, 65, 97, 129), stride=1)
    assert np.flatnonzero(kept).tolist() == [0, 33, 65, 97, 129]


@pytest.mark.parametrize("steps", [(0, 1, 2, 3, 4), (0, 1), (0, 32, 64, 96), (), (5,)])
def test_other_epochs_are_left_as_they_are(steps: tuple[int, ...]) -> None:
    assert np.flatnonzero(_begun(starting(*steps), stride=1)).tolist() == list(steps)


def test_rows_of_several_steps_are_left_as_they_are() -> None:
    starts = starting(0, 1, 33, 65, 97, 129)
    assert (_begun(starts, stride=2) == starts).all()
