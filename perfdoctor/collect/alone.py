"""Pass two: each stage by itself, with nothing else running beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from perfdoctor.collect.batches import call_model, first_sample, to_device
from perfdoctor.collect.clocks import synchronise, timed
from perfdoctor.collect.failures import batch_failure
from perfdoctor.collect.loader import BatchInfo, make_loader
from perfdoctor.collect.training import TrainingLoop
from perfdoctor.record import Floats, StageSeries
from perfdoctor.stages import (
    ARCH_STEP,
    OTHER,
    HostClock,
    StageTimeline,
    StepTimes,
    activated,
    in_order,
)

_MIN_ROUNDS = 2
_MAX_ROUNDS = 200
_MAX_LATENCY_CALLS = 300


class SynchronisedClock(HostClock):
    """The host's clock after waiting for the device: right for one stage at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def now(self) -> int:
        """Nanoseconds, once the device is idle."""
        synchronise(self._device)
        return time.perf_counter_ns()


def loader_alone(loop: TrainingLoop, budget_s: float) -> tuple[Floats, list[BatchInfo]]:
    """Seconds between batches of a fresh loader that nothing else competes with.

    The batches that the workers prepare at once when an iterator starts (the queue's length) are
    left out of each epoch, where an epoch is long enough to have others.
    """
    loader = make_loader(
        loop.workload.dataset, loop.loader_arguments, strict=loop.options.strict, count_reads=True
    )
    steady: list[float] = []
    steady_infos: list[BatchInfo] = []
    starting: list[float] = []
    infos: list[BatchInfo] = []
    deadline = time.perf_counter() + budget_s
    while time.perf_counter() < deadline:
        before = time.perf_counter()
        for index, timed_batch in enumerate(loader):
            now = time.perf_counter()
            if timed_batch.info.failure is not None:
                raise batch_failure(timed_batch.info.failure)
            into = starting if index < max(1, loop.queue_length) else steady
            into.append(now - before)
            infos.append(timed_batch.info)
            if into is steady:
                steady_infos.append(timed_batch.info)
            before = now
            if now > deadline and len(infos) >= _MIN_ROUNDS:
                break
        if not infos:
            break
    if steady:
        return np.array(steady), steady_infos
    return np.array(starting), infos


def compute_alone(loop: TrainingLoop, budget_s: float) -> tuple[StageSeries, ...]:
    """Every stage after loading, on captured batches, the device idle between stages."""
    timeline, loop.timeline = loop.timeline, StageTimeline(SynchronisedClock(loop.device))
    try:
        steps = _rounds(loop, budget_s)
    finally:
        loop.timeline = timeline
    names = {name for step in steps for name in step.exposed_s} - {OTHER}
    return tuple(
        StageSeries(
            name=name,
            exposed_s=np.array([step.exposed_s.get(name, np.nan) for step in steps]),
        )
        for name in in_order(names)
    )


def _rounds(loop: TrainingLoop, budget_s: float) -> list[StepTimes]:
    host = [_to_host(loop, batch) for batch in loop.captured]
    deadline = time.perf_counter() + budget_s
    steps: list[StepTimes] = []
    with loop.settings(), activated(loop.timeline):
        for index in range(_MAX_ROUNDS):
            if index >= _MIN_ROUNDS and time.perf_counter() > deadline:
                break
            loop.timeline.begin_step()
            batch = loop.on_device(host[index % len(host)])
            if loop.arch is not None:
                loop.timeline.enter(ARCH_STEP)
                loop.arch_step(batch, batch, loop.workload.arch_order)
                loop.timeline.leave()
            loop.train(batch)
        loop.timeline.begin_step()
        steps.extend(loop.timeline.drain())
    return steps


def _to_host(loop: TrainingLoop, batch: Any) -> Any:
    """The batch as the loader gave it."""
    host = to_device(batch, torch.device("cpu"), non_blocking=False)
    pinned = loop.device.type == "cuda" and loop.loader_arguments.get("pin_memory")
    return pin_memory(host) if pinned else host


def inference_latency(loop: TrainingLoop, budget_s: float) -> Floats | None:
    """Seconds for the forward of one sample, in evaluation mode and without gradients.

    None where the workload brings its own training step, since its forward is not known, and
    where the model is compiled, since it would be compiled once more for this shape.
    """
    if loop.workload.step is not None or loop.options.compile != "off":
        return None
    sample = first_sample(loop.captured[0])
    inputs, _ = loop.unpack(sample)
    loop.model.eval()
    try:
        with loop.settings(), torch.no_grad(), loop.autocast():
            return _latencies(loop, lambda: call_model(loop.model, inputs), budget_s)
    except Exception:  # a model that wants whole batches: not measured
        return None
    finally:
        loop.model.train()


def _latencies(loop: TrainingLoop, call: Callable[[], Any], budget_s: float) -> Floats:
    deadline = time.perf_counter() + budget_s
    call()  # the first chooses kernels and allocates
    found: list[float] = []
    while len(found) < _MAX_LATENCY_CALLS and (not found or time.perf_counter() < deadline):
        found.append(timed(loop.device, call))
    return np.array(found)


def inference_batch(loop: TrainingLoop) -> bool:
    """One forward of a whole batch in evaluation mode, for its peak memory; whether it ran."""
    if loop.workload.step is not None:
        return False
    inputs, _ = loop.unpack(loop.captured[0])
    loop.model.eval()
    try:
        with loop.settings(), torch.no_grad(), loop.autocast():
            call_model(loop.model, inputs)
    finally:
        loop.model.train()
    return True
