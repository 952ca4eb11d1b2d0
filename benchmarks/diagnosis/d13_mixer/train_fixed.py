"""MLP-Mixer on small colour images held in memory."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class MixerBlock(nn.Module):
    def __init__(self, tokens, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.tokens = nn.Sequential(nn.Linear(tokens, 96), nn.GELU(), nn.Linear(96, tokens))
        self.channels = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x):
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self, dim=128, depth=4, classes=6):
        super().__init__()
        self.stem = nn.Conv2d(3, dim, 4, stride=4)
        self.blocks = nn.Sequential(*[MixerBlock(64, dim) for _ in range(depth)])
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, classes))

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        return self.head(self.blocks(x).mean(1))


def build(n):
    labels = torch.arange(n) % 6
    images = 0.5 * torch.randn(n, 3, 32, 32)
    for k in range(6):
        images[labels == k, :, 4 * k : 4 * k + 8] += 0.5
    return images, labels


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--batch-size", type=int, default=64)
args = parser.parse_args()

torch.manual_seed(3)
images, labels = build(2560)
train_set = DataLoader(TensorDataset(images[:2304], labels[:2304]), args.batch_size, shuffle=True)
model = Mixer()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
for epoch in range(args.epochs):
    model.train()
    for x, y in train_set:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        accuracy = (model(images[2304:]).argmax(1) == labels[2304:]).float().mean()
    print(f"epoch {epoch} loss {loss:.4f} val acc {accuracy:.3f}")
