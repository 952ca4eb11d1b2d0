"""What observing adds to a training step: perfdoctor, torch.profiler, Lightning's SimpleProfiler.

    python benchmarks/overhead.py [--pairs 40]

One process, one thread, a plain loop. Blocks with and without the tool take turns (off, on, on,
off, ...), so that a busy moment of the machine hits both. Each figure is the median over pairs of
the difference per step, with its 95 % interval, of the second half of a block, and in the last
column of the first half, in which tools set themselves up and perfdoctor looks into much.
"nothing" is the loop against itself: the noise. Halves are a thousand short steps, or 150 of about
10 ms.

torch.profiler records every step, as it does by default. Lightning's SimpleProfiler is put around
the same actions as its Trainer puts it; it is left out where Lightning is not installed. Tools that
patch torch for as long as the process lives cannot take turns like this: see
`overhead_processes.py`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from perfdoctor.collect.script.session import Limits, Session
from perfdoctor.ending import Ending
from perfdoctor.stats import quantile_interval

#: (width, layers, steps of each half of a block) of the loops.
SIZES = ((32, 3, 1000), (384, 21, 150))
BATCH = 64

Around = Callable[[str], AbstractContextManager[Any]]
Tool = Callable[["Loop"], AbstractContextManager[Around]]


class Loop:
    """A training loop whose step takes about `layers` × a fraction of a millisecond."""

    def __init__(self, width: int, layers: int, steps: int = 1000) -> None:
        self.steps = steps
        parts = [nn.Linear(width, width) if i % 2 == 0 else nn.ReLU() for i in range(layers)]
        self.model = nn.Sequential(*parts, nn.Linear(width, 8))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        self.loss = nn.CrossEntropyLoss()
        count = BATCH * 2 * steps
        data = TensorDataset(torch.randn(count, width), torch.randint(0, 8, (count,)))
        self.loader = DataLoader(data, batch_size=BATCH)

    def block(self, tool: Tool) -> tuple[float, float]:
        """Seconds per step of the first half and of the second one."""
        with tool(self) as around:
            batches = iter(self.loader)
            start = time.perf_counter()
            for _ in range(self.steps):
                self._step(batches, around)
            middle = time.perf_counter()
            for _ in range(self.steps):
                self._step(batches, around)
            end = time.perf_counter()
            return (middle - start) / self.steps, (end - middle) / self.steps

    def _step(self, batches: Iterator[Any], around: Around) -> None:
        with around("[_TrainingEpochLoop].train_dataloader_next"):
            x, y = next(batches)
        with around("run_training_batch"):
            self.optimizer.zero_grad()
            with around("[Strategy]SingleDeviceStrategy.training_step"):
                loss = self.loss(self.model(x), y)
            with around("[Strategy]SingleDeviceStrategy.backward"):
                loss.backward()
            with around("[LightningModule]Net.optimizer_step"):
                self.optimizer.step()
        with around("step"):
            pass


def _plain(name: str) -> AbstractContextManager[None]:
    return _NOTHING


_NOTHING: AbstractContextManager[None] = nullcontext()


@contextmanager
def nothing(loop: Loop) -> Iterator[Around]:
    yield _plain


@contextmanager
def perfdoctor(loop: Loop) -> Iterator[Around]:
    session = Session("overhead", Limits())
    session.start()
    try:
        yield _plain
    finally:
        session.finish(Ending("finished"))


@contextmanager
def torch_profiler(loop: Loop) -> Iterator[Around]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:

        @contextmanager
        def stepped(name: str) -> Iterator[None]:
            yield
            if name == "step":
                profiler.step()

        yield stepped


@contextmanager
def simple_profiler(loop: Loop) -> Iterator[Around]:
    from lightning.pytorch.profilers import SimpleProfiler

    yield SimpleProfiler().profile


TOOLS: dict[str, Tool] = {
    "nothing": nothing,
    "perfdoctor run": perfdoctor,
    "Lightning SimpleProfiler": simple_profiler,
    "torch.profiler": torch_profiler,
}


def added_us(loop: Loop, tool: Tool, pairs: int) -> tuple[float, float, float, float, float]:
    """(step without in µs, median added, low, high, added at first), of interleaved pairs."""
    without, added, at_first = [], [], []
    for pair in range(pairs):
        order = (nothing, tool) if pair % 2 == 0 else (tool, nothing)
        first, second = (loop.block(each) for each in order)
        off, on = (first, second) if pair % 2 == 0 else (second, first)
        without.append(off[1] * 1e6)
        added.append((on[1] - off[1]) * 1e6)
        at_first.append((on[0] - off[0]) * 1e6)
    values = np.array(added)
    low, high = quantile_interval(values, 0.5) or (values.min(), values.max())
    return (
        float(np.median(without)),
        float(np.median(values)),
        low,
        high,
        float(np.median(at_first)),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=40)
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)
    print("| step without | tool | added per step | 95 % interval | of the step | at first |")
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        loop = Loop(*size)
        loop.block(nothing)
        for name, tool in TOOLS.items():
            try:
                step, added, low, high, first = added_us(loop, tool, pairs)
            except ImportError:
                print(f"{name}: not installed", file=sys.stderr)
                continue
            share = 100 * added / step
            print(
                f"| {step / 1e3:.2f} ms | {name} | {added:.1f} µs | {low:.1f} … {high:.1f} µs "
                f"| {share:.2f} % | {first:.1f} µs |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
