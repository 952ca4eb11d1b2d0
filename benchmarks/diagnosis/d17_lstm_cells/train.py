"""Adding problem with an LSTM; SGD with momentum written by hand."""

import argparse

import torch
from torch import nn


class CellLSTM(nn.Module):
    def __init__(self, d_in=2, hidden=24):
        super().__init__()
        self.hidden = hidden
        self.cell = nn.LSTMCell(d_in, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        h = x.new_zeros(len(x), self.hidden)
        c = x.new_zeros(len(x), self.hidden)
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], (h, c))
        return self.out(h).squeeze(1)


def adding_problem(batch, length):
    value = torch.rand(batch, length)
    mark = torch.zeros(batch, length)
    half = length // 2
    rows = torch.arange(batch)
    mark[rows, torch.randint(0, half, (batch,))] = 1
    mark[rows, torch.randint(half, length, (batch,))] = 1
    return torch.stack([value, mark], -1), (value * mark).sum(1)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--steps", type=int, default=500)
    ap.add_argument("--length", type=int, default=80)
    ap.add_argument("--lr", type=float, default=0.05)
    ap.add_argument("--momentum", type=float, default=0.9)
    args = ap.parse_args()
    torch.manual_seed(21)
    model = CellLSTM()
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    average = 0.0
    for step in range(1, args.steps + 1):
        x, y = adding_problem(8, args.length)
        loss = (model(x) - y).pow(2).mean()
        loss.backward()
        with torch.no_grad():
            for p, v in zip(model.parameters(), velocity, strict=True):
                v.mul_(args.momentum).add_(p.grad.clamp(-1, 1))
                p -= args.lr * v
                p.grad = None
        average += loss.item()
        if step % 100 == 0:
            print(f"{step}: mse {average / 100:.4f}")
            average = 0.0


if __name__ == "__main__":
    main()
