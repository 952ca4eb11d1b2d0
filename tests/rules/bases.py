"""Trainings for the rules' cases: made as a Run and summarised, so their facts fit together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from perfdoctor.pipeline_model import simulate
from perfdoctor.record import (
    Environment,
    Floats,
    Gpu,
    LoaderRecord,
    Memory,
    Probe,
    Run,
    Source,
    StageSeries,
)
from perfdoctor.report import Report
from perfdoctor.summarise import summarise

STEPS = 200
COMPUTE = ("forward", "loss", "backward")
CPU_PARTS = {"forward": 0.016, "loss": 0.001, "backward": 0.030, "optimizer": 0.002}


def _noisy(value_s: float, seed: int, share: float = 0.02) -> Floats:
    rng = np.random.default_rng(seed)
    return value_s * np.exp(rng.normal(0, share, STEPS))


def training(
    *,
    batch_s: float | Floats,
    parts_s: Mapping[str, float],
    workers: int = 0,
    prefetch_factor: int = 2,
    cores: float = 4,
    busy_cores: float = 1.0,
    batch_cpu_share: float = 1.0,
    start_s: float = 0.0,
    **settings: Any,
) -> Run:
    """A training whose waits are those that its loader would really cause."""
    made = _noisy(batch_s, 1) if isinstance(batch_s, float) else batch_s
    parts = {name: _noisy(value, 2 + i) for i, (name, value) in enumerate(parts_s.items())}
    parts["other"] = _noisy(0.0005, 90)
    rest_s = np.sum(list(parts.values()), axis=0)
    waits = simulate(made, rest_s, workers, prefetch_factor)
    stages = {"data_loading": waits, **parts}
    compute_cpu_s = float(rest_s.mean()) * busy_cores
    return Run(
        name="Model",
        source=Source(kind="bench"),
        environment=Environment(device="cpu", cores_usable=cores, memory_bytes=16 * 2**30),
        configuration={
            "batch_size": 32,
            "num_workers": workers,
            "prefetch_factor": prefetch_factor if workers else None,
            "pin_memory": False,
            "persistent_workers": True if workers else None,
            "precision": "fp32",
            "threads": max(1, int(cores)),
            "optimizer": "AdamW",
            "optimizer_foreach": None,
            "optimizer_fused": None,
            "loader_kind": "map",
            "dataset_size": 32_000,
            **settings,
        },
        step_s=waits + rest_s,
        samples=np.full(STEPS, 32.0),
        stages=tuple(StageSeries(name=n, exposed_s=v) for n, v in stages.items()),
        epoch_start=np.arange(STEPS) == 0,
        warmup=2 * workers * prefetch_factor,
        steps_per_epoch=1000,
        loader=LoaderRecord(
            batch_s=made,
            collate_s=made * 0.05,
            cpu_s=made * batch_cpu_share,
            first_batch_s=np.array([start_s + float(made.mean())] * 8),
        ),
        memory=Memory(total_bytes=16 * 2**30, training_peak_bytes=2 * 2**30),
        utilisation={"cpu_foreign": np.full(20, 4.0)},
        step_cpu_s=compute_cpu_s,
    )


def probe(name: str, speedup: float, affects: tuple[str, ...] = COMPUTE, **details: float) -> Probe:
    return Probe(
        name=name,
        speedup=speedup,
        low=speedup * 0.97,
        high=speedup * 1.03,
        pairs=12,
        affects=affects,
        details=details,
    )


def input_bound_cpu() -> Run:
    """No workers, 80 ms a batch beside 50 ms of computing on one of four cores."""
    return training(batch_s=0.080, parts_s=CPU_PARTS)


def input_bound_one_core() -> Run:
    """The same with all the work on the only core."""
    return training(batch_s=0.080, parts_s=CPU_PARTS, cores=1)


def reading_one_core() -> Run:
    """One core, but making a batch is waiting for a disk."""
    return training(batch_s=0.080, parts_s=CPU_PARTS, cores=1, batch_cpu_share=0.02)


def reading_workers() -> Run:
    """Two workers on two cores that wait 10 ms for each of 32 samples; 50 ms of computing."""
    return training(batch_s=0.320, parts_s=CPU_PARTS, workers=2, cores=2, batch_cpu_share=0.02)


def starved_workers() -> Run:
    """One worker that takes 200 ms a batch, 50 ms of computing, eight cores."""
    return training(batch_s=0.200, parts_s=CPU_PARTS, workers=1, cores=8)


def saturated_cores() -> Run:
    """Three workers and two computing threads that together fill four cores."""
    parts_s = {"forward": 0.030, "backward": 0.040}
    return training(batch_s=0.400, parts_s=parts_s, workers=3, cores=4, busy_cores=2.0)


def uneven_loader() -> Run:
    """Five slow batches in each forty, which the workers make up for on average."""
    batch_s = np.where(np.arange(STEPS) % 40 < 5, 0.200, 0.030) * _noisy(1.0, 7)
    return training(batch_s=batch_s, parts_s=CPU_PARTS, workers=2, cores=8)


def blocked_in_order() -> Run:
    """One batch in sixteen takes half a second, longer than what is ready bridges."""
    batch_s = np.where(np.arange(STEPS) % 16 == 5, 0.500, 0.030) * _noisy(1.0, 7)
    return training(batch_s=batch_s, parts_s=CPU_PARTS, workers=4, cores=8)


def short_epochs() -> Run:
    """Workers that take 1.5 s to start, anew after every 20 steps of 50 ms."""
    run = training(
        batch_s=0.040,
        parts_s=CPU_PARTS,
        workers=2,
        cores=8,
        start_s=1.5,
        persistent_workers=False,
    )
    return replace(run, steps_per_epoch=20)


def crowded_workers() -> Run:
    """Eight workers on two cores, which they and the training keep busy."""
    return training(
        batch_s=0.40, parts_s=CPU_PARTS, workers=8, cores=2, batch_cpu_share=0.12, threads=2
    )


def healthy_cpu() -> Run:
    """Workers that keep up, and probes that found nothing."""
    run = training(batch_s=0.040, parts_s=CPU_PARTS, workers=2, cores=4, busy_cores=1.5)
    probes = (
        probe("bf16", 0.4),
        probe("optimizer_fused", 1.3, ("optimizer",)),
        probe("optimizer_foreach", 1.1, ("optimizer",)),
        probe("batch_x2", 1.02, (*COMPUTE, "optimizer"), batch_size=64, peak_bytes=3 * 2**30),
    )
    return replace(run, probes=probes)


def _on_gpu(run: Run, gpu: float = 96.0) -> Run:
    device = Gpu(name="NVIDIA A100", memory_bytes=40 * 2**30, capability="8.0")
    return replace(
        run,
        environment=Environment(device="cuda:0", cuda="12.4", gpu=(device,), cores_usable=16),
        memory=Memory(total_bytes=40 * 2**30, training_peak_bytes=28 * 2**30),
        utilisation={"cpu_foreign": np.full(20, 4.0), "gpu": np.full(20, gpu)},
    )


def healthy_gpu() -> Run:
    """A GPU that is busy in bfloat16, fed by four workers from pinned memory."""
    parts_s = {"h2d_copy": 0.001, **CPU_PARTS}
    run = training(
        batch_s=0.080,
        parts_s=parts_s,
        workers=4,
        cores=16,
        pin_memory=True,
        precision="bf16",
        optimizer_fused=True,
    )
    double = probe("batch_x2", 1.06, (*COMPUTE, "optimizer"), batch_size=64, peak_bytes=30 * 2**30)
    return replace(_on_gpu(run), probes=(double,))


def plain_gpu() -> Run:
    """A GPU in float32, fed from pageable memory, with a plain optimizer."""
    parts_s = {**CPU_PARTS, "h2d_copy": 0.012, "optimizer": 0.008}
    run = training(batch_s=0.040, parts_s=parts_s, workers=4, cores=16)
    probes = (
        probe("bf16", 2.4),
        probe("fp16", 2.5),
        probe("tf32", 1.6),
        probe("h2d_pinned", 2.0, ("h2d_copy",)),
        probe("optimizer_fused", 3.0, ("optimizer",)),
        probe("optimizer_foreach", 1.8, ("optimizer",)),
        probe("batch_x2", 1.5, (*COMPUTE, "optimizer"), batch_size=64, peak_bytes=25 * 2**30),
    )
    return replace(_on_gpu(run), probes=probes)


def idle_gpu() -> Run:
    """A GPU that is neither busy nor full, and waits for nothing in particular."""
    run = _on_gpu(training(batch_s=0.040, parts_s=CPU_PARTS, workers=4, cores=16), gpu=30.0)
    return replace(run, memory=Memory(total_bytes=40 * 2**30, training_peak_bytes=4 * 2**30))


def few_threads() -> Run:
    """One torch thread on four cores."""
    run = training(batch_s=0.0005, parts_s=CPU_PARTS, threads=1)
    return replace(run, probes=(probe("threads", 2.2, threads=4.0),))


def search() -> Run:
    """Architecture search with a second-order step after every training step."""
    run = training(
        batch_s=0.002, parts_s={**CPU_PARTS, "arch_step": 0.100}, arch_every=1, arch_order=2
    )
    return replace(run, probes=(probe("arch_first_order", 3.0, ("arch_step",)),))


def noisy() -> Run:
    """Steps that vary by a third, while another program takes more than a core."""
    run = training(batch_s=0.002, parts_s=CPU_PARTS)
    factor = np.exp(np.random.default_rng(5).normal(0, 0.35, STEPS))
    stages = tuple(replace(s, exposed_s=s.exposed_s * factor) for s in run.stages)
    return replace(
        run,
        step_s=run.step_s * factor,
        stages=stages,
        utilisation={"cpu_foreign": np.full(20, 130.0)},
    )


BASES: dict[str, Callable[[], Run]] = {
    make.__name__: make
    for make in (
        input_bound_cpu,
        input_bound_one_core,
        reading_one_core,
        reading_workers,
        starved_workers,
        saturated_cores,
        uneven_loader,
        blocked_in_order,
        short_epochs,
        crowded_workers,
        healthy_cpu,
        healthy_gpu,
        plain_gpu,
        idle_gpu,
        few_threads,
        search,
        noisy,
    )
}


def report(base: str) -> Report:
    return summarise(BASES[base]())
