"""Embed sequences with a triplet loss on the hardest pairs of each batch."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Encoder(nn.Module):
    def __init__(self, channels=6, width=64, out=48):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(channels, width, 7, stride=2),
            nn.ReLU(),
            nn.Conv1d(width, width, 5, stride=2),
            nn.ReLU(),
        )
        self.project = nn.Linear(width, out)

    def forward(self, x):
        return nn.functional.normalize(self.project(self.conv(x).mean(-1)), dim=-1)


def hard_triplet_loss(z, labels, margin=0.3):
    distance = (z[:, None] - z[None]).norm(dim=-1)
    same = labels[:, None] == labels[None]
    itself = torch.eye(len(z), dtype=torch.bool)
    farthest = distance.masked_fill(~same | itself, -torch.inf).amax(1)
    nearest = distance.masked_fill(same, torch.inf).amin(1)
    losses = torch.relu(farthest - nearest + margin)
    return losses[farthest.isfinite() & nearest.isfinite()].mean()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--epochs", type=int, default=8)
    ap.add_argument("--batch", type=int, default=32)
    ap.add_argument("--lr", type=float, default=1e-3)
    args = ap.parse_args()
    torch.manual_seed(5)
    labels = torch.arange(640) % 8
    x = torch.randn(640, 6, 128) + torch.sin(labels[:, None, None] * torch.linspace(0, 6, 128))
    loader = DataLoader(TensorDataset(x, labels), args.batch, shuffle=True, drop_last=True)
    encoder = Encoder()
    optimizer = torch.optim.AdamW(encoder.parameters(), args.lr, weight_decay=1e-3)
    for epoch in range(args.epochs):
        running = 0.0
        for batch, y in loader:
            z = encoder(batch)
            loss = hard_triplet_loss(z, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            running += loss.item()
        print(f"epoch {epoch}: loss {running / len(loader):.4f}")


if __name__ == "__main__":
    main()
