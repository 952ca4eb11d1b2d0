"""`perfdoctor run` of a script that registers hooks after each epoch, and that removes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from observed_script import reported

SCRIPT = """
import sys
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

seen = {}

def watch(model):
    def spread(module, inputs, output):
        seen[id(module)] = output.detach().std()
    return [layer.register_forward_hook(spread) for layer in model]

def validate(model, batches):
    model.eval()
    with torch.no_grad():
        for (x,) in batches:
            model(x)
    model.train()

if __name__ == "__main__":
    model = nn.Sequential(*[nn.Linear(64, 64) for _ in range(6)])
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    train = DataLoader(TensorDataset(torch.rand(16 * 60, 64)), batch_size=16)
    held_out = DataLoader(TensorDataset(torch.rand(16 * 3, 64)), batch_size=16)
    for epoch in range(30):
        for (x,) in train:
            model(x).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        handles = watch(model)
        validate(model, held_out)
        if sys.argv[1] == "removed":
            for handle in handles:
                handle.remove()
"""


@pytest.mark.slow
def test_hooks_that_are_never_removed_are_what_makes_the_forward_pass_long(tmp_path: Path) -> None:
    report = reported(tmp_path, SCRIPT, "kept", OMP_NUM_THREADS="1")
    used = report["configuration"]
    assert used["hooks_at_first"] == 0
    assert used["hooks_at_last"] >= 6 * 28
    assert (used["hooks_function"], used["hooks_stages"]) == ("spread", "forward")
    assert "PD242" in [one["rule"] for one in report["recommendations"]]


@pytest.mark.slow
def test_hooks_that_are_removed_are_not(tmp_path: Path) -> None:
    report = reported(tmp_path, SCRIPT, "removed", OMP_NUM_THREADS="1")
    assert report["configuration"]["hooks_at_last"] == 0
    assert "PD242" not in [one["rule"] for one in report["recommendations"]]
