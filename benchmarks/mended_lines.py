"""How much of Python's time is left when it is written with whole tensors: a table of both.

    python benchmarks/mended_lines.py [--repeats 15]

Work as it is found in training scripts, line by line in Python and as an expert would write it,
on the same data, with the same result (compared first). Both are timed in turns in one thread.
The rules that predict what mending a line brings (`perfdoctor/rules/mended.py`) take what goes:
the median of the cases, and what nine of ten of them reach.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

Case = tuple[Callable[[], Any], Callable[[], Any]]
CASES: dict[str, Callable[[], Case]] = {}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    CASES[make.__name__.replace("_", " ")] = make
    return make


@case
def contrastive_loss_over_pairs() -> Case:
    z, labels = torch.randn(48, 32, requires_grad=True), torch.randint(0, 6, (48,))

    def slow() -> Any:
        losses = []
        for i in range(len(z)):
            for j in range(i + 1, len(z)):
                d = (z[i] - z[j]).pow(2).sum().add(1e-6).sqrt()
                losses.append(d if labels[i] == labels[j] else (1 - d).clamp(min=0))
        return torch.autograd.grad(torch.stack(losses).mean(), z)[0]

    def mended() -> Any:
        i, j = torch.triu_indices(len(z), len(z), 1)
        d = (z[i] - z[j]).pow(2).sum(1).add(1e-6).sqrt()
        losses = torch.where(labels[i] == labels[j], d, (1 - d).clamp(min=0))
        return torch.autograd.grad(losses.mean(), z)[0]

    return slow, mended


@case
def dice_loss_class_by_class() -> Case:
    scores = torch.rand(8, 20, 32, 32, requires_grad=True)
    labels = torch.randint(0, 20, (8, 32, 32))

    def slow() -> Any:
        total = torch.zeros(())
        for n in range(len(scores)):
            for c in range(scores.shape[1]):
                mask = (labels[n] == c).float()
                inside = (scores[n, c] * mask).sum()
                total = total + 1 - 2 * inside / (scores[n, c].sum() + mask.sum() + 1)
        return torch.autograd.grad(total / len(scores) / scores.shape[1], scores)[0]

    def mended() -> Any:
        mask = nn.functional.one_hot(labels, scores.shape[1]).permute(0, 3, 1, 2).float()
        inside = (scores * mask).sum((2, 3))
        dice = 1 - 2 * inside / (scores.sum((2, 3)) + mask.sum((2, 3)) + 1)
        return torch.autograd.grad(dice.mean(), scores)[0]

    return slow, mended


@case
def moving_average_of_the_model_by_copies() -> Case:
    student = nn.Sequential(*[nn.Linear(128, 128) for _ in range(12)])
    teachers = [copy.deepcopy(student).requires_grad_(False) for _ in range(2)]

    def slow() -> Any:
        averaged = copy.deepcopy(teachers[0])
        state, new = averaged.state_dict(), student.state_dict()
        for key in state:
            state[key] = 0.99 * state[key] + 0.01 * new[key]
        averaged.load_state_dict(state)
        return averaged.state_dict()["0.weight"]

    @torch.no_grad()
    def mended() -> Any:
        torch._foreach_lerp_(list(teachers[1].parameters()), list(student.parameters()), 0.01)
        return teachers[1][0].weight

    return slow, mended


@case
def gradient_norm_tensor_by_tensor() -> Case:
    grads = [torch.randn(64, 64) for _ in range(60)]

    def slow() -> Any:
        total = 0.0
        for grad in grads:
            total += grad.norm().item() ** 2
        return torch.tensor(total**0.5)

    def mended() -> Any:
        return torch.stack(torch._foreach_norm(grads)).norm()

    return slow, mended


@case
def momentum_update_tensor_by_tensor() -> Case:
    sizes = [64] * 80
    tensors = [[torch.randn(n, n) for n in sizes] for _ in range(6)]
    grads = [torch.randn(n, n) for n in sizes]

    @torch.no_grad()
    def slow() -> Any:
        for p, m, g in zip(tensors[0], tensors[1], grads, strict=True):
            m.mul_(0.9).add_(g)
            p.sub_(0.01 * m)

    @torch.no_grad()
    def mended() -> Any:
        torch._foreach_mul_(tensors[3], 0.9)
        torch._foreach_add_(tensors[3], grads)
        torch._foreach_add_(tensors[2], tensors[3], alpha=-0.01)

    return slow, mended


@case
def collating_element_by_element() -> Case:
    rows = [[random.randrange(1, 500) for _ in range(random.randrange(20, 60))] for _ in range(32)]
    tensors = [torch.tensor(row) for row in rows]

    def slow() -> Any:
        padded = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for i, row in enumerate(rows):
            for j, token in enumerate(row):
                padded[i, j] = token
        return padded

    return slow, lambda: nn.utils.rnn.pad_sequence(tensors, batch_first=True)


@case
def samples_taken_one_by_one() -> Case:
    inputs, targets = torch.randn(4096, 64), torch.randint(0, 9, (4096,))
    rows = torch.randperm(4096)[:128]

    def slow() -> Any:
        samples = [(inputs[i], targets[i]) for i in rows.tolist()]
        return torch.stack([x for x, _ in samples])

    return slow, lambda: inputs[rows]


@case
def adjacency_from_a_list_of_edges() -> Case:
    edges = [(random.randrange(200), random.randrange(200)) for _ in range(1500)]
    index = torch.tensor(edges)

    def slow() -> Any:
        adjacency = torch.zeros(200, 200)
        for a, b in edges:
            adjacency[a, b] = 1.0
            adjacency[b, a] = 1.0
        return adjacency / adjacency.sum(1, keepdim=True).clamp(min=1)

    def mended() -> Any:
        adjacency = torch.zeros(200, 200)
        adjacency[index[:, 0], index[:, 1]] = 1.0
        adjacency[index[:, 1], index[:, 0]] = 1.0
        return adjacency / adjacency.sum(1, keepdim=True).clamp(min=1)

    return slow, mended


@case
def neighbours_by_a_loop_over_points() -> Case:
    points = torch.rand(96, 3)

    def slow() -> Any:
        nearest = []
        for i in range(len(points)):
            distance = (points - points[i]).pow(2).sum(1)
            distance[i] = torch.inf
            nearest.append(distance.argmin())
        return torch.stack(nearest)

    def mended() -> Any:
        distance = (points[:, None] - points[None]).pow(2).sum(2)
        return distance.fill_diagonal_(torch.inf).argmin(1)

    return slow, mended


@case
def words_counted_in_a_list() -> Case:
    documents = [[random.randrange(800) for _ in range(120)] for _ in range(50)]
    arrays = [torch.tensor(words) for words in documents]

    def slow() -> Any:
        rows = []
        for words in documents:
            row = [0.0] * 800
            for word in words:
                row[word] += 1.0
            rows.append(row)
        return torch.tensor(rows)

    def mended() -> Any:
        return torch.stack([torch.bincount(a, minlength=800) for a in arrays]).float()

    return slow, mended


@case
def confusion_matrix_sample_by_sample() -> Case:
    said, truth = torch.randint(0, 10, (512,)), torch.randint(0, 10, (512,))

    def slow() -> Any:
        table = torch.zeros(10, 10, dtype=torch.long)
        for s, t in zip(said, truth, strict=True):
            table[t.item(), s.item()] += 1
        return table

    return slow, lambda: torch.bincount(truth * 10 + said, minlength=100).view(10, 10)


@case
def edit_distance() -> Case:
    a, b = ([random.randrange(30) for _ in range(60)] for _ in range(2))
    x, y = np.array(a), np.array(b)

    def slow() -> Any:
        row = list(range(len(b) + 1))
        for i, one in enumerate(a, 1):
            last, row[0] = row[0], i
            for j, other in enumerate(b, 1):
                last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (one != other))
        return torch.tensor(row[-1])

    def mended() -> Any:
        row, steps = np.arange(len(y) + 1), np.arange(len(y) + 1)
        for one in x:
            new = np.minimum(row + 1, np.append(row[0] + 1, row[:-1] + (y != one)))
            row = np.minimum.accumulate(new - steps) + steps
        return torch.tensor(int(row[-1]))

    return slow, mended


@case
def overlap_of_boxes_pair_by_pair() -> Case:
    corners = torch.rand(40, 2) * 50
    boxes = torch.cat([corners, corners + 5 + 20 * torch.rand(40, 2)], 1)

    def slow() -> Any:
        table = torch.zeros(40, 40)
        lists = boxes.tolist()
        for i, p in enumerate(lists):
            for j, q in enumerate(lists):
                w = max(0.0, min(p[2], q[2]) - max(p[0], q[0]))
                h = max(0.0, min(p[3], q[3]) - max(p[1], q[1]))
                both = (p[2] - p[0]) * (p[3] - p[1]) + (q[2] - q[0]) * (q[3] - q[1])
                table[i, j] = w * h / (both - w * h)
        return table

    def mended() -> Any:
        low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
        high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        shared = (high - low).clamp(min=0).prod(2)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        return shared / (area[:, None] + area[None] - shared)

    return slow, mended


@case
def seen_before_looked_up_in_a_list() -> Case:
    known, new = random.sample(range(9000), 2000), random.sample(range(9000), 64)
    kept = set(known)
    return (
        lambda: torch.tensor([n in known for n in new]),
        lambda: torch.tensor([n in kept for n in new]),
    )


@case
def mean_of_all_losses_so_far() -> Case:
    losses = [torch.rand(()) for _ in range(1000)]
    total, count = torch.stack(losses[:-1]).sum().item(), len(losses)
    return (
        lambda: sum(losses) / len(losses),
        lambda: torch.tensor((total + losses[-1].item()) / count),
    )


@case
def windows_cut_one_by_one() -> Case:
    series = torch.randn(600, 8)
    return (
        lambda: torch.stack([series[i : i + 32] for i in range(len(series) - 31)]),
        lambda: series.unfold(0, 32, 1).transpose(1, 2).contiguous(),
    )


@case
def rows_scaled_one_by_one() -> Case:
    rows = np.random.default_rng(0).normal(size=(256, 24))
    mean, std = rows.mean(0), rows.std(0)
    return (
        lambda: torch.from_numpy(np.stack([(row - mean) / std for row in rows])),
        lambda: torch.from_numpy((rows - mean) / std),
    )


@case
def numbers_parsed_from_text() -> Case:
    text = ",".join(f"{v:.5f}" for v in np.random.default_rng(0).normal(size=4096))
    return (
        lambda: torch.from_numpy(np.array([float(v) for v in text.split(",")], dtype=np.float32)),
        lambda: torch.from_numpy(np.array(text.split(","), dtype=np.float32)),
    )


@case
def recurrent_cell_called_in_a_loop() -> Case:
    cell, whole = nn.LSTMCell(24, 32), nn.LSTM(24, 32, batch_first=True)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(whole, f"{name}_l0").data.copy_(getattr(cell, name).data)
    x = torch.randn(16, 40, 24)

    def slow() -> Any:
        h = c = torch.zeros(16, 32)
        for t in range(x.shape[1]):
            h, c = cell(x[:, t], (h, c))
        return torch.autograd.grad(h.sum(), cell.weight_ih)[0]

    def mended() -> Any:
        return torch.autograd.grad(whole(x)[0][:, -1].sum(), whole.weight_ih_l0)[0]

    return slow, mended


@case
def attention_head_by_head() -> Case:
    q, k, v = (torch.randn(8, 12, 48, 16, requires_grad=True) for _ in range(3))

    def slow() -> Any:
        heads = []
        for h in range(q.shape[1]):
            scores = q[:, h] @ k[:, h].transpose(1, 2) / 4
            heads.append(scores.softmax(-1) @ v[:, h])
        return torch.autograd.grad(torch.stack(heads, 1).sum(), v)[0]

    def mended() -> Any:
        out = nn.functional.scaled_dot_product_attention(q, k, v)
        return torch.autograd.grad(out.sum(), v)[0]

    return slow, mended


def left(make: Callable[[], Case], repeats: int) -> tuple[float, float]:
    """Seconds as found, and the part of them that is left; medians of turns."""
    slow, mended = make()
    first, second = slow(), mended()
    if first is not None:
        torch.testing.assert_close(first, second, check_dtype=False, rtol=1e-3, atol=1e-4)
    spent_s: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for work, column in ((slow, spent_s[0]), (mended, spent_s[1])):
            began = time.perf_counter()
            work()
            column.append(time.perf_counter() - began)
    before_s, after_s = (statistics.median(column) for column in spent_s)
    return before_s, after_s / before_s


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    found = {name: left(make, repeats) for name, make in CASES.items()}
    print("| work | as found | left |\n|---|---|---|")
    for name, (before_s, part) in sorted(found.items(), key=lambda item: item[1][1]):
        print(f"| {name} | {1e3 * before_s:.2f} ms | {part:.1%} |")
    parts = sorted(part for _, part in found.values())
    ninth = parts[round(0.9 * (len(parts) - 1))]
    print(f"\n{len(parts)} cases: median left {statistics.median(parts):.1%}; ", end="")
    print(f"nine of ten leave at most {ninth:.1%}")


if __name__ == "__main__":
    main()
