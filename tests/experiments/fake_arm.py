"""An arm whose speed is known, on a clock that only it moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from perfdoctor.collect.arm import ArmFacts, Chunk
from perfdoctor.errors import PerfdoctorError

GIB = 2**30


class FakeTime:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def perf_counter(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s


class World:
    """What all fake arms share: the clock, the noise, and what changes really bring.

    Attributes:
        gains: change → new ÷ old throughput; changes that are not named bring nothing.
        failing: change → the error that it ends with. control_gain: what "nothing" brings, on an
            unfit machine. interrupt_after: chunks until Ctrl-C. start_s: of a process.
        slower_at_s: when steps begin to take `slower` times as long. waits: of the time in which
            threads have something to do, what they wait for a core; None: not told. relation: how
            the first batches of a changed loader compare. samples: of each batch, whatever size is
            set. rare: change → (steps between two of what
            it makes rarer, seconds that one takes, epochs between two where it comes at their ends,
            else None). start_of_epoch_s: what one takes with such settings.
    """

    def __init__(self, noise: float = 0.01, seed: int = 0) -> None:
        self.time = FakeTime()
        self.rng = np.random.default_rng(seed)
        self.noise = noise
        self.step_s = 0.01
        self.gains: dict[str, float] = {}
        self.failing: dict[str, PerfdoctorError] = {}
        self.losses: dict[str, tuple[float | None, ...]] = {}
        self.peaks: dict[str, int] = {}
        self.control_gain = 1.0
        self.interrupt_after: int | None = None
        self.chunks = 0
        self.started: list[FakeArm] = []
        self.extra: dict[str, Any] = {
            "cores": 4.0,
            "guarded": True,
            "traits": ["conv"],
            "steps_per_epoch": 500,
        }
        self.configuration: dict[str, Any] = {"num_workers": 0, "batch_size": 32}
        self.foreign = 0.0
        self.start_s = 2.0
        self.slower_at_s, self.slower = math.inf, 1.0
        self.samples: int | None = None
        self.waits: float | None = None
        self.relation: str | None = None
        self.rare: dict[str, tuple[int, float, int | None]] = {}
        self.made = 0
        self.start_of_epoch_s: Callable[[Mapping[str, Any]], float] | None = None


class FakeArm:
    """Implements `Arm` as far as trials use it."""

    world: World

    def __init__(self, spec: Any) -> None:
        self.spec, self.modes, self.open = spec, dict[str, Mapping[str, Any]](), True
        self.given = dict[str | None, int]()
        self.pid, self.alive, self.busy = 1, True, False
        self.trying: str | None = None
        self.world.started.append(self)
        self.world.time.now_s += self.world.start_s

    @classmethod
    def start(cls, spec: Any) -> FakeArm:
        return cls(spec)

    def __enter__(self) -> FakeArm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.open = False

    def _changes(self, mode: str | None) -> Mapping[str, Any]:
        own = {k: v for k, v in self.spec.options.items() if k in self.world.gains}
        return own | dict(self.modes[mode] if mode else {})

    def _gain(self, mode: str | None) -> float:
        gain = self.world.control_gain if mode == "control" else 1.0
        for name in self._changes(mode):
            if name in self.world.failing:
                error = self.world.failing[name]
                self.alive = error.slug != "arm-ended"
                raise error
            gain *= self.world.gains.get(name, 1.0)
        return gain

    def warm(self, steps: int, mode: str | None = None) -> Any:
        return self.chunk(steps, mode).step_s

    def chunk(self, steps: int, mode: str | None = None) -> Chunk:
        world = self.world
        world.chunks += 1
        self.trying = mode
        if world.interrupt_after is not None and world.chunks > world.interrupt_after:
            self.busy = True
            raise KeyboardInterrupt
        disturbed = np.exp(world.rng.normal(0, world.noise))
        if world.time.now_s >= world.slower_at_s:
            disturbed *= world.slower
        step_s = np.full(steps, world.step_s / self._gain(mode) * disturbed)
        occasions = self._occasions(steps, self._changes(mode), step_s)
        starts = self._begin_epochs(steps, mode, step_s)
        world.time.now_s += float(step_s.sum()) * (steps + 1) / steps
        size = world.samples or self._changes(mode).get("batch_size", 32)
        samples = np.full(steps, float(size))
        return Chunk(
            step_s=step_s,
            stages_s={},
            samples=samples,
            starts=starts,
            wall_s=float(step_s.sum()),
            cpu_s=float(step_s.sum()),
            run_queue_s=self._waited_s(float(step_s.sum())),
            occasions=occasions,
        )

    def _occasions(
        self, steps: int, changes: Mapping[str, Any], step_s: Any
    ) -> dict[str, list[tuple[int, bool]]]:
        """Where something rare comes among these steps, which then take longer."""
        world, found = self.world, dict[str, list[tuple[int, bool]]]()
        numbers = range(world.made + 1, world.made + 1 + steps)  # after one that is not counted
        world.made += 1 + steps
        for key, (period, cost_s, epochs) in world.rare.items():
            short = changes.get("epoch_steps")
            period = short * epochs if short and epochs else period
            every = changes.get(key, 1)
            found[key] = [
                (i, every > 0 and number // period % every == 0)
                for i, number in enumerate(numbers)
                if number % period == 0
            ]
            for i, made in found[key]:
                step_s[i] += cost_s if made else 0.0
        return found

    def _begin_epochs(self, steps: int, mode: str | None, step_s: Any) -> Any:
        """Where the loader of this mode begins one, which takes its time."""
        used = {**self.world.configuration, **self._changes(mode)}
        every = used.get("start_every") or self.world.extra.get("steps_per_epoch", 500)
        first = self.given.get(mode, 0)
        self.given[mode] = first + steps + 1
        found = np.zeros(steps, dtype=np.bool_)
        if self.world.start_of_epoch_s is not None:
            found = (first + np.arange(steps)) % every == 0
            step_s[found] += self.world.start_of_epoch_s(used)
            new = {**used, "persistent_workers": False}
            if not first:  # there are none yet that could have been kept
                step_s[0] += self.world.start_of_epoch_s(new) - self.world.start_of_epoch_s(used)
        return found

    def _waited_s(self, ran_s: float) -> float | None:
        share = self.world.waits
        return None if share is None else ran_s * share / (1 - share)

    def facts(self, mode: str | None = None) -> ArmFacts:
        changes = self._changes(mode)
        peak = max([GIB, *(self.world.peaks.get(name, 0) for name in changes)])
        losses = self._losses(changes)
        return ArmFacts(
            configuration={**self.world.configuration, **changes},
            device="cpu",
            peak_bytes=peak,
            total_bytes=8 * GIB,
            modules={},
            losses=losses,
            gradient_norms=(1.0,),
            extra=self.world.extra,
        )

    def first_losses(self, steps: int, mode: str | None = None) -> Any:
        if self.world.extra.get("losses_by_process"):
            self.world.time.now_s += self.world.start_s + steps * self.world.step_s
        return self._losses(self._changes(mode)), (1.0,)

    def _losses(self, changes: Mapping[str, Any]) -> tuple[float | None, ...]:
        found = [self.world.losses[name] for name in changes if name in self.world.losses]
        return found[0] if found else (2.0, 1.9, 1.8)

    def batches(self, mode: str, count: int) -> str | None:
        return self.world.relation

    def add_mode(self, name: str, changes: Mapping[str, Any]) -> None:
        self.modes[name] = changes

    def forget(self, mode: str) -> None:
        assert not self.busy, "it would be waited for until its steps are made"
        self.modes.pop(mode, None)
