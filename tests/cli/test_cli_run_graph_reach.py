"""`perfdoctor run` of a model that carries a state from step to step, detached and not."""

from __future__ import annotations

from pathlib import Path

import pytest
from observed_script import reported

SCRIPT = """
import sys
import torch
from torch.utils.data import DataLoader, TensorDataset

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Linear(64, 64), torch.nn.Linear(64, 1)
        self.mood = torch.zeros(64)
    def forward(self, x):
        seen = self.embed(x)
        out = self.head(seen + self.mood)
        self.mood = 0.9 * self.mood + 0.1 * seen.mean(0)
        return out

if __name__ == "__main__":
    model = Net()
    optimizer = torch.optim.SGD(model.embed.parameters(), 1e-6)
    loader = DataLoader(TensorDataset(torch.rand(4 * 120, 64)), batch_size=4)
    for epoch in range(15):
        model.mood = torch.zeros(64)
        for (x,) in loader:
            if sys.argv[1] == "detached":
                model.mood = model.mood.detach()
            model(x).sum().backward(retain_graph=True)
            optimizer.step()
            optimizer.zero_grad()
"""


@pytest.mark.slow
def test_a_state_that_is_carried_undetached_is_what_makes_the_backward_pass_long(
    tmp_path: Path,
) -> None:
    report = reported(tmp_path, SCRIPT, "carried")
    assert report["configuration"]["graph_nodes_grown_per_step"] >= 5
    assert report["recommendations"][0]["rule"] == "PD241"
    told = (report["diagnosis"]["verdict"], report["diagnosis"]["bottleneck"])
    assert told in {("compute-bound", "backward"), ("degrading", "backward")}


@pytest.mark.slow
def test_a_state_that_is_detached_is_not(tmp_path: Path) -> None:
    report = reported(tmp_path, SCRIPT, "detached")
    assert report["configuration"]["graph_nodes_grown_per_step"] == 0
    assert "PD241" not in [one["rule"] for one in report["recommendations"]]
