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


def distance(a, b):
    return (a - b).norm()


def hard_triplet_loss(z, labels, margin=0.3):
    losses = []
    for i in range(len(z)):
        farthest, nearest = None, None
        for j in range(len(z)):
            if i == j:
                continue
            d = distance(z[i], z[j])
            if labels[i] == labels[j]:
                if farthest is None or d > farthest:
                    farthest = d
            elif nearest is None or d < nearest:
                nearest = d
        if farthest is not None and nearest is not None:
            losses.append(torch.relu(farthest - nearest + margin))
    return torch.stack(losses).mean()


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
