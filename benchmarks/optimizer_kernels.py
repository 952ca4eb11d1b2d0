"""How much faster `fused=True` makes torch's optimizers on a CPU.

    python benchmarks/optimizer_kernels.py [--repeats 9]

Updates of 10, 100 and 400 tensors of one size, with the default (tensor by tensor) and with
`fused=True` in turns, by the processor time of one thread. The rule PD401 predicts with these
figures where it cannot try (`perfdoctor/rules/run_optimizer.py`).
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

SIZES = (64, 1_000, 10_000, 100_000, 1_000_000)
COUNTS = (10, 100, 400)
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "AdamW": {},
    "Adam": {},
    "Adagrad": {},
    "SGD": {"momentum": 0.9},
}
#: Numbers that are updated in all: more do not fit into small machines.
MOST = 40_000_000


def optimizer(kind: str, count: int, size: int, **flags: Any) -> torch.optim.Optimizer:
    tensors = [torch.randn(size, requires_grad=True) for _ in range(count)]
    for tensor in tensors:
        tensor.grad = torch.randn(size)
    make = getattr(torch.optim, kind)
    made = make(tensors, lr=1e-3, **OPTIMIZERS[kind], **flags)
    made.step()  # makes its state
    assert isinstance(made, torch.optim.Optimizer)
    return made


def cpu_s(one: torch.optim.Optimizer, steps: int) -> float:
    start = time.process_time()
    for _ in range(steps):
        one.step()
    return (time.process_time() - start) / steps


def ratio(kind: str, count: int, size: int, repeats: int) -> float:
    """Time of the default ÷ time with fused=True, the median of interleaved pairs."""
    plain, fused = optimizer(kind, count, size), optimizer(kind, count, size, fused=True)
    steps = max(1, MOST // (2 * count * (size + 20_000)))
    return statistics.median(cpu_s(plain, steps) / cpu_s(fused, steps) for _ in range(repeats))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print("| optimizer | " + " | ".join(f"{size:,} numbers" for size in SIZES) + " |")
    print("|---" * (len(SIZES) + 1) + "|")
    for kind in OPTIMIZERS:
        cells = []
        for size in SIZES:
            counts = [count for count in COUNTS if count * size <= MOST]
            found = [ratio(kind, count, size, repeats) for count in counts]
            cells.append(" / ".join(f"{one:.1f}" for one in found))
        print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
