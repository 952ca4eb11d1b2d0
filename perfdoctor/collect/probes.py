"""Small experiments on captured batches: what would this change bring to the stages it touches?

Each probe times the present and the changed way in interleaved pairs (AB, BA, …) in this process
and keeps the median ratio with its interval. They feed predictions; they are not verification,
which needs the whole training.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from perfdoctor.collect import data_probes, model_probes
from perfdoctor.collect.batches import to_device, tree_map
from perfdoctor.collect.clocks import timed
from perfdoctor.collect.environment import usable_cores
from perfdoctor.collect.failures import is_out_of_memory
from perfdoctor.collect.precision import gradient_scaler, matmul_precision
from perfdoctor.collect.probe_arms import Arms, Work
from perfdoctor.collect.training import TrainingLoop
from perfdoctor.record import Probe
from perfdoctor.stages import ARCH_STEP, BACKWARD, FORWARD, H2D_COPY, LOSS, OPTIMIZER
from perfdoctor.stats import ratio_interval

COMPUTE = (FORWARD, LOSS, BACKWARD)
MIN_PAIRS = 6  # below this a median has no 95 % interval
MAX_PAIRS = 40
#: A pair shorter than this is repeated inside itself, or timer and launch noise would decide.
_MIN_ARM_S = 0.004
#: But where one way is so many times as fast, how many times exactly does not matter.
_FAR = 20.0


def interleaved(name: str, arms: Arms, device: torch.device, budget_s: float) -> Probe | None:
    """Runs the pairs; None if fewer than six fit into three times the budget."""
    arms.now(), arms.changed()  # warm-up: first calls allocate and choose kernels
    first = timed(device, arms.now), timed(device, arms.changed)
    repeats = max(1, math.ceil(_MIN_ARM_S / max(1e-7, min(first), max(first) / _FAR)))
    pair_s = sum(first) * repeats
    if pair_s * MIN_PAIRS > 3 * budget_s:
        return None
    pairs = int(min(MAX_PAIRS, max(MIN_PAIRS, budget_s / pair_s)))
    logs = np.array([_log_ratio(arms, device, repeats, bool(i % 2)) for i in range(pairs)])
    ratio, interval = ratio_interval(logs + math.log(arms.scale))
    low, high = interval if interval is not None else (ratio, ratio)
    return Probe(
        name=name,
        speedup=ratio,
        low=low,
        high=high,
        pairs=pairs,
        affects=arms.affects,
        details=arms.details or {},
    )


def _log_ratio(arms: Arms, device: torch.device, repeats: int, swapped: bool) -> float:
    works = (arms.changed, arms.now) if swapped else (arms.now, arms.changed)
    first, second = (timed(device, partial(_repeat, work, repeats)) for work in works)
    return math.log(second / first) if swapped else math.log(first / second)


def _repeat(work: Work, times: int) -> None:
    for _ in range(times):
        work()


def probe_all(loop: TrainingLoop, budget_s: float, precision: str) -> Iterator[Probe]:
    """Every probe that makes sense for this training. One that fails is left out."""
    chosen = dict(_PROBES)
    if budget_s >= _COMPILING_S:
        chosen["compile"] = lambda loop, _: model_probes.compiled(loop, budget_s)
    for name, prepare in chosen.items():
        try:
            with loop.settings():
                arms = prepare(loop, precision)
                probe = interleaved(name, arms, loop.device, budget_s) if arms else None
        except Exception as error:  # the change may not be supported here: not measured
            if is_out_of_memory(error) and loop.device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        finally:
            loop.optimizer.zero_grad(set_to_none=True)
            loop.timeline.restart()
        if probe is not None:
            yield probe


def _forward_backward(loop: TrainingLoop, precision: str | None) -> Work:
    batch = loop.captured[0]
    scaler = gradient_scaler(loop.device, precision)

    def work() -> None:
        with matmul_precision(precision):
            loss = loop.loss_of(batch, precision)
            (loss if scaler is None else scaler.scale(loss)).backward()
        loop.optimizer.zero_grad(set_to_none=True)

    return work


def _lower_precision(loop: TrainingLoop, precision: str, changed: str) -> Arms | None:
    if precision not in ("fp32", "tf32") or loop.workload.step is not None:
        return None
    if loop.options.compile != "off":  # each precision would be compiled anew: too long a probe
        return None
    now = _forward_backward(loop, loop.options.precision)
    return Arms(now, _forward_backward(loop, changed), COMPUTE)


def _bf16(loop: TrainingLoop, precision: str) -> Arms | None:
    return _lower_precision(loop, precision, "bf16")


def _fp16(loop: TrainingLoop, precision: str) -> Arms | None:
    return _lower_precision(loop, precision, "fp16") if loop.device.type == "cuda" else None


def _tf32(loop: TrainingLoop, precision: str) -> Arms | None:
    if precision != "fp32" or loop.device.type != "cuda":
        return None
    if torch.cuda.get_device_capability(loop.device) < (8, 0):
        return None
    now = _forward_backward(loop, loop.options.precision)
    return Arms(now, _forward_backward(loop, "tf32"), COMPUTE)


def _fused(loop: TrainingLoop, precision: str) -> Arms | None:
    return _optimizer(loop, "fused")


def _foreach(loop: TrainingLoop, precision: str) -> Arms | None:
    return _optimizer(loop, "foreach")


def _optimizer(loop: TrainingLoop, flag: str) -> Arms | None:
    """The same optimizer on copies of the parameters, as it is and with the flag on."""
    optimizer = loop.optimizer
    kind = type(optimizer)
    if not kind.__module__.startswith("torch.optim") or optimizer.defaults.get(flag):
        return None
    if flag not in optimizer.defaults or any(getattr(m, "sparse", False) for m in loop.modules()):
        return None  # neither way takes sparse gradients
    return Arms(_copied(optimizer, {}).step, _copied(optimizer, {flag: True}).step, (OPTIMIZER,))


def _copied(optimizer: torch.optim.Optimizer, change: dict[str, Any]) -> torch.optim.Optimizer:
    copies = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            copy = torch.nn.Parameter(parameter.detach().clone())
            copy.grad = torch.full_like(copy, 1e-3)
            copies.append(copy)
    defaults = {**optimizer.defaults, **change}
    if "fused" in change:
        defaults["foreach"] = None
    accepted = {k: v for k, v in defaults.items() if k in _init_arguments(type(optimizer))}
    made: torch.optim.Optimizer = type(optimizer)(copies, **accepted)
    return made


def _init_arguments(kind: type) -> set[str]:
    return set(inspect.signature(kind).parameters)


def _threads(loop: TrainingLoop, precision: str) -> Arms | None:
    now, possible = torch.get_num_threads(), int(usable_cores())
    if loop.device.type != "cpu" or now >= possible:
        return None
    work = _forward_backward(loop, loop.options.precision)

    def changed() -> None:
        torch.set_num_threads(possible)
        try:
            work()
        finally:
            torch.set_num_threads(now)

    return Arms(work, changed, COMPUTE, details={"threads": float(possible)})


def _first_order(loop: TrainingLoop, precision: str) -> Arms | None:
    if loop.arch is None or loop.workload.arch_order != 2 or len(loop.captured) < 2:
        return None
    train, val = loop.captured[:2]
    return Arms(
        lambda: loop.arch_step(train, val, 2), lambda: loop.arch_step(train, val, 1), (ARCH_STEP,)
    )


def _pinned(loop: TrainingLoop, precision: str) -> Arms | None:
    if loop.device.type != "cuda" or loop.loader_arguments.get("pin_memory"):
        return None
    host = to_device(loop.captured[0], torch.device("cpu"), non_blocking=False)
    pinned = tree_map(lambda t: t.pin_memory(), host)
    return Arms(
        lambda: to_device(host, loop.device, non_blocking=False),
        lambda: to_device(pinned, loop.device, non_blocking=True),
        (H2D_COPY,),
    )


_PROBES: dict[str, Callable[[TrainingLoop, str], Arms | None]] = {
    "bf16": _bf16,
    "fp16": _fp16,
    "tf32": _tf32,
    "optimizer_fused": _fused,
    "optimizer_foreach": _foreach,
    "batch_x2": model_probes.larger_batch(1),
    "threads": _threads,
    "arch_first_order": _first_order,
    "h2d_pinned": _pinned,
    "batch_x4": model_probes.larger_batch(2),
    "channels_last": model_probes.channels_last,
    "cudnn_benchmark": model_probes.cudnn_benchmark,
    "gradient_checkpointing": model_probes.gradient_checkpointing,
    "accumulation": model_probes.accumulation,
    "cached_samples": data_probes.cached_samples,
    "neighbouring_samples": data_probes.neighbouring_samples,
    "handover": data_probes.handed_over,
}
#: With this budget for one probe (`--max-seconds 300` gives it) compiling is tried too.
_COMPILING_S = 10.0
