"""Planted costs: does each stage's measured time agree with the one that was put there?

    python benchmarks/planted.py

Sleeps of known length are put into the dataset, the collate function, the forward pass, a
backward hook, the optimizer and the architecture step, with 0, 1 and 2 loader workers.

`by hand` is the same training in a plain loop with a plain DataLoader and `time.perf_counter`
around each part, without perfdoctor. A stage passes if its p50 is within 3 % or 0.3 ms of what was
planted. Waiting for data with workers also depends on what everything else in the loop costs (an
interpreter that wakes from a sleep takes a few tenths of a millisecond for anything), so there the
hand-timed loop is the measure; hidden loading is what is left of the planted time of a batch.
Exits 1 if a row is off.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader

import perfdoctor
from perfdoctor.collect.bench import begin
from perfdoctor.collect.options import BenchOptions, no_progress
from perfdoctor.record import Run, Source
from perfdoctor.summarise import summarise

BATCH = 4
STEPS = 40
LIMIT_SHARE, LIMIT_S = 0.03, 0.0003


def sleep(seconds: float) -> None:
    """Sleeps `seconds`; the last millisecond, which `time.sleep` may overshoot, is spun."""
    end = time.perf_counter() + seconds
    if seconds > 0.002:
        time.sleep(seconds - 0.001)
    while time.perf_counter() < end:
        pass


@dataclass(frozen=True)
class Plant:
    """Seconds planted in each place; `sample_s` is per sample, the others per step."""

    sample_s: float = 0.0
    collate_s: float = 0.0
    forward_s: float = 0.0
    backward_s: float = 0.0
    optimizer_s: float = 0.0
    arch_s: float = 0.0
    arch_every: int = 1

    @property
    def batch_s(self) -> float:
        """Making one batch."""
        return BATCH * self.sample_s + self.collate_s


class Data(torch.utils.data.Dataset):
    def __init__(self, plant: Plant) -> None:
        self.plant = plant

    def __len__(self) -> int:
        return BATCH * (STEPS + 60)  # one epoch: what restarting costs is another question

    def __getitem__(self, index: int) -> int:
        sleep(self.plant.sample_s)
        return index


class Collate:
    """Gives a number: sending tensors between processes would cost what nobody planted."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant

    def __call__(self, samples: list[int]) -> int:
        sleep(self.plant.collate_s)
        return len(samples)


class Model(nn.Module):
    """One weight and one architecture parameter: next to nothing but the planted times."""

    def __init__(self, plant: Plant) -> None:
        super().__init__()
        self.plant = plant
        self.weight = nn.Parameter(torch.ones(()))
        self.alpha = nn.Parameter(torch.ones(()))
        self.weight.register_hook(lambda gradient: sleep(plant.backward_s))

    def forward(self, batch: int) -> torch.Tensor:
        sleep(self.plant.forward_s)
        return self.weight * self.alpha


class SleepingOptimizer(torch.optim.Optimizer):
    def __init__(self, params, seconds: float) -> None:
        super().__init__(params, {"lr": 0.01})
        self.seconds = seconds

    def step(self, closure=None) -> None:
        sleep(self.seconds)


def workload(plant: Plant) -> perfdoctor.Workload:
    model = Model(plant)
    search = {}
    if plant.arch_s:
        search = {
            "arch_parameters": [model.alpha],
            "arch_optimizer": lambda params: SleepingOptimizer(params, plant.arch_s),
            "arch_every": plant.arch_every,
        }
    return perfdoctor.Workload(
        model=model,
        dataset=Data(plant),
        collate_fn=Collate(plant),
        optimizer=lambda params: SleepingOptimizer(params, plant.optimizer_s),
        batch_size=BATCH,
        **search,
    )


PLANTS = {
    "loading bound": Plant(sample_s=0.020, collate_s=0.010, forward_s=0.015),
    "collate bound": Plant(collate_s=0.080, forward_s=0.015, backward_s=0.020),
    "loading hidden": Plant(sample_s=0.004, forward_s=0.020, backward_s=0.020),
    "compute spread": Plant(forward_s=0.015, backward_s=0.020, optimizer_s=0.025),
    "search each step": Plant(forward_s=0.012, arch_s=0.040),
    "search every 4th": Plant(sample_s=0.003, forward_s=0.012, arch_s=0.040, arch_every=4),
}


