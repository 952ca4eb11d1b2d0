"""One pass over a stream of windows, shuffled through a buffer."""

import argparse
import random

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset


class Windows(IterableDataset):
    """Fills a shuffle buffer first, then swaps one element for each that is read."""

    def __init__(self, total, buffer, length=48, channels=24):
        self.total, self.buffer, self.length, self.channels = total, buffer, length, channels

    def read(self):
        g = torch.Generator().manual_seed(0)
        for k in range(self.total):
            window = torch.randn(self.length, self.channels, generator=g)
            window = (window - window.mean()) / window.std()
            yield window + (k % 5) * 0.2, k % 5

    def __iter__(self):
        rng, held = random.Random(0), []
        for item in self.read():
            if len(held) < self.buffer:
                held.append(item)
                continue
            k = rng.randrange(self.buffer)
            held[k], item = item, held[k]
            yield item
        rng.shuffle(held)
        yield from held


class Attend(nn.Module):
    def __init__(self, channels=24, d=128, classes=5):
        super().__init__()
        self.lift = nn.Linear(channels, d)
        layer = nn.TransformerEncoderLayer(d, 4, 256, 0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(d, classes)

    def forward(self, x):
        return self.head(self.encoder(self.lift(x)).mean(1))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--windows", type=int, default=40_000 + 12_000)
    p.add_argument("--buffer", type=int, default=40_000)
    p.add_argument("--steps", type=int, default=160)
    p.add_argument("--batch-size", type=int, default=32)
    a = p.parse_args()
    torch.manual_seed(0)
    stream = DataLoader(Windows(a.windows, a.buffer), batch_size=a.batch_size)
    net = Attend()
    opt = torch.optim.AdamW(net.parameters(), lr=3e-4)
    smooth = None
    for step, (x, y) in enumerate(stream, 1):
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        smooth = loss.item() if smooth is None else 0.95 * smooth + 0.05 * loss.item()
        if step % 40 == 0:
            print(f"{step:5d} {smooth:.4f}")
        if step >= a.steps:
            break


if __name__ == "__main__":
    main()
