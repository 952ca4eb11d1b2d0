"""Regress joint angles from key points; short epochs, loader workers started by spawn."""

import argparse
import math

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class KeyPoints(Dataset):
    def __init__(self, n, joints=24, seed=0):
        g = torch.Generator().manual_seed(seed)
        self.angles = (torch.rand(n, joints, generator=g) - 0.5) * math.pi
        self.jitter = 0.01

    def __len__(self):
        return len(self.angles)

    def __getitem__(self, i):
        angles = self.angles[i]
        reach = torch.cumsum(angles, 0)
        points = torch.stack([reach.cos().cumsum(0), reach.sin().cumsum(0)], -1)
        return points.flatten() * (1 + self.jitter), angles


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width)
        )

    def forward(self, x):
        return x + self.body(x)


class Trainer:
    def __init__(self, model, loader, lr):
        self.model, self.loader = model, loader
        self.optimizer = torch.optim.NAdam(model.parameters(), lr=lr)

    def run_epoch(self):
        total = 0.0
        for points, angles in self.loader:
            loss = nn.functional.smooth_l1_loss(self.model(points), angles)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.loader)

    def fit(self, epochs):
        for epoch in range(1, epochs + 1):
            print(f"epoch {epoch:2d}  loss {self.run_epoch():.4f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--frames", type=int, default=1024)
    args = parser.parse_args()
    torch.manual_seed(2)
    loader = DataLoader(
        KeyPoints(args.frames),
        batch_size=32,
        shuffle=True,
        num_workers=2,
        multiprocessing_context="spawn",
        persistent_workers=True,
    )
    model = nn.Sequential(
        nn.Linear(48, 192), *[Residual(192) for _ in range(4)], nn.Linear(192, 24)
    )
    Trainer(model, loader, 1e-3).fit(args.epochs)


if __name__ == "__main__":
    main()
