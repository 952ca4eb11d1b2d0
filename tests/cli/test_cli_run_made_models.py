"""`perfdoctor run` of an architecture search that makes a whole model in each unrolled step, and of
one that makes it once."""

from __future__ import annotations

from pathlib import Path

import pytest
from observed_script import reported

SCRIPT = """
import sys
import torch
from torch import nn

class Mixed(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.ways = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
    def forward(self, x, shares):
        return sum(share * way(x) for share, way in zip(shares, self.ways))

class Supernet(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.sizes = width, depth
        self.layers = nn.ModuleList(Mixed(width) for _ in range(depth))
        self.choice = nn.Parameter(torch.zeros(depth, 3))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.05)
    def other(self):
        return Supernet(*self.sizes)
    def forward(self, x):
        for layer, shares in zip(self.layers, self.choice.softmax(-1)):
            x = torch.relu(layer(x, shares))
        return x

class Search:
    def __init__(self, model, once):
        self.model = model
        self.kept = model.other() if once else None
        self.optimizer = torch.optim.Adam([model.choice], 1e-3)
    def ahead(self, x, y):
        weights = dict(self.model.named_parameters())
        loss = (self.model(x) - y).square().mean()
        grads = torch.autograd.grad(loss, list(weights.values()))
        if self.kept is not None:
            twin = self.kept
        else:
            twin = self.model.other()
        twin.load_state_dict({n: w - 0.1 * g for (n, w), g in zip(weights.items(), grads)})
        return twin
    def step(self, x, y):
        twin = self.ahead(x, y)
        loss = (twin(x) - y).square().mean()
        self.model.choice.grad, = torch.autograd.grad(loss, [twin.choice])
        self.optimizer.step()

if __name__ == "__main__":
    torch.manual_seed(0)
    model = Supernet(128, 4)
    search = Search(model, sys.argv[1] == "once")
    weights = [w for n, w in model.named_parameters() if n != "choice"]
    optimizer = torch.optim.SGD(weights, 0.01)
    for step in range(120):
        x, y = torch.rand(16, 128), torch.rand(16, 128)
        search.step(x, y)
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
"""


@pytest.mark.slow
def test_a_model_that_each_architecture_step_makes_is_told_before_rarer_steps(
    tmp_path: Path,
) -> None:
    report = reported(tmp_path, SCRIPT, "anew", OMP_NUM_THREADS="1")
    first = report["recommendations"][0]
    assert (first["rule"], first["stage"], first["safety"]) == ("PD243", "arch_step", "exact")
    assert "train.py:23 makes a new `Supernet` again and again, to overwrite" in first["title"]
    made = [line for line in report["hotspots"] if line["makes"]]
    assert [line["line"] for line in made] == [23]
    rarer = next(one for one in report["recommendations"] if one["rule"] == "PD402")
    assert rarer["optional"]


@pytest.mark.slow
def test_one_that_is_made_once_is_not(tmp_path: Path) -> None:
    report = reported(tmp_path, SCRIPT, "once", OMP_NUM_THREADS="1")
    assert "PD243" not in {one["rule"] for one in report["recommendations"]}
    assert not any(line["makes"] for line in report["hotspots"])
