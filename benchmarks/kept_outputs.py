"""What keeping a model's whole outputs for the metrics of a validation costs: a table.

    python benchmarks/kept_outputs.py [--repeats 5]

As transformers' `Trainer` does it: the outputs of each batch are joined to those before, and the
metric is computed with numpy from all of them. Mended: each batch is reduced to what the metric
needs (`preprocess_logits_for_metrics`), and only that is kept. Both give the same metric (compared
first) and are timed in turns. `joined` and `scored` are the parts of the first way's time; `left`
is the second way's time, as a part of both. `PD515` takes from it what goes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Reduce = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Score = Callable[[np.ndarray, np.ndarray], float]


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(-1) == labels).mean())


def accuracy_of_batch(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (logits.argmax(-1) == labels).double()


def log_probability(logits: np.ndarray, labels: np.ndarray) -> float:
    shifted = logits - logits.max(-1, keepdims=True)
    logp = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return float(np.take_along_axis(logp, labels[..., None], -1).mean())


def log_probability_of_batch(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    gold = logits.gather(-1, labels[..., None])[..., 0]
    return gold - logits.logsumexp(-1)


def top_ten(logits: np.ndarray, labels: np.ndarray) -> float:
    gold = np.take_along_axis(logits, labels[..., None], -1)
    return float(((logits > gold).sum(-1) < 10).mean())


def top_ten_of_batch(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    gold = logits.gather(-1, labels[..., None])
    return ((logits > gold).sum(-1) < 10).double()


def intersection_over_union(logits: np.ndarray, labels: np.ndarray) -> float:
    found = logits.argmax(-1)
    both = [((found == c) & (labels == c)).sum() for c in range(logits.shape[-1])]
    one = [((found == c) | (labels == c)).sum() for c in range(logits.shape[-1])]
    return float(np.mean(np.array(both) / np.maximum(1, np.array(one))))


def classes_of_batch(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return logits.argmax(-1) * 1000 + labels


def from_classes(kept: np.ndarray) -> float:
    found, labels = kept // 1000, kept % 1000
    classes = int(labels.max()) + 1
    counts = np.bincount((labels * classes + found).ravel(), minlength=classes**2)
    table = counts.reshape(classes, classes)
    union = table.sum(0) + table.sum(1) - table.diagonal()
    return float(np.mean(table.diagonal() / np.maximum(1, union)))


def mean(kept: np.ndarray) -> float:
    return float(kept.mean())


#: Metric, of a batch, of what is kept, positions of a sample, numbers of a position, batches of 16.
CASES: tuple[tuple[Score, Reduce, Callable[[np.ndarray], float], int, int, int], ...] = (
    (accuracy, accuracy_of_batch, mean, 64, 2000, 20),
    (accuracy, accuracy_of_batch, mean, 32, 8000, 40),
    (log_probability, log_probability_of_batch, mean, 64, 2000, 20),
    (log_probability, log_probability_of_batch, mean, 32, 4000, 40),
    (top_ten, top_ten_of_batch, mean, 64, 2000, 20),
    (top_ten, top_ten_of_batch, mean, 32, 4000, 40),
    (intersection_over_union, classes_of_batch, from_classes, 128 * 128, 8, 20),
    (intersection_over_union, classes_of_batch, from_classes, 64 * 64, 20, 40),
)


def whole(batches: list[Any], score: Score) -> tuple[float, float, float]:
    """Seconds of joining, seconds of the metric, the metric."""
    began = time.perf_counter()
    outputs = labels = None
    for logits, gold in batches:
        outputs = logits if outputs is None else torch.cat((outputs, logits))
        labels = gold if labels is None else torch.cat((labels, gold))
    assert outputs is not None and labels is not None
    joined = time.perf_counter()
    value = score(outputs.numpy(), labels.numpy())
    return joined - began, time.perf_counter() - joined, value


def reduced(batches: list[Any], reduce: Reduce, score: Callable[[np.ndarray], float]) -> Any:
    """Seconds, the metric."""
    began = time.perf_counter()
    kept = torch.cat([reduce(logits, gold) for logits, gold in batches])
    value = score(kept.numpy())
    return time.perf_counter() - began, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(f"{'metric':<26}{'batches':>8}{'numbers':>9}{'joined':>9}{'scored':>9}{'left':>7}")
    lefts = []
    for score, reduce, final, positions, numbers, count in CASES:
        torch.manual_seed(0)
        batches = [
            (torch.randn(16, positions, numbers), torch.randint(0, numbers, (16, positions)))
            for _ in range(count)
        ]
        rows = []
        for _ in range(repeats):
            joined, scored, value = whole(batches, score)
            mended, same = reduced(batches, reduce, final)
            assert abs(value - same) < 1e-4, (value, same)
            rows.append((joined, scored, mended))
        joined, scored, mended = (statistics.median(column) for column in zip(*rows, strict=True))
        left = mended / (joined + scored)
        lefts.append(left)
        print(
            f"{score.__name__.replace('_', ' '):<26}{count:>8}{positions * numbers:>9}"
            f"{joined:>8.2f}s{scored:>8.2f}s{left:>7.2f}"
        )
    print(f"left: {min(lefts):.2f} to {max(lefts):.2f}, median {statistics.median(lefts):.2f}")


if __name__ == "__main__":
    main()
