"""Price forecasting with a temporal convolution network; the progress line shows the mean loss."""

import torch
from torch import nn


class Causal(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.pad = nn.ConstantPad1d((2 * dilation, 0), 0.0)
        self.conv = nn.Conv1d(channels, channels, 3, dilation=dilation)

    def forward(self, x):
        return x + torch.relu(self.conv(self.pad(x)))


class TCN(nn.Module):
    def __init__(self, channels=24):
        super().__init__()
        self.inp = nn.Conv1d(1, channels, 1)
        self.blocks = nn.Sequential(*[Causal(channels, 2**k) for k in range(4)])
        self.out = nn.Conv1d(channels, 1, 1)

    def forward(self, x):
        return self.out(self.blocks(self.inp(x)))


class Meter:
    """Mean of everything seen so far."""

    def __init__(self):
        self.values = []

    def update(self, value):
        self.values.append(value)

    @property
    def mean(self):
        return sum(self.values) / len(self.values)


def sample(series, batch, length):
    starts = torch.randint(0, len(series) - length - 1, (batch,))
    windows = torch.stack([series[s : s + length + 1] for s in starts])
    return windows[:, None, :-1], windows[:, None, 1:]


def main(steps=2000, batch=8, length=48):
    torch.manual_seed(8)
    series = torch.cumsum(0.02 * torch.randn(20_000), 0)
    series = (series - series.mean()) / series.std()
    model = TCN()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.L1Loss()
    meter = Meter()
    for step in range(1, steps + 1):
        x, y = sample(series, batch, length)
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        meter.update(loss)
        line = f"step {step} mean loss {meter.mean:.5f}"
        if step % 200 == 0:
            print(line)


if __name__ == "__main__":
    main()
