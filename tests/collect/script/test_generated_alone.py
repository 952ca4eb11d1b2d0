"""`generate` of transformers, in validation: for one sample at a time, or for several."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_observing import Clock, Net, Watched

#: As theirs: five tokens with two beams for each sample.
GENERATE = """
def generate(model, inputs=None, **kwargs):
    given = inputs if inputs is not None else kwargs["input_ids"]
    for _ in range(5):
        model(given.repeat_interleave(2, 0))
"""


def generate_in(file: str) -> Any:
    made: dict[str, Any] = {}
    exec(compile(GENERATE, file, "exec"), made)
    return made["generate"]


def settings(
    samples: int, *, file: str = "/lib/transformers/generation/utils.py", **by: Any
) -> Any:
    generate = generate_in(file)
    clock = Clock()
    with Watched(clock) as seen:
        model = Net(clock)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(2):
            model.train()
            for _ in range(4):
                model(torch.ones(16, 4)).mean().backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                for _ in range(6):
                    given = torch.ones(samples, 4)
                    generate(model, **(dict.fromkeys(by, given) if by else {"inputs": given}))
    return seen.observer.looks.validation_calls.settings(seen.state.loop.loops())


@pytest.mark.parametrize("by", [{}, {"input_ids": None}])
def test_one_sample_at_a_time_is_told(by: dict[str, None]) -> None:
    found = settings(1, **by)
    assert found["alone_generates"]
    assert found["alone_calls"] == 2 * 6 * 5
    assert found["alone_batch"] == 16
    assert found["alone_of_validation"] == pytest.approx(1.0)
    assert found["alone_s"] == pytest.approx(10e-9)
    assert found["alone_at"].startswith("test_generated_alone.py:")
    assert found["alone_in"] == "settings"


def test_several_are_not() -> None:
    found = settings(4)
    assert found["alone_calls"] == 0
    assert "alone_generates" not in found


def test_nor_is_a_function_of_that_name_elsewhere() -> None:
    assert "alone_generates" not in settings(1, file="/home/me/model.py")
