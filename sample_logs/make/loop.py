"""A small network that is really trained, with costs that are set: what every own loop runs.

The clock times each part of each step; the truth of a run is kept in `Loop.truth`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from clock import Clock
from torch import nn

Cost = float | Callable[[int], float]  # seconds, or seconds from the number of the step
CLASSES, WIDTH, LR = 10, 32, 0.005


@dataclass(frozen=True, kw_only=True)
class Step:
    """One training step. Seconds of the run's clock; `number` counts from 0 over the whole run."""

    epoch: int
    batch: int
    batches: int
    number: int
    data_s: float
    forward_s: float
    backward_s: float
    optimizer_s: float
    step_s: float
    loss: float
    accuracy: float
    lr: float


@dataclass(kw_only=True)
class Loop:
    """A run: `epochs` of `batches`; `data`, `compute` and `validation` are costs."""

    clock: Clock = field(default_factory=Clock)
    epochs: int = 3
    batches: int = 100
    batch_size: int = 32
    data: Cost = 0.004
    compute: Cost = 0.03
    jitter: float = 0.03
    first: float = 0.0
    seed: int = 0
    truth: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(self.seed)
        self._random = random.Random(self.seed)
        self._centres = torch.randn(CLASSES, WIDTH)
        self._model = nn.Sequential(nn.Linear(WIDTH, 64), nn.ReLU(), nn.Linear(64, CLASSES))
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=LR, momentum=0.9)
        self._number = 0
        self._warm_up()
        self.clock.restart()

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Step]:
        """The steps of an epoch, each after it was done; its seconds go to the truth."""
        began = self.clock.seconds()
        previous = began
        for batch in range(start, self.batches):
            step = self._step(epoch, batch, previous)
            previous = self.clock.seconds()
            self.truth.setdefault("steps", []).append(asdict(step))
            yield step
        self.truth.setdefault("epoch_s", []).append(self.clock.seconds() - began)

    def validate(self, seconds: float) -> tuple[float, float, float]:
        """(seconds, loss, accuracy) of a validation."""
        began = self.clock.seconds()
        x, y = self._batch(256)
        with torch.no_grad():
            output = self._model(x)
        loss = nn.functional.cross_entropy(output, y).item()
        self.clock.sleep(self._noisy(seconds))
        took = self.clock.seconds() - began
        self.truth.setdefault("validation_s", []).append(took)
        return took, loss, self._accuracy(output, y)

    def _step(self, epoch: int, batch: int, began: float) -> Step:
        self.clock.sleep(self._noisy(_cost(self.data, self._number)))
        x, y = self._batch(self.batch_size)
        loaded = self.clock.seconds()
        compute = self._noisy(_cost(self.compute, self._number))
        compute += self.first if self._number == 0 else 0.0
        output = self._model(x)
        loss = nn.functional.cross_entropy(output, y)
        self.clock.sleep(0.3 * compute)
        forward = self.clock.seconds()
        self._optimizer.zero_grad()
        loss.backward()
        self.clock.sleep(0.6 * compute)
        backward = self.clock.seconds()
        self._optimizer.step()
        self.clock.sleep(0.1 * compute)
        end = self.clock.seconds()
        self._number += 1
        return Step(
            epoch=epoch,
            batch=batch,
            batches=self.batches,
            number=self._number - 1,
            data_s=loaded - began,
            forward_s=forward - loaded,
            backward_s=backward - forward,
            optimizer_s=end - backward,
            step_s=end - began,
            loss=loss.item(),
            accuracy=self._accuracy(output, y),
            lr=self._decayed(),
        )

    def _warm_up(self) -> None:
        """What torch does once is no part of the run."""
        x, y = self._batch(self.batch_size)
        nn.functional.cross_entropy(self._model(x), y).backward()
        self._optimizer.zero_grad()
        self._optimizer.step()

    def _decayed(self) -> float:
        done = self._number / (self.epochs * self.batches)
        lr = LR * (1 - 0.9 * min(done, 1.0))
        self._optimizer.param_groups[0]["lr"] = lr
        return lr

    def _batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.randint(CLASSES, (size,))
        return self._centres[y] + 2.5 * torch.randn(size, WIDTH), y

    def _accuracy(self, output: torch.Tensor, y: torch.Tensor) -> float:
        return 100.0 * (output.argmax(1) == y).float().mean().item()

    def _noisy(self, seconds: float) -> float:
        return seconds * self._random.lognormvariate(0.0, self.jitter)


def _cost(cost: Cost, number: int) -> float:
    return cost(number) if callable(cost) else cost


class Average:
    """The value now, its mean since the last reset, and the last few."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def update(self, value: float) -> None:
        """Add one."""
        self.values.append(value)

    @property
    def now(self) -> float:
        """The last value."""
        return self.values[-1]

    @property
    def mean(self) -> float:
        """Of all values."""
        return sum(self.values) / len(self.values)

    def last_mean(self, count: int) -> float:
        """Mean of the last `count`."""
        recent = self.values[-count:]
        return sum(recent) / len(recent)

    def last_median(self, count: int) -> float:
        """Median of the last `count`, the lower one of two."""
        recent = sorted(self.values[-count:])
        return recent[(len(recent) - 1) // 2]
