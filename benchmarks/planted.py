"""Planted costs: does each stage's measured time agree with the one that was put there?

    python benchmarks/planted.py

Sleeps of known length are put into the dataset, the collate function, the forward pass, a
backward hook, the optimizer and the architecture step, with 0, 1 and 2 loader workers. The
expected wait for data comes from the definition of a DataLoader (batches made W at a time,
delivered in order), worked out step by step in `expected_waits`, not from perfdoctor.
A row passes if p50 is within 3 % or 0.3 ms; exits 1 if one does not.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import perfdoctor
from perfdoctor.collect.options import BenchOptions
from perfdoctor.record import Run, Source
from perfdoctor.summarise import summarise

BATCH = 4
STEPS = 60
LIMIT_SHARE, LIMIT_S = 0.03, 0.0003


def sleep(seconds: float) -> None:
    """Sleeps at least `seconds` and not much more: the rest of a coarse sleep is spun."""
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

    def consume_s(self, step: int) -> float:
        """The rest of a step."""
        arch = self.arch_s if self.arch_s and step % self.arch_every == 0 else 0.0
        return self.forward_s + self.backward_s + self.optimizer_s + arch


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


def expected_waits(plant: Plant, workers: int, steps: int, prefetch: int = 2) -> list[float]:
    """The wait of each step if sleeping were all there is."""
    now, waits = 0.0, []
    free = [0.0] * max(1, workers)
    sent = [0.0] * (steps + workers * prefetch + 1)
    for k in range(steps):
        if workers == 0:
            ready = now + plant.batch_s
        else:
            worker = k % workers
            ready = max(free[worker], sent[k]) + plant.batch_s
            free[worker] = ready
        waits.append(max(0.0, ready - now))
        now = max(now, ready)
        if workers:
            sent[k + workers * prefetch] = now
        now += plant.consume_s(k)
    return waits


PLANTS = {
    "loading bound": Plant(sample_s=0.006, collate_s=0.004, forward_s=0.004),
    "collate bound": Plant(collate_s=0.025, forward_s=0.003, backward_s=0.003),
    "loading hidden": Plant(sample_s=0.002, forward_s=0.015, backward_s=0.010),
    "compute spread": Plant(forward_s=0.008, backward_s=0.016, optimizer_s=0.005),
    "search each step": Plant(forward_s=0.004, arch_s=0.020),
    "search every 4th": Plant(sample_s=0.001, forward_s=0.005, arch_s=0.020, arch_every=4),
}


def per_cycle(waits, workers: int) -> float:
    """The median wait, averaged over one turn of all workers.

    Two workers that are out of phase make long and short waits by turns, as their start happens
    to fall; only the average over a turn follows from the planted times.
    """
    turn = max(1, workers)
    return statistics.median(
        statistics.mean(waits[i : i + turn]) for i in range(len(waits) - turn + 1)
    )


def rows(name: str, plant: Plant, workers: int):
    run = measured(plant, workers)
    report = summarise(run)
    # the first step is kept apart and the warm-up discarded, so those waits are not compared
    skipped = report.steps.warmup_discarded
    waits = expected_waits(plant, workers, STEPS + 1)[1 + skipped :]
    loading = next(stage for stage in run.stages if stage.name == "data_loading")
    seen = loading.exposed_s[skipped:].tolist()
    yield "data_loading", per_cycle(waits, workers), per_cycle(seen, workers)
    # an architecture step runs the model once more, on the validation batch
    arch_s = plant.arch_s + plant.forward_s if plant.arch_s else 0.0
    expected = {
        "forward": plant.forward_s,
        "backward": plant.backward_s,
        "optimizer": plant.optimizer_s,
        "arch_step": arch_s,
    }
    for stage, seconds in expected.items():
        if seconds:
            yield stage, seconds, report.stages[stage].p50_s
    if workers:
        hidden = [max(0.0, plant.batch_s - wait) for wait in waits]
        seen_hidden = loading.hidden_s[skipped:].tolist()
        yield "(hidden loading)", per_cycle(hidden, workers), per_cycle(seen_hidden, workers)
    yield "(sum of shares)", 1.0, sum(stage.share for stage in report.stages.values())


def measured(plant: Plant, workers: int) -> Run:
    options = BenchOptions(num_workers=workers, iterations=STEPS, device="cpu", max_seconds=20)
    from perfdoctor.collect.bench import _LOOP, begin
    from perfdoctor.collect.options import no_progress

    measurement = begin(lambda: workload(plant), options, Source(kind="bench"), no_progress)
    measurement.overlapped(_LOOP * options.max_seconds, no_progress)
    run = measurement.run()
    measurement.loop.close()
    return run


def main() -> int:
    torch.set_num_threads(1)
    table = Table(title="Planted and measured time of each stage (p50)")
    for column in ("workload", "workers", "stage", "planted", "measured", "error", ""):
        table.add_column(column, justify="left" if column in ("workload", "stage") else "right")
    failed = 0
    for name, plant in PLANTS.items():
        for workers in (0, 1, 2):
            for stage, expected, seen in rows(name, plant, workers):
                off = abs(seen - expected)
                unit = stage == "(sum of shares)"
                good = off <= 0.01 if unit else off <= max(LIMIT_SHARE * expected, LIMIT_S)
                failed += not good
                shown = (f"{v:.3f}" if unit else f"{v * 1e3:.2f} ms" for v in (expected, seen))
                error = f"{off:.3f}" if unit else f"{off * 1e3:+.2f} ms"
                table.add_row(name, str(workers), stage, *shown, error, "ok" if good else "OFF")
    Console(width=110).print(table)
    print(f"{failed} rows off" if failed else "every row within 3 % or 0.3 ms")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
