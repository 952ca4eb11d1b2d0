"""Mean-teacher consistency training: the teacher is a moving average of the student."""

import argparse
import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_student(d=64, width=256, depth=60, classes=10):
    layers = [nn.Linear(d, width)]
    for _ in range(depth):
        layers += [nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(width, classes))


class MeanTeacher:
    def __init__(self, student, decay):
        self.model = copy.deepcopy(student).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, student):
        torch._foreach_lerp_(
            list(self.model.parameters()), list(student.parameters()), 1 - self.decay
        )

    @torch.no_grad()
    def __call__(self, x):
        return self.model(x).softmax(-1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--decay", type=float, default=0.99)
    parser.add_argument("--weight", type=float, default=2.0)
    args = parser.parse_args()
    torch.manual_seed(23)
    x = torch.randn(1600, 64)
    y = x[:, :10].argmax(1)
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    student = make_student()
    teacher = MeanTeacher(student, args.decay)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9)
    for epoch in range(args.epochs):
        for xb, yb in loader:
            target = teacher(xb + 0.1 * torch.randn_like(xb))
            logits = student(xb + 0.1 * torch.randn_like(xb))
            loss = nn.functional.cross_entropy(logits, yb)
            loss = loss + args.weight * nn.functional.mse_loss(logits.softmax(-1), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            teacher.update(student)
        print(f"epoch {epoch} loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
