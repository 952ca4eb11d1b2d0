"""Two arms (or two modes of one arm) that take turns, never both at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from perfdoctor.collect.arm import Arm, Chunk
from perfdoctor.collect.fitness import Waiting
from perfdoctor.record import Floats


class Steps(Protocol):
    """What takes turns: an arm, or one mode of it."""

    def chunk(self, steps: int) -> Chunk:
        """Makes these steps."""


@dataclass(frozen=True)
class InMode:
    """One mode of an arm; None is the arm as it was described."""

    arm: Arm
    mode: str | None = None

    def chunk(self, steps: int) -> Chunk:
        """Makes these steps in this mode."""
        return self.arm.chunk(steps, self.mode)


@dataclass(frozen=True)
class Watched:
    """The same steps; how long they waited for a core is added to each of `sums`."""

    steps: Steps
    sums: tuple[Waiting, ...]

    def chunk(self, steps: int) -> Chunk:
        """Makes these steps."""
        made = self.steps.chunk(steps)
        for waiting in self.sums:
            waiting.add(made.run_queue_s, made.cpu_s)
        return made


@dataclass(frozen=True)
class Pair:
    """Chunks of both sides; the i-th of `first` and of `second` were made next to each other."""

    first: tuple[Chunk, ...]
    second: tuple[Chunk, ...]

    def log_ratios(self, of: Callable[[Chunk], float]) -> Floats:
        """log(second ÷ first) of each two chunks."""
        pairs = zip(self.first, self.second, strict=True)
        return np.array([math.log(of(b) / of(a)) for a, b in pairs])

    def difference(self, of: Callable[[Chunk], float] | None = None) -> float:
        """Median of log(second ÷ first) over the chunks; of their p25 step if not said otherwise.

        Spread from one pair of processes to the next, with equal programs: 2.2 % on a quiet and
        4.5 % on a busy two-core machine (3.0 % and 21 % for processes one after the other).
        """
        return float(np.median(self.log_ratios(of or p25_step_s)))


def lock_step(
    a: Steps, b: Steps, *, chunks: int = 20, steps: int = 12, order_seed: int = 0
) -> Pair:
    """Makes `chunks` chunks of each, in the order AB, BA, AB, … or BA, AB, …, by the seed.

    The first steps of each chunk are made and not counted: what the other arm left in the caches,
    and batches that loader workers made during the pause.

    Raises:
        PerfdoctorError: what either raises.
    """
    made: tuple[list[Chunk], list[Chunk]] = ([], [])
    swapped = bool(np.random.default_rng(order_seed).integers(2))
    for order in orders(chunks, swapped=swapped):
        for side in order:
            made[side].append((a, b)[side].chunk(steps))
    return Pair(tuple(made[0]), tuple(made[1]))


def orders(rounds: int, *, swapped: bool = False) -> Iterator[Sequence[int]]:
    """(0, 1), (1, 0), (0, 1), … : whatever drifts evenly hits both sides alike."""
    for number in range(rounds):
        yield (0, 1) if (number % 2 == 0) != swapped else (1, 0)


def p25_step_s(chunk: Chunk) -> float:
    """The lower quartile of the steps: other programs lengthen some steps, and shorten none."""
    return float(np.quantile(chunk.step_s, 0.25))


def seconds_per_sample(chunk: Chunk) -> float:
    """Mean time of a sample, of all that belongs to a step; steady, where the queue lent some.

    Steps that begin an epoch do not count, where there are others: they come too rarely to have
    their share (`experiments/starts.py` gives it to them).
    """
    kept = np.ones_like(chunk.starts) if chunk.starts.all() else ~chunk.starts
    step_s = float(chunk.step_s[kept].mean())
    return max(step_s, chunk.steady_s or 0.0) / max(1.0, float(chunk.samples[kept].mean()))
