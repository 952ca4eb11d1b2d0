"""Writes an imagenet-style log: `python benchmarks/make_log.py 1000000 OUT.log`.

Lines and their variation are those of PyTorch's ImageNet example; about 140 bytes each.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

STEPS_PER_EPOCH = 5_005
_PART = 50_000


def write(path: Path, lines: int, seed: int = 0) -> None:
    """`lines` steps; the step time drifts, waits for data now and then, and stalls."""
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="ascii", buffering=2**20) as out:
        for start in range(0, lines, _PART):
            count = min(_PART, lines - start)
            out.write("".join(_lines(rng, start, count)))


def _lines(rng: np.random.Generator, start: int, count: int) -> list[str]:
    time_s = 0.25 * np.exp(rng.normal(0, 0.05, count)) * (1 + 0.2 * (start > 300_000))
    data_s = np.where(rng.random(count) < 0.02, rng.exponential(0.8, count), 0.002)
    time_s = time_s + data_s
    loss = 7 * np.exp(-(start + np.arange(count)) / 400_000) + rng.normal(0, 0.1, count)
    top = np.clip(rng.normal(60, 12, (count, 2)), 0, 100)
    columns = (time_s.tolist(), data_s.tolist(), loss.tolist(), top.tolist())
    found = []
    for i, (t, d, x, (top1, top5)) in enumerate(zip(*columns, strict=True)):
        epoch, step = divmod(start + i, STEPS_PER_EPOCH)
        found.append(
            f"Epoch: [{epoch}][{step:4d}/{STEPS_PER_EPOCH}]\tTime {t:6.3f} ({0.27:6.3f})\t"
            f"Data {d:6.3f} ({0.018:6.3f})\tLoss {x:.4e} ({4.2:.4e})\t"
            f"Acc@1 {top1:6.2f} ({55.0:6.2f})\tAcc@5 {top5:6.2f} ({78.0:6.2f})\n"
        )
    return found


if __name__ == "__main__":
    write(Path(sys.argv[2]), int(sys.argv[1]))
