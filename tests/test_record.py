"""What a Run tells of its records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from logged_runs import make_track


@pytest.mark.parametrize(
    ("steps", "weights"),
    [
        ([10.0, 10.0, 10.0], 10.0),
        ([np.nan, 1.0, 1.0], 1.0),  # the first one counts as one
        ([np.nan, 10.0, 10.0], [1.0, 10.0, 10.0]),
        ([5.0, 0.0, 10.0], [5.0, 1.0, 10.0]),
        ([np.nan, np.nan, np.nan], 1.0),
    ],
)
def test_records_stand_for_as_many_steps_as_they_cover(steps: list[float], weights: Any) -> None:
    found = make_track(3, steps=np.array(steps)).weights
    assert isinstance(found, float) == isinstance(weights, float)
    assert np.array_equal(found, weights)
