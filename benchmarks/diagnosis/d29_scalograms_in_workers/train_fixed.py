"""Bat calls told apart by their scalograms (audio, a small convolutional network)."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

LENGTH, SCALES, SPECIES = 4096, 32, 5


def make_calls(count, seed):
    rng = np.random.default_rng(seed)
    species = rng.integers(0, SPECIES, count)
    t = np.linspace(0, 1, LENGTH)
    sweep = (60 + 25 * species)[:, None] * (1 - 0.5 * t) * t
    calls = np.sin(2 * np.pi * (sweep + rng.random((count, 1)))) * np.exp(-3 * t)
    return (calls + 0.5 * rng.normal(size=(count, LENGTH))).astype(np.float32), species


class BatCalls(Dataset):
    def __init__(self, count, seed):
        self.calls, self.species = make_calls(count, seed)
        frequencies = np.fft.fftfreq(LENGTH)
        centres = np.geomspace(0.01, 0.25, SCALES)[:, None]
        self.bank = np.exp(-0.5 * ((frequencies - centres) / (0.15 * centres)) ** 2)
        self.scalograms = np.stack([self.scalogram(call) for call in self.calls])

    def __len__(self):
        return len(self.calls)

    def scalogram(self, call):
        spectrum = np.fft.fft(call)
        scalogram = np.abs(np.fft.ifft(spectrum * self.bank, axis=1))
        scalogram = np.log1p(scalogram.reshape(SCALES, 64, -1).mean(2))
        return scalogram.astype(np.float32)[None]

    def __getitem__(self, i):
        return self.scalograms[i], self.species[i]


def block(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()
    )


def main():
    torch.manual_seed(0)
    calls = BatCalls(1024, seed=1)
    loader = DataLoader(
        calls,
        batch_size=32,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        prefetch_factor=4,
    )
    model = nn.Sequential(
        block(1, 24),
        block(24, 24),
        nn.MaxPool2d(2),
        block(24, 48),
        block(48, 48),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(48, SPECIES),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in range(4):
        right = 0
        for x, y in loader:
            out = model(x)
            loss = nn.functional.cross_entropy(out, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right += (out.argmax(1) == y).sum().item()
        print(f"epoch {epoch} accuracy {right / len(calls):.3f}")


if __name__ == "__main__":
    main()
