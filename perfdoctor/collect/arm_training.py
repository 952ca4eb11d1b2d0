"""What trains in an arm: perfdoctor's own loop over a `Workload`, in one of several modes."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch

from perfdoctor.collect import memory
from perfdoctor.collect.arm_loop import ArmLoop
from perfdoctor.collect.assembly import configuration
from perfdoctor.collect.environment import usable_cores
from perfdoctor.collect.first_batches import SAME, relation
from perfdoctor.collect.loader import BatchInfo, make_loader
from perfdoctor.collect.modes import Mode, checkpointing
from perfdoctor.collect.options import BenchOptions
from perfdoctor.collect.out_of_memory import no_room, ran_out
from perfdoctor.collect.run_queue import run_queue_s
from perfdoctor.errors import PerfdoctorError

#: Steps whose losses are kept.
FIRST_STEPS = 10
#: Above this share of their time the workers wait for room in the queue: the training is slower
#: than they are, and nothing is borrowed from a queue that is full again and again.
_IDLE_SHARE = 0.1
_FEWEST_MADE = 6
#: Not imported, since collecting and workloads do not know each other.
_WORKLOADS = "perfdoctor.workloads.described"


class BenchTraining:
    """Implements `arm_worker.Trains`.

    A mode's loader and compiled model are made when it is first used and kept. While another mode
    (or another arm) runs, its workers fill their queue; a chunk begins with steps that are not
    counted: as many as that queue holds, and one more. They are no compensation where the workers
    are only a little slower than the training: then the queue lasts longer than the chunk, so
    `steady_s` tells the distance at which the batches made *during* the chunk came.
    """

    def __init__(
        self, workload: dict[str, Any], options: dict[str, Any], modes: dict[str, dict[str, Any]]
    ) -> None:
        self._factory = import_module(_WORKLOADS).from_description(workload)
        self._options = BenchOptions(**options)
        self._loop = ArmLoop(self._factory, self._options, record=FIRST_STEPS)
        self._changes = dict(modes)
        self._modes: dict[str, Mode] = {}
        self._peaks: dict[str | None, int] = {}

    def add_mode(self, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        """One mode more."""
        self._changes[name] = changes
        return {}

    def warm(self, steps: int, mode: str | None) -> dict[str, Any]:
        """Makes these steps, and notes the peak of the memory."""
        loop = self._loop
        memory.reset_peak(loop.device)
        with self._in(mode):
            loop.run_steps(steps)
            step_s = loop.finish().step_s()
        self._peaks[mode] = memory.peak_bytes(loop.device)
        loop.steps.drop_after(0)
        return {"step_s": step_s.tolist()}

    def chunk(self, steps: int, mode: str | None) -> dict[str, Any]:
        """Makes unrecorded steps, then these."""
        loop = self._loop
        with self._in(mode):
            begun_ns = time.perf_counter_ns()
            loop.run_steps(1 + loop.queue_length * (not loop.replayed))
            loop.finish()
            drained = loop.steps.infos[:]
            loop.steps.drop_after(0)
            return self._recorded(steps, begun_ns, drained)

    def _recorded(self, steps: int, begun_ns: int, drained: list[BatchInfo]) -> dict[str, Any]:
        loop = self._loop
        waited, cpu, start = run_queue_s(), time.process_time(), time.perf_counter()
        loop.run_steps(steps)
        recorded = loop.finish()
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        queued = run_queue_s()
        times, samples = recorded.times, recorded.samples()
        names = {name for step in times for name in step.exposed_s}
        found = {
            "step_s": recorded.step_s().tolist(),
            "stages_s": {n: [s.exposed_s.get(n, math.nan) for s in times] for n in sorted(names)},
            "samples": samples.tolist(),
            "starts": recorded.starts().tolist(),
            "wall_s": wall,
            "cpu_s": cpu,
            "run_queue_s": None if waited is None or queued is None else queued - waited,
            "steady_s": steady_s([*drained, *recorded.infos], begun_ns, loop.num_workers),
        }
        recorded.drop_after(0)
        return found

    def facts(self, mode: str | None) -> dict[str, Any]:
        """What is really done in this mode."""
        loop = self._loop
        with self._mode(mode).active():
            return {
                "configuration": configuration(loop),
                "device": str(loop.device),
                "peak_bytes": self._peaks.get(mode),
                "total_bytes": memory.total_bytes(loop.device),
                "losses": finite(loop.losses),
                "gradient_norms": finite(loop.gradient_norms),
                "extra": extra(loop),
            }

    def first_losses(self, steps: int, mode: str | None) -> dict[str, Any]:
        """Those of a training made anew with the same seed."""
        loop = ArmLoop(self._factory, self._options, record=steps)
        try:
            with Mode(loop, self._changes_of(mode)).active():
                loop.run_steps(steps)
                loop.finish()
            return {
                "losses": finite(loop.losses),
                "gradient_norms": finite(loop.gradient_norms),
            }
        finally:
            loop.close()
            del loop
            memory.release()

    def batches(self, mode: str, count: int) -> dict[str, Any]:
        """How its first batches compare with those without the mode."""
        loop, other = self._loop, self._mode(mode).make_loader
        if other is None:
            return {"relation": SAME}
        usual = partial(
            make_loader, loop.workload.dataset, loop.loader_arguments, strict=loop.options.strict
        )
        return {"relation": relation(usual, other, count, lambda of: (one.data for one in of))}

    def forget(self, mode: str) -> dict[str, Any]:
        """Drops the mode's loader, with its workers, and its compiled model."""
        self._modes.pop(mode, None)
        memory.release()
        return {}

    def close(self) -> None:
        """Ends all workers."""
        self._modes.clear()
        self._loop.close()
        gc.collect()

    @contextmanager
    def _in(self, mode: str | None) -> Iterator[None]:
        """The mode; a step that fails leaves the next one a clean start."""
        loop = self._loop
        try:
            with self._mode(mode).active():
                yield
        except BaseException as error:
            loop.abandon().drop_after(0)
            loop.optimizer.zero_grad(set_to_none=True)
            if ran_out(error) and self._doubles_state(mode):
                raise no_room("two optimizers' states") from error
            raise

    def _doubles_state(self, mode: str | None) -> bool:
        """Whether the mode's optimizer has a state of its own, beside the usual one's."""
        held = self._modes.get(mode or "")
        return held is not None and held.holds("optimizer") and bool(self._loop.optimizer.state)

    def _mode(self, name: str | None) -> Mode:
        key = name or ""
        if key not in self._modes:
            self._modes[key] = Mode(self._loop, self._changes_of(name))
        return self._modes[key]

    def _changes_of(self, name: str | None) -> dict[str, Any]:
        if name is None:
            return {}
        if name not in self._changes:
            raise PerfdoctorError(f"this arm has no mode {name!r}", slug="unknown-mode")
        return self._changes[name]


