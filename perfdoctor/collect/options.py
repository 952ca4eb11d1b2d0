"""What to measure and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
COMPILE_MODES = ("off", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")

#: `progress(what, done, total)`, total 0 where unknown; called between steps, never inside one.
Progress = Callable[[str, float, float], None]


def no_progress(what: str, done: float, total: float) -> None:
    """Shows nothing."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Settings of one configuration. `None` leaves the workload's, then PyTorch's default.

    `max_seconds` is the budget for everything that is measured on this configuration; a fixed
    number of `iterations` is kept to, however long they take.
    """

    batch_size: int | None = None
    num_workers: int | None = None
    prefetch_factor: int | None = None
    pin_memory: bool | None = None
    persistent_workers: bool | None = None
    precision: str | None = None
    compile: str = "off"
    channels_last: bool = False
    device: str | None = None
    seed: int = 0
    iterations: int | None = None
    warmup: int | None = None
    max_seconds: float = 30.0
    strict: bool = False
