"""`perfdoctor run` of a training whose replay buffer draws its batches within the call that trains,
by an order of all it holds, and of one that draws few."""

from __future__ import annotations

from pathlib import Path

import pytest
from observed_script import reported

SCRIPT = """
import sys
import numpy as np
import torch

class Buffer:
    def __init__(self, size):
        self.size, self.rows = size, np.random.rand(size, 8).astype(np.float32)
    def draw(self, batch_size):
        if sys.argv[1] == "all":
            index = np.random.choice(self.size, batch_size, replace=False)
        else:
            index = np.random.randint(0, self.size, batch_size)
        return torch.from_numpy(self.rows[index])

class Agent:
    def __init__(self):
        self.policy, self.value = torch.nn.Linear(8, 8), torch.nn.Linear(8, 1)
        self.target = torch.nn.Linear(8, 1).requires_grad_(False)
        both = [*self.policy.parameters(), *self.value.parameters()]
        self.optimizer = torch.optim.Adam(both, 1e-4)
    @torch.no_grad()
    def act(self, seen):
        return self.policy(seen[None])[0]
    def update(self, rows):
        with torch.no_grad():
            wanted = self.target(rows)
        loss = (self.value(self.policy(rows)) - wanted).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

if __name__ == "__main__":
    buffer, agent, seen = Buffer(500_000), Agent(), torch.rand(8)
    for step in range(300):
        seen = seen + 0.01 * agent.act(seen)
        agent.update(buffer.draw(64))
"""


@pytest.mark.slow
def test_a_buffer_that_puts_all_into_an_order_is_loading_and_told_so(tmp_path: Path) -> None:
    report = reported(tmp_path, SCRIPT, "all")
    first = report["recommendations"][0]
    assert (first["rule"], first["stage"]) == ("PD126", "data_loading")
    assert "train.py:11 `numpy.random.choice`" in first["title"]
    assert report["diagnosis"]["bottleneck"] == "data_loading"
    assert report["diagnosis"]["verdict"] == "input-bound"
    loading = [s["function"] for s in report["hotspots"] if s["stage"] == "data_loading"]
    assert not any(name.startswith("Agent.") for name in loading)


@pytest.mark.slow
def test_one_that_draws_few_is_not(tmp_path: Path) -> None:
    report = reported(tmp_path, SCRIPT, "few")
    assert "PD126" not in {one["rule"] for one in report["recommendations"]}
