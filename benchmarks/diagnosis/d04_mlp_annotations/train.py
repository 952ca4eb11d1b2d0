"""Wide-and-deep scorer; the annotations of all items stay in memory for the error report."""

import argparse
import gc

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def load_annotations(n):
    return [
        {"id": i, "tags": [i % 7, i % 11], "box": {"x": i % 640, "y": i % 480}} for i in range(n)
    ]


class Scorer(nn.Module):
    def __init__(self, d_in, hidden):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(d_in, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
        )
        self.score = nn.Linear(hidden, 7)

    def forward(self, x):
        return self.score(self.trunk(x))


def release_memory():
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=4)
    p.add_argument("--items", type=int, default=600_000)
    p.add_argument("--hidden", type=int, default=384)
    p.add_argument("--cleanup-every", type=int, default=50)
    return p.parse_args()


def main():
    args = parse()
    torch.manual_seed(11)
    annotations = load_annotations(args.items)
    features = torch.randn(16_000, 96)
    target = (features[:, :7] + 0.2 * torch.randn(16_000, 7)).argmax(1)
    data = DataLoader(TensorDataset(features, target), batch_size=128, shuffle=True)
    model = Scorer(96, args.hidden)
    optimizer = torch.optim.RAdam(model.parameters(), lr=1e-3)
    worst = {}
    step = 0
    for epoch in range(args.epochs):
        correct = 0
        for x, y in data:
            logits = model(x)
            losses = nn.functional.cross_entropy(logits, y, reduction="none")
            optimizer.zero_grad()
            losses.mean().backward()
            optimizer.step()
            correct += (logits.argmax(1) == y).sum().item()
            worst[step] = annotations[int(losses.argmax())]["id"]
            step += 1
            if step % args.cleanup_every == 0:
                release_memory()
        print(f"epoch {epoch}: accuracy {correct / len(features):.3f}, {len(worst)} noted")


if __name__ == "__main__":
    main()
