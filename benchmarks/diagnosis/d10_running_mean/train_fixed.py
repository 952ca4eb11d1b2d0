"""Price forecasting from windows of a series; the progress line shows the mean loss."""

import torch
from torch import nn


class Forecaster(nn.Module):
    def __init__(self, length, width=64):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(length, width),
            nn.Tanh(),
            nn.Linear(width, width),
            nn.Tanh(),
            nn.Linear(width, 1),
        )

    def forward(self, x):
        return x[:, -1] + self.net(x).squeeze(1)


class Meter:
    """Mean of everything seen so far."""

    def __init__(self):
        self.total, self.count = 0.0, 0

    def update(self, value):
        self.total += value
        self.count += 1

    @property
    def mean(self):
        return self.total / self.count


def sample(series, batch, length):
    starts = torch.randint(0, len(series) - length - 1, (batch,))
    windows = torch.stack([series[s : s + length + 1] for s in starts])
    return windows[:, :-1], windows[:, -1]


def main(steps=2200, batch=16, length=48):
    torch.manual_seed(8)
    series = torch.cumsum(0.02 * torch.randn(20_000), 0)
    series = (series - series.mean()) / series.std()
    model = Forecaster(length)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.L1Loss()
    meter = Meter()
    for step in range(1, steps + 1):
        x, y = sample(series, batch, length)
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        meter.update(loss.item())
        if step % 200 == 0:
            print(f"step {step} mean loss {meter.mean:.5f}")


if __name__ == "__main__":
    main()
