"""Denoise small grey images with a U-Net."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def blobs(n, size, seed):
    g = torch.Generator().manual_seed(seed)
    axis = torch.linspace(-1, 1, size)
    yy, xx = torch.meshgrid(axis, axis, indexing="ij")
    centre = torch.rand(n, 2, 1, 1, generator=g) * 1.2 - 0.6
    width = torch.rand(n, 1, 1, generator=g) * 0.2 + 0.1
    clean = torch.exp(-((xx - centre[:, 0]) ** 2 + (yy - centre[:, 1]) ** 2) / width**2)
    noisy = clean + 0.3 * torch.randn(n, size, size, generator=g)
    return TensorDataset(noisy[:, None], clean[:, None])


def double_conv(a, b):
    return nn.Sequential(
        nn.Conv2d(a, b, 3, padding=1),
        nn.BatchNorm2d(b),
        nn.ReLU(inplace=True),
        nn.Conv2d(b, b, 3, padding=1),
        nn.BatchNorm2d(b),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, base=8):
        super().__init__()
        self.down1 = double_conv(1, base)
        self.down2 = double_conv(base, base * 2)
        self.bottom = double_conv(base * 2, base * 4)
        self.up2 = nn.ConvTranspose2d(base * 4, base * 2, 2, stride=2)
        self.dec2 = double_conv(base * 4, base * 2)
        self.up1 = nn.ConvTranspose2d(base * 2, base, 2, stride=2)
        self.dec1 = double_conv(base * 2, base)
        self.head = nn.Conv2d(base, 1, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(self.pool(a))
        c = self.bottom(self.pool(b))
        b = self.dec2(torch.cat([self.up2(c), b], 1))
        a = self.dec1(torch.cat([self.up1(b), a], 1))
        return self.head(a)


def evaluate(model, loader, criterion):
    model.eval()
    total, n = 0.0, 0
    with torch.no_grad():
        for noisy, clean in loader:
            total += criterion(model(noisy), clean).item() * len(noisy)
            n += len(noisy)
    model.train()
    return total / n


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--eval-every", type=int, default=5)
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args()
    torch.manual_seed(7)

    train_loader = DataLoader(
        blobs(640, 32, 0), args.batch_size, shuffle=True, generator=torch.Generator().manual_seed(1)
    )
    val_loader = DataLoader(blobs(512, 32, 1), args.batch_size)
    model = UNet()
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    best, step = float("inf"), 0
    while step < args.steps:
        for noisy, clean in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(noisy), clean)
            loss.backward()
            optimizer.step()
            step += 1
            if step % args.eval_every == 0:
                val = evaluate(model, val_loader, criterion)
                best = min(best, val)
                print(f"step {step}: train {loss.item():.4f} val {val:.4f} best {best:.4f}")
            if step == args.steps:
                break


if __name__ == "__main__":
    main()
