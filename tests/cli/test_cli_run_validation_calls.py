"""`perfdoctor run` of scripts that generate from the whole prefix, and that validate one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
from observed_script import reported

PREFIX = """
import sys
import torch
from torch import nn

class Writer(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(40, 32), nn.Linear(96, 40)
        self.rnn = nn.GRU(32, 96, batch_first=True)

    def forward(self, tokens, state=None):
        states, state = self.rnn(self.table(tokens), state)
        return self.out(states), state

@torch.no_grad()
def write(model, kept):
    model.eval()
    tokens, state = torch.zeros(48, 1, dtype=torch.long), None
    for _ in range(40):
        if kept:
            logits, state = model(tokens[:, -1:], state)
        else:
            logits, _ = model(tokens)
        tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], 1)
    model.train()
    return tokens

if __name__ == "__main__":
    torch.manual_seed(0)
    model = Writer()
    optimizer = torch.optim.Adam(model.parameters())
    for epoch in range(4):
        for _ in range(15):
            tokens = torch.randint(0, 40, (32, 21))
            logits, _ = model(tokens[:, :-1])
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for _ in range(3):
            write(model, sys.argv[1] == "kept")
"""

ONE = """
import sys
import torch
from torch import nn

def evaluate(model, series, rows):
    model.eval()
    error = 0.0
    with torch.no_grad():
        for i in range(0, len(series), rows):
            error = error + model(series[i : i + rows]).abs().sum().item()
    model.train()
    return error

if __name__ == "__main__":
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(12)])
    optimizer = torch.optim.Adam(model.parameters())
    series = torch.rand(640, 64)
    for epoch in range(4):
        for _ in range(40):
            loss = model(torch.rand(64, 64)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        evaluate(model, series, 1 if sys.argv[1] == "one" else 64)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("word", "said"), [("again", True), ("kept", False)])
def test_a_prefix_that_is_computed_again_is_told(tmp_path: Path, word: str, said: bool) -> None:
    report = reported(tmp_path, PREFIX, word, OMP_NUM_THREADS="1")
    used = report["configuration"]
    if said:
        assert (used["prefix_calls"], used["prefix_first"], used["prefix_in"]) == (40, 1, "write")
    else:
        assert used["prefix_calls"] == 0
    assert used["alone_calls"] == 0
    assert ("PD511" in [one["rule"] for one in report["recommendations"]]) is said


@pytest.mark.slow
@pytest.mark.parametrize(("word", "said"), [("one", True), ("several", False)])
def test_validation_of_one_sample_after_another_is_told(
    tmp_path: Path, word: str, said: bool
) -> None:
    report = reported(tmp_path, ONE, word, OMP_NUM_THREADS="1")
    used = report["configuration"]
    assert (used["alone_calls"] > 0) is said
    assert used.get("alone_in") == ("evaluate" if said else None)
    assert ("PD512" in [one["rule"] for one in report["recommendations"]]) is said


RANKED = """
import sys
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

def evaluate(model, loader):
    model.eval()
    hits = 0
    with torch.no_grad():
        for candidates, right in loader:
            rows, among = candidates.shape[:2]
            scores = model(candidates.flatten(0, 1)).view(rows, among)
            hits += int((scores.argmax(1) == right).sum())
    model.train()
    return hits

if __name__ == "__main__":
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Sequential(nn.Linear(32, 32), nn.ReLU()) for _ in range(8)])
    model.append(nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters())
    users = TensorDataset(torch.rand(1200, 10, 32), torch.randint(0, 10, (1200,)))
    loader = DataLoader(users, batch_size=1 if sys.argv[1] == "one" else 100)
    for epoch in range(4):
        for _ in range(40):
            loss = model(torch.rand(512, 32)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        evaluate(model, loader)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("word", "said"), [("one", True), ("several", False)])
def test_validation_in_small_batches_is_told(tmp_path: Path, word: str, said: bool) -> None:
    report = reported(tmp_path, RANKED, word, OMP_NUM_THREADS="1")
    used = report["configuration"]
    assert used["alone_calls"] == 0
    assert used["validation_batch_size"] == (1 if said else 100)
    assert used["validation_batches"] == (1200 if said else 12)
    assert ("PD514" in [one["rule"] for one in report["recommendations"]]) is said
