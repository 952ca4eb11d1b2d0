"""`perfdoctor run` of a model that normalises the same matrix in each step, and of one that gets
another one each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from observed_script import reported

SCRIPT = """
import sys
import torch

def normalised(edges):
    degree = edges.sum(1)
    return torch.linalg.matrix_power(edges / degree, 3)

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)
    def forward(self, x, edges):
        return normalised(edges) @ self.layer(x)

if __name__ == "__main__":
    edges, x = torch.rand(400, 400), torch.rand(400, 8)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    for step in range(1000):
        given = edges if sys.argv[1] == "same" else edges + step
        model(x, given).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
"""


def advised(folder: Path, word: str) -> dict[str, Any]:
    report = reported(folder, SCRIPT, word)
    return {one["rule"]: one for one in report["recommendations"]} | report["diagnosis"]


@pytest.mark.slow
def test_what_gives_the_same_in_each_step_is_told_by_its_name(tmp_path: Path) -> None:
    found = advised(tmp_path, "same")
    assert found["PD238"]["title"].startswith("normalised gives the same result in every step")
    assert found["verdict"] == "compute-bound"


@pytest.mark.slow
def test_what_is_given_another_matrix_each_time_is_not(tmp_path: Path) -> None:
    assert "PD238" not in advised(tmp_path, "another")
