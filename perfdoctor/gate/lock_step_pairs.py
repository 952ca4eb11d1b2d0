"""Pairs of persistent processes that train in turns, chunk by chunk."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from perfdoctor.collect.arm import Arm, ArmFacts, ArmSpec, Chunk
from perfdoctor.collect.lock_step import Pair, lock_step
from perfdoctor.compare.judging import PairValues
from perfdoctor.errors import PerfdoctorError
from perfdoctor.gate.measured import of_pair
from perfdoctor.gate.sides import RunningSide, on_side

#: Steps before anything counts, chunks of each side, and steps in each: as calibrated.
WARM_UP, CHUNKS, CHUNK_STEPS = 20, 20, 12
#: A chunk of very short steps is made so long, or asking for it would count too much.
_CHUNK_S = 0.05
_MOST_STEPS = 400
#: Where steps are long, chunks get shorter and then fewer, down to these.
_FEWEST_CHUNKS, _FEWEST_STEPS = 8, 4
_OUT_OF_MEMORY = "out-of-memory"


class Source(Protocol):
    """Where pairs come from."""

    def measure(self, number: int) -> PairValues:
        """One pair of processes."""

    @property
    def cannot_shorten(self) -> bool:
        """Whether a pair already does as little as makes sense."""

    def protocol(self) -> dict[str, Any]:
        """How it is done, for the report."""


@dataclass
class LockStepPairs:
    """Measures a workload on both sides; every pair is made of two new processes.

    Attributes:
        pair_s: how long the steps of one pair may take; then there are fewer steps.
        facts: of both sides, as the last pair told them.
        successive: there is no memory for both at a time, so one follows the other.
        fewest_steps: of each side, however long they take.
        patience_s: how long one answer of a side may take.
    """

    sides: tuple[RunningSide, RunningSide]
    workload: Mapping[str, Any]
    options: Mapping[str, Any]
    pair_s: float
    seed: int = 0
    facts: tuple[ArmFacts, ArmFacts] | None = None
    successive: bool = False
    steps: int = CHUNK_STEPS
    chunks: int = CHUNKS
    fewest_steps: int = 0
    patience_s: float | None = None
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def measure(self, number: int) -> PairValues:
        """One pair.

        Raises:
            PerfdoctorError: a side cannot run, or runs code that is not its own.
        """
        if not self.successive:
            try:
                return self._together(number)
            except PerfdoctorError as error:
                if error.slug != _OUT_OF_MEMORY or number:
                    raise
                self.successive = True
        return self._one_after_the_other(number)

    @property
    def cannot_shorten(self) -> bool:
        """Whether the steps are so long that a pair has the fewest."""
        fewest = max(_FEWEST_CHUNKS * _FEWEST_STEPS, self.fewest_steps)
        return self.chunks <= _FEWEST_CHUNKS or self.chunks * self.steps <= fewest

    def protocol(self) -> dict[str, Any]:
        """How a pair is measured."""
        return {
            "pairs": "one after the other" if self.successive else "in lock step",
            "warm_up_steps": WARM_UP,
            "chunks": self.chunks,
            "steps_per_chunk": self.steps,
            "seed": self.seed,
        }

    def _together(self, number: int) -> PairValues:
        with ExitStack() as stack:
            arms = self._started(stack, number)
            warm_s = [self._on(side, lambda a=arm: a.warm(WARM_UP)) for side, arm in arms]
            self._plan(float(np.median(np.concatenate(warm_s)[WARM_UP // 2 :])))
            turns = [_Turns(side, arm) for side, arm in arms]
            pair = lock_step(
                *turns,
                chunks=self.chunks,
                steps=self.steps,
                order_seed=self._random.getrandbits(31),
            )
            facts = [self._on(side, arm.facts) for side, arm in arms]
        return self._checked(pair, (facts[0], facts[1]))

    def _started(self, stack: ExitStack, number: int) -> list[tuple[RunningSide, Arm]]:
        """Both processes, which set up at once; the one that begins is chosen by chance."""
        arms: dict[int, Arm] = {}
        for i in self._random.sample(range(2), 2):
            arms[i] = self._on(self.sides[i], lambda n=i: Arm(self._spec(self.sides[n], number)))
            stack.callback(arms[i].close)  # before anything is waited for: Ctrl-C may come then
            self._on(self.sides[i], lambda a=arms[i]: a.send("set_up", **a.description()))
        for i in (0, 1):
            self._on(self.sides[i], arms[i].answer)
        return [(self.sides[i], arms[i]) for i in (0, 1)]

    def _one_after_the_other(self, number: int) -> PairValues:
        """Each alone on the device, in the order AB, BA, AB, …"""
        made: dict[int, tuple[tuple[Chunk, ...], ArmFacts]] = {}
        for i in (0, 1) if number % 2 == 0 else (1, 0):
            side = self.sides[i]
            with self._alone(side, number) as arm:
                warm_s = self._on(side, lambda a=arm: a.warm(WARM_UP))
                if not made:
                    self._plan(float(np.median(warm_s[WARM_UP // 2 :])))
                turns = _Turns(side, arm)
                chunks = tuple(turns.chunk(self.steps) for _ in range(self.chunks))
                made[i] = chunks, self._on(side, arm.facts)
        return self._checked(Pair(made[0][0], made[1][0]), (made[0][1], made[1][1]))

    @contextmanager
    def _alone(self, side: RunningSide, number: int) -> Iterator[Arm]:
        with self._on(side, lambda: Arm.start(self._spec(side, number))) as arm:
            yield arm

    def _checked(self, pair: Pair, facts: tuple[ArmFacts, ArmFacts]) -> PairValues:
        for side, found in zip(self.sides, facts, strict=True):
            side.check_origins(found.modules)
        self.facts = facts
        return of_pair(pair, (facts[0].peak_bytes, facts[1].peak_bytes))

    def _plan(self, step_s: float) -> None:
        """How many chunks of how many steps, so that a pair takes about `pair_s` at most."""
        self.steps = min(_MOST_STEPS, max(CHUNK_STEPS, round(_CHUNK_S / max(step_s, 1e-6))))
        affordable = max(self.fewest_steps, int(self.pair_s / max(step_s, 1e-6) / 2))
        self.chunks = CHUNKS
        if affordable < self.chunks * self.steps:
            self.steps = max(_FEWEST_STEPS, min(self.steps, affordable // self.chunks))
            self.chunks = max(_FEWEST_CHUNKS, min(self.chunks, affordable // self.steps))

    def _spec(self, side: RunningSide, number: int) -> ArmSpec:
        environment = {"PYTHONHASHSEED": str(self.seed + number), **side.environment}
        return ArmSpec(
            workload=self.workload,
            options=self.options,
            python=side.python,
            cwd=side.cwd,
            environment=environment,
            patience_s=self.patience_s,
        )

    def _on(self, side: RunningSide, work: Any) -> Any:
        try:
            return work()
        except PerfdoctorError as error:
            raise on_side(side, error) from None


@dataclass(frozen=True)
class _Turns:
    """An arm whose errors tell which side it is."""

    side: RunningSide
    arm: Arm

    def chunk(self, steps: int) -> Chunk:
        try:
            return self.arm.chunk(steps)
        except PerfdoctorError as error:
            raise on_side(self.side, error) from None


def workload_files(workload: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """The files that say what is measured; True where a file was named, and so must exist."""
    found = []
    for spec in filter(None, (workload.get(key) for key in ("workload", "model", "dataset"))):
        place = spec if spec.endswith(".py") else spec.rpartition(":")[0] or spec
        if place.endswith(".py"):
            found.append((place, True))
        elif "/" not in place:
            found.append((f"{place.replace('.', '/')}.py", False))
    return found
