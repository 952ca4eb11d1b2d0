"""Search the operations of a small cell with Gumbel-softmax weights."""

import argparse
from itertools import cycle

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def candidates(c):
    return nn.ModuleList(
        [
            nn.Identity(),
            nn.Conv1d(c, c, 3, padding=1),
            nn.Conv1d(c, c, 5, padding=2),
            nn.AvgPool1d(3, 1, 1),
        ]
    )


class SearchNet(nn.Module):
    def __init__(self, c=32, edges=5, classes=4):
        super().__init__()
        self.stem = nn.Conv1d(3, c, 5, padding=2)
        self.edges = nn.ModuleList([candidates(c) for _ in range(edges)])
        self.head = nn.Linear(c, classes)
        self.alpha = nn.Parameter(1e-3 * torch.randn(edges, 4))

    def weights(self):
        return [p for name, p in self.named_parameters() if name != "alpha"]

    def forward(self, x, tau=1.0):
        mix = nn.functional.gumbel_softmax(self.alpha, tau, dim=-1)
        x = self.stem(x)
        for edge, weight in zip(self.edges, mix, strict=True):
            x = torch.relu(sum(w * op(x) for w, op in zip(weight, edge, strict=True)))
        return self.head(x.mean(-1))


def signals(n, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 4, (n,), generator=g)
    t = torch.linspace(0, 6, 64)
    waves = torch.sin(t * (y[:, None, None] + 1))
    return TensorDataset(torch.randn(n, 3, 64, generator=g) + waves, y)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--steps", type=int, default=110)
    p.add_argument("--samples", type=int, default=5, help="draws for one architecture gradient")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--arch-every", type=int, default=20)
    args = p.parse_args()
    torch.manual_seed(19)
    train = DataLoader(signals(1600, 0), args.batch, shuffle=True)
    held_out = DataLoader(signals(1600, 1), args.batch, shuffle=True)
    net = SearchNet()
    w_optimizer = torch.optim.SGD(net.weights(), lr=0.05, momentum=0.9, weight_decay=3e-4)
    a_optimizer = torch.optim.Adam([net.alpha], lr=3e-3, betas=(0.5, 0.999))
    loss_fn = nn.CrossEntropyLoss()

    def architecture_step(x, y):
        grad = torch.zeros_like(net.alpha)
        for _ in range(args.samples):
            grad += torch.autograd.grad(loss_fn(net(x), y), net.alpha)[0]
        net.alpha.grad = grad / args.samples
        a_optimizer.step()

    pairs = zip(cycle(train), cycle(held_out), strict=False)
    for step, ((x, y), (vx, vy)) in enumerate(pairs, 1):
        if step % args.arch_every == 0:
            architecture_step(vx, vy)
        loss = loss_fn(net(x), y)
        w_optimizer.zero_grad()
        loss.backward()
        w_optimizer.step()
        if step % 30 == 0:
            chosen = net.alpha.argmax(-1).tolist()
            print(f"step {step} loss {loss.item():.4f} cell {chosen}")
        if step == args.steps:
            break


if __name__ == "__main__":
    main()
