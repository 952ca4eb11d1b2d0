"""The trainings of `benchmarks/pipeline.py`: data that takes its time, beside steps that do."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, default_collate

from perfdoctor.pipeline_model import Setting


@dataclass(frozen=True)
class Case:
    """A planted training. Times are seconds; those of samples and of collating are per sample.

    `stall`: (every so many samples, seconds). `jitter`: sigma of log-normal factors on samples.
    """

    name: str
    sample_s: float
    step_s: float
    measured: Setting
    predicted: tuple[Setting, ...]
    burns: bool = False
    computes: bool = False
    collate_s: float = 0.0
    jitter: float = 0.0
    step_jitter: float = 0.0
    stall: tuple[int, float] | None = None
    batch_size: int = 16
    epoch: int = 40
    floats: int = 1024


def w(workers: int, prefetch: int = 2, *, persistent: bool = True, batch: float = 1.0) -> Setting:
    """A setting in short."""
    return Setting(workers, prefetch, persistent, batch)


CASES = (
    Case("sleeping samples", 4e-3, 0.030, w(0), (w(1), w(2), w(4), w(8))),
    Case("from four workers", 4e-3, 0.010, w(4), (w(0), w(1), w(2), w(8), w(12))),
    Case("compute-bound", 1e-3, 0.060, w(2), (w(0), w(1), w(4))),
    Case("jitter", 4e-3, 0.030, w(1), (w(0), w(2, 1), w(2), w(3), w(4)), jitter=1.2),
    Case("steps that vary", 3e-3, 0.025, w(0), (w(1), w(2), w(2, 4), w(3)), step_jitter=0.6,
         jitter=0.6),
    Case("shards", 5e-4, 0.020, w(0), (w(1), w(2), w(2, 8), w(4)), stall=(160, 0.25)),
    Case("shards, two workers", 5e-4, 0.020, w(2), (w(0), w(1), w(4), w(4, 8)), stall=(160, 0.25)),
    Case("slow collate", 5e-4, 0.020, w(0), (w(1), w(2), w(3), w(6)), collate_s=4e-3),
    Case("restarts", 3e-3, 0.030, w(2, persistent=False), (w(2), w(1, persistent=False),
         w(4, persistent=False), w(0)), epoch=12),
    Case("restarts, unseen", 3e-3, 0.030, w(0), (w(2, persistent=False), w(4, persistent=False),
         w(2)), epoch=12),
    Case("batch size", 4e-3, 0.030, w(2), (w(2, batch=2.0), w(2, batch=0.5), w(4, batch=2.0),
         w(4, batch=0.25)), jitter=0.8),
    Case("large batches", 2e-3, 0.020, w(0), (w(1), w(2), w(4)), floats=150_000),
    Case("burning, CPU", 2e-3, 0.030, w(0), (w(1), w(2), w(3)), burns=True),
    Case("burning from one, CPU", 2e-3, 0.020, w(1), (w(0), w(2), w(4)), burns=True),
    Case("burning from four, CPU", 2e-3, 0.010, w(4), (w(0), w(1), w(2)), burns=True),
    Case("half burning, CPU", 1e-3, 0.020, w(0), (w(1), w(2), w(4)), burns=True, collate_s=1e-3),
    Case("both compute, CPU", 1.5e-3, 0.030, w(0), (w(1), w(2)), burns=True, computes=True),
    Case("computing steps, CPU", 3e-3, 0.030, w(0), (w(1), w(2), w(4)), computes=True),
)  # fmt: skip


class Samples(Dataset[Any]):
    """Samples that take their time."""

    def __init__(self, case: Case, count: int) -> None:
        self.case, self.count = case, count
        chance = random.Random(1)
        self.factor = [chance.lognormvariate(-(case.jitter**2) / 2, case.jitter)
                       for _ in range(count)]  # fmt: skip

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        seconds = self.case.sample_s * self.factor[index]
        if self.case.stall is not None and index % self.case.stall[0] == 0:
            time.sleep(self.case.stall[1])
        burn(seconds) if self.case.burns else time.sleep(seconds)
        return torch.full((self.case.floats,), float(index))


def burn(seconds: float) -> None:
    """Work that takes so much processor time on a core of its own."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@dataclass(frozen=True)
class Collate:
    """Collating that waits."""

    seconds: float

    def __call__(self, samples: list[torch.Tensor]) -> torch.Tensor:
        """The batch."""
        if self.seconds:
            time.sleep(self.seconds * len(samples))
        batch: torch.Tensor = default_collate(samples)
        return batch


@dataclass
class Step:
    """A training step of a fixed time per sample: a sleep, or products of matrices."""

    case: Case
    matrix: torch.Tensor = field(default_factory=lambda: torch.randn(512, 512))
    turns: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(2))

    def __post_init__(self) -> None:
        if self.case.computes:
            self._work(20)
            start = time.perf_counter()
            self._work(50)
            each_s = (time.perf_counter() - start) / 50
            self.turns = max(1, round(self.case.step_s / each_s))

    def _work(self, turns: int) -> None:
        for _ in range(turns):
            torch.mm(self.matrix, self.matrix)

    def __call__(self, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        """The loss."""
        part = batch.shape[0] / self.case.batch_size
        if self.case.computes:
            self._work(round(self.turns * part))
        else:
            sigma = self.case.step_jitter
            time.sleep(self.case.step_s * part * self.chance.lognormvariate(-(sigma**2) / 2, sigma))
        loss: torch.Tensor = model(batch[:, :1]).mean()
        return loss
