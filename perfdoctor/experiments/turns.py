"""Taking turns: differences between two sides, block by block or process pair by process pair."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from perfdoctor.collect.arm import Chunk
from perfdoctor.collect.lock_step import Steps, lock_step, orders, seconds_per_sample
from perfdoctor.record import Floats
from perfdoctor.sequential import Claim, interval

#: A chunk is about this long: over several time slices of a scheduler (3–4 ms in Linux), and
#: short, since what disturbs both sides alike cancels. On a machine with three other programs on
#: two cores the median over 0.7 s of such chunks varied by 5–7 %, over chunks of 0.2 s by 10–40 %.
CHUNK_S = 0.012
#: Chunks of each side in a pair of processes (see the measured spread in `Pair.difference`).
PAIR_CHUNKS = 20
#: By this share of the blocks made so far the time may be overdrawn for one look more.
_OVERDRAWN = 0.25


@dataclass(frozen=True)
class ChunkPlan:
    """How one difference is made.

    Attributes:
        steps: that are timed in a chunk. rounds: in a block. turns: of both sides in a round: two
            are ABBA or BAAB, one is AB or BA.
    """

    steps: int
    rounds: int = 1
    turns: int = 2

    def seconds_per_sample(self, chunk: Chunk) -> float:
        """The figure that is compared."""
        return seconds_per_sample(chunk)

    def gain(self, difference: float) -> float:
        """What the change brings, by the difference between both sides; both are logarithms."""
        return difference


def chunk_plan(step_s: float, block_s: float, *, turn: int = 1, queue: int = 0) -> ChunkPlan:
    """Short chunks, and as many as fit into a block's time.

    Args:
        turn: steps after which workers and architecture steps repeat.
        queue: batches that are prepared ahead; so many steps of a chunk are not timed, so it
            pays to time as many.
    """
    wanted = max(1, math.ceil(CHUNK_S / max(1e-7, step_s)), queue)
    steps = turn * math.ceil(wanted / turn)
    round_s = 4 * (steps + queue + 1) * step_s
    return ChunkPlan(steps, max(1, int(block_s / round_s)))


@dataclass
class Decision:
    """Differences so far (logarithms of new ÷ old throughput) and what they amount to."""

    claim: Claim
    differences: list[float] = field(default_factory=list)
    verdict: str | None = None

    def add(self, difference: float) -> None:
        """One more pair, and a look at all of them."""
        self.differences.append(difference)
        self.verdict = self.claim.look(self.values)

    @property
    def values(self) -> Floats:
        """The differences as an array."""
        return np.array(self.differences)

    @property
    def over(self) -> bool:
        """Whether it is decided, or cannot be decided by more."""
        return self.verdict is not None or len(self.differences) >= self.claim.most

    def speedup(self) -> tuple[float, float, float] | None:
        """New ÷ old throughput with its 90 % interval; None for fewer than two pairs."""
        found = interval(self.values, common=self.claim.common)
        if found is None:
            return None
        return math.exp(found.centre), math.exp(found.low), math.exp(found.high)


def abba(old: Steps, new: Steps, chunks: ChunkPlan, *, swapped: bool) -> float:
    """log(new ÷ old throughput) from ABBA or BAAB: an even drift cancels within it.

    From AB or BA where that is the plan: it cancels between two of them.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for order in orders(chunks.turns, swapped=swapped):
        for side in order:
            chunk = (old, new)[side].chunk(chunks.steps)
            times[side].append(math.log(chunks.seconds_per_sample(chunk)))
    return float(np.mean(times[0]) - np.mean(times[1]))


def block(old: Steps, new: Steps, chunks: ChunkPlan, *, swapped: bool = False) -> float:
    """The median over the rounds of a block, every other one in the opposite order."""
    rounds = [
        abba(old, new, chunks, swapped=swapped != bool(number % 2))
        for number in range(chunks.rounds)
    ]
    return chunks.gain(float(np.median(rounds)))


def by_blocks(
    old: Steps,
    new: Steps,
    chunks: ChunkPlan,
    decision: Decision,
    deadline_s: float,
    progress: Callable[[], None],
    most: int,
    *,
    end_s: float = math.inf,
    block_s: float = 0.0,
) -> None:
    """Blocks within one process until it is decided, the time is up, or there are `most`.

    Where a few more blocks make the next look possible, the time is overdrawn by as much; but
    none is begun that would last beyond `end_s`, if it takes as long as the longest until then.

    Args:
        block_s: what the first one is expected to take.
    """
    while not decision.over and (made := len(decision.differences)) < most:
        begun = time.perf_counter()
        if begun + block_s > end_s:
            break
        following = next((look for look in decision.claim.looks if look >= made), made)
        late = made > 0 and time.perf_counter() >= deadline_s
        if late and (following == made or following - made > _OVERDRAWN * made):
            break
        swapped = bool(len(decision.differences) % 2)
        decision.add(block(old, new, chunks, swapped=swapped))
        block_s = max(block_s, time.perf_counter() - begun)
        progress()


def pair_difference(old: Steps, new: Steps, chunks: ChunkPlan, seed: int) -> float:
    """log(new ÷ old throughput) of one pair of processes."""
    pair = lock_step(old, new, chunks=PAIR_CHUNKS, steps=chunks.steps, order_seed=seed)
    return -pair.difference(chunks.seconds_per_sample)
