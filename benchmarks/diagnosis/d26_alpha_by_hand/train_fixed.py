"""Which of three filters each layer takes: weights and their mixture, learned in turn."""

import torch
from torch import nn

STEPS, BATCH, DRAWS, RATE, EVERY = 160, 32, 4, 0.05, 20


class Mixed(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ways = nn.ModuleList(nn.Conv1d(c, c, k, padding=k // 2) for k in (1, 3, 7))

    def forward(self, x, weights):
        return sum(w * way(x) for w, way in zip(weights, self.ways, strict=True))


class Net(nn.Module):
    def __init__(self, c=40, depth=4):
        super().__init__()
        self.stem = nn.Conv1d(2, c, 3, padding=1)
        self.layers = nn.ModuleList(Mixed(c) for _ in range(depth))
        self.head = nn.Linear(c, 5)
        # not parameters: no optimizer is to touch them
        self.mixture = [torch.zeros(3, requires_grad=True) for _ in range(depth)]

    def forward(self, x):
        x = self.stem(x)
        for layer, logits in zip(self.layers, self.mixture, strict=True):
            x = torch.relu(layer(x, logits.softmax(0)))
        return self.head(x.mean(-1))


def waves(n, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 5, (n,), generator=g)
    t = torch.linspace(0, 9, 96)
    x = torch.stack([torch.sin(t * (y[:, None] + 1)), torch.cos(t * (y[:, None] + 1))], 1)
    return x + torch.randn(x.shape, generator=g), y


def take(data, step):
    x, y = data
    start = step * BATCH % (len(y) - BATCH)
    return x[start : start + BATCH], y[start : start + BATCH]


def search(net, held_out, step, criterion):
    total = [torch.zeros(3) for _ in net.mixture]
    for draw in range(DRAWS):
        vx, vy = take(held_out, step * DRAWS + draw)
        for sums, g in zip(
            total, torch.autograd.grad(criterion(net(vx), vy), net.mixture), strict=True
        ):
            sums += g / DRAWS
    with torch.no_grad():
        for logits, g in zip(net.mixture, total, strict=True):
            logits -= RATE * g


torch.manual_seed(4)
train, held_out = waves(2000, 0), waves(2000, 1)
net, criterion = Net(), nn.CrossEntropyLoss()
sgd = torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9)
for step in range(STEPS):
    if step % EVERY == 0:
        search(net, held_out, step, criterion)
    x, y = take(train, step)
    loss = criterion(net(x), y)
    sgd.zero_grad()
    loss.backward()
    sgd.step()
    if step % 40 == 39:
        print(f"{step + 1}: {loss.item():.4f} {[int(m.argmax()) for m in net.mixture]}")