def steady_s(infos: list[BatchInfo], begun_ns: int, workers: int) -> float | None:
    """Seconds between batches that workers made since `begun_ns`, if they never had to wait.

    As long as they are busy without a break, this is the rate of the training for ever, whatever
    the queue lends it now. None where they wait (then the training is slower than they are and
    its own step time is steady), or too few batches were made to tell.
    """
    made = [info for info in infos if info.worker is not None and info.start_ns > begun_ns]
    if workers < 1 or len(made) < max(_FEWEST_MADE, 2 * workers + 1):
        return None
    busy_ns = sum(info.done_ns - info.start_ns for info in made)
    span_ns = max(i.done_ns for i in made) - min(i.start_ns for i in made)
    if busy_ns < (1 - _IDLE_SHARE) * workers * span_ns:
        return None
    done = np.sort(np.array([info.done_ns for info in made], dtype=np.float64))
    return float((done[-1] - done[0]) / (done.size - 1) * 1e-9)


def extra(loop: ArmLoop) -> dict[str, Any]:
    """What experiments ask for besides: the model's traits, cores, the device's generation."""
    traits = []
    if any(isinstance(module, torch.nn.Conv2d) for module in loop.modules()):
        traits.append("conv")
    if loop.arch is not None:
        traits.append("search")
    if torch.is_anomaly_enabled():
        traits.append("anomaly_detection")
    if torch.are_deterministic_algorithms_enabled():
        traits.append("deterministic")
    switch = checkpointing(loop.eager_model)
    if switch is not None:
        traits += ["checkpointing"] + ["checkpointing_on"] * switch
    on_cuda = loop.device.type == "cuda"
    return {
        "traits": traits,
        "cores": usable_cores(),
        "capability": torch.cuda.get_device_capability(loop.device) if on_cuda else None,
        "steps_per_epoch": loop.steps_per_epoch,
        "queue": 0 if loop.replayed else loop.queue_length,
        "turn": math.lcm(max(1, loop.num_workers), max(1, loop.workload.arch_every)),
    }


def finite(values: list[float]) -> list[float | None]:
    """None in place of what JSON cannot hold."""
    return [value if math.isfinite(value) else None for value in values]
