"""Hard-example curriculum: batches are drawn by difficulty and the examples used are remembered."""

import torch
from torch import nn


class Curriculum:
    def __init__(self, size, batch_size):
        self.difficulty = torch.ones(size)
        self.batch_size = batch_size
        self.seen = []

    def next(self):
        return torch.multinomial(self.difficulty, self.batch_size, replacement=False)

    def update(self, index, losses):
        self.difficulty[index] = losses.clamp(0.05, 5.0)
        new = 0
        for i in index.tolist():
            if i not in self.seen:
                self.seen.append(i)
                new += 1
        return new


class Net(nn.Module):
    def __init__(self, d, width=256):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(d, width), nn.Linear(width, width), nn.Linear(width, 3)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        x = torch.relu(self.a(x))
        x = x + torch.relu(self.b(self.drop(x)))
        return self.c(x)


def main(steps=500, size=60_000):
    torch.manual_seed(13)
    x = torch.randn(size, 40)
    y = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 1).long()
    curriculum = Curriculum(size, 64)
    net = Net(40)
    optimizer = torch.optim.Adamax(net.parameters(), lr=2e-3)
    fresh = 0
    for step in range(steps):
        index = curriculum.next()
        losses = nn.functional.cross_entropy(net(x[index]), y[index], reduction="none")
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
        fresh += curriculum.update(index, losses.detach())
        if (step + 1) % 100 == 0:
            print(f"{step + 1:4d} loss {losses.mean().item():.4f} examples used {fresh}")


if __name__ == "__main__":
    main()
