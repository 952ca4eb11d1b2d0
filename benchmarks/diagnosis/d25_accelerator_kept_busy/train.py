"""Depth from aerial tiles. The accelerator is far away: here its work is a pause.

With the arithmetic elsewhere, the two cores of this machine are free for many waiting workers.
"""

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Tiles(Dataset):
    """Each read waits for a disk that many share."""

    SEEK_S = 0.004

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        time.sleep(self.SEEK_S)
        g = torch.Generator().manual_seed(i)
        tile = torch.rand(3, 16, 16, generator=g)
        return tile, tile.mean(0, keepdim=True)


class Remote(nn.Module):
    """A model whose arithmetic happens elsewhere, and takes so long, both ways."""

    KERNELS_S = 0.080

    def __init__(self):
        super().__init__()
        self.net = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, tiles):
        time.sleep(self.KERNELS_S)
        return self.net(tiles)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--epochs", type=int, default=3)
    ap.add_argument("--tiles", type=int, default=800)
    ap.add_argument("--workers", type=int, default=3)
    args = ap.parse_args()
    torch.manual_seed(2)
    feed = DataLoader(
        Tiles(args.tiles), 16, shuffle=True, num_workers=args.workers, persistent_workers=True
    )
    device = Remote()
    adam = torch.optim.Adam(device.parameters(), lr=1e-2)
    for epoch in range(args.epochs):
        for tiles, depth in feed:
            estimate = device(tiles)
            error = nn.functional.l1_loss(estimate, depth)
            adam.zero_grad()
            error.backward()
            adam.step()
        print(f"epoch {epoch}: {error.item():.4f}")


if __name__ == "__main__":
    main()