def by_hand(plant: Plant, workers: int) -> dict[str, list[float]]:
    """Seconds of each stage in a plain loop, step by step, without the first."""
    made = workload(plant)
    model, optimizer = made.model, made.optimizer([made.model.weight])
    loader = DataLoader(made.dataset, BATCH, num_workers=workers, collate_fn=made.collate_fn)
    batches = iter(loader)
    searching = made.arch_parameters is not None
    arch_optimizer = made.arch_optimizer(made.arch_parameters) if searching else None
    val_batches = iter(loader) if searching else None
    found: dict[str, list[float]] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        found.setdefault(stage, []).append(time.perf_counter() - start)
        return result

    def search(val_batch: int) -> None:
        (model.alpha.grad,) = torch.autograd.grad(model(val_batch), [model.alpha])
        arch_optimizer.step()
        arch_optimizer.zero_grad()

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    for step in range(STEPS + 1):
        batch = timed("data_loading", lambda: next(batches))
        if searching and step % plant.arch_every == 0:
            val_batch = timed("validation batch", lambda: next(val_batches))
            found["data_loading"][-1] += found["validation batch"][-1]
            timed("arch_step", partial(search, val_batch))
        loss = timed("forward", partial(model, batch))
        timed("backward", loss.backward)
        timed("optimizer", update)
    return {stage: seconds[1:] for stage, seconds in found.items()}


def per_cycle(waits: list[float], workers: int) -> float:
    """The median wait, averaged over one turn of all workers.

    Two workers that are out of phase make long and short waits by turns, as their start happens
    to fall; only the average over a turn follows from the planted times.
    """
    turn = max(1, workers)
    return statistics.median(
        statistics.mean(waits[i : i + turn]) for i in range(len(waits) - turn + 1)
    )


@dataclass(frozen=True)
class Line:
    """One row of the table; `expected` is what `measured` is held against."""

    stage: str
    planted: float | None
    by_hand: float | None
    measured: float
    expected: float
    unit: str = "ms"

    @property
    def good(self) -> bool:
        """Within 3 % or 0.3 ms; shares add up to 1 ± 0.01."""
        error = abs(self.measured - self.expected)
        limit = max(LIMIT_SHARE * self.expected, LIMIT_S) if self.unit else 0.01
        return error <= limit


def lines(plant: Plant, workers: int) -> Iterator[Line]:
    """Every row of one workload."""
    hand = by_hand(plant, workers)
    run = measured(plant, workers)
    report = summarise(run)
    loading = next(stage for stage in run.stages if stage.name == "data_loading")
    waits, seen = (
        per_cycle(w, workers) for w in (hand["data_loading"], loading.exposed_s.tolist())
    )
    alone = plant.batch_s if workers == 0 and not plant.arch_s else None
    yield Line("data_loading", alone, waits, seen, alone or waits)
    # an architecture step runs the model once more, on the validation batch
    arch_s = plant.arch_s + plant.forward_s if plant.arch_s else 0.0
    planted = {
        "forward": plant.forward_s,
        "backward": plant.backward_s,
        "optimizer": plant.optimizer_s,
        "arch_step": arch_s,
    }
    for stage, seconds in planted.items():
        if seconds:
            p50 = report.stages[stage].p50_s
            yield Line(stage, seconds, statistics.median(hand[stage]), p50, seconds)
    if workers and not plant.arch_s:
        rest = [max(0.0, plant.batch_s - wait) for wait in hand["data_loading"]]
        hidden, seen = (per_cycle(w, workers) for w in (rest, loading.hidden_s.tolist()))
        yield Line("(hidden loading)", None, hidden, seen, hidden)
    shares = sum(stage.share for stage in report.stages.values())
    yield Line("(sum of shares)", None, None, shares, 1.0, unit="")


def measured(plant: Plant, workers: int) -> Run:
    """The overlapped loop as `perfdoctor bench` measures it."""
    options = BenchOptions(num_workers=workers, iterations=STEPS, warmup=0, device="cpu")
    measurement = begin(lambda: workload(plant), options, Source(kind="bench"), no_progress)
    measurement.overlapped(60, no_progress)
    run = measurement.run()
    measurement.loop.close()
    return run


def main() -> int:
    torch.set_num_threads(1)
    table = Table(title="Time of each stage: planted, timed by hand, measured (p50)")
    for column in ("workload", "workers", "stage", "planted", "by hand", "measured", "error", ""):
        table.add_column(column, justify="left" if column in ("workload", "stage") else "right")
    failed = 0
    for name, plant in PLANTS.items():
        for workers in (0, 1, 2):
            for line in lines(plant, workers):
                failed += not line.good
                error = line.measured - line.expected
                values = (line.planted, line.by_hand, line.measured, error)
                verdict = "ok" if line.good else "OFF"
                shown = (text(value, line.unit) for value in values)
                table.add_row(name, str(workers), line.stage, *shown, verdict)
    Console(width=110).print(table)
    print(f"{failed} rows off" if failed else "every row within 3 % or 0.3 ms")
    return 1 if failed else 0


def text(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{value * 1e3:.2f} ms" if unit else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
