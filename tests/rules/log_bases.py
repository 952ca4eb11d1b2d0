"""Reports of logs for the rules' cases, made by hand: what a log tells and what it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from perfdoctor.record import Environment, Floats, Gpu, Source
from perfdoctor.report import (
    ChangePoint,
    Economics,
    Epochs,
    MemoryUse,
    Report,
    StageStat,
    Steps,
    Throughput,
    Trend,
    Usage,
    Wall,
    WallPart,
)
from perfdoctor.stats import describe

RECORDS = 200
STEP_S = 0.400
TOTAL_S = 36_000.0


def times(median_s: float, seed: int, spread: float = 0.02, count: int = RECORDS) -> Floats:
    """Seconds that vary a little."""
    noise: Floats = np.exp(np.random.default_rng(seed).normal(0, spread, count))
    return median_s * noise


def usage(value: float, spread: float = 0.0) -> Usage:
    return Usage(mean=value, p50=value, p95=value + spread)


def wall(total_s: float = TOTAL_S, **shares: float) -> Wall:
    """Shares of the wall clock; training is what they leave."""
    shares = {"train": 1 - sum(shares.values()), **shares}
    counts = {"validation": 50, "checkpoint": 20, "arch_step": 900}
    parts = [
        WallPart(name=n, seconds=s * total_s, share=s, count=counts.get(n, 1))
        for n, s in shares.items()
    ]
    return Wall(total_s=total_s, parts=tuple(parts))


def bare() -> Report:
    """Losses, and nothing that tells the time."""
    return Report(
        schema_version=1,
        tool={"name": "perfdoctor", "version": "0.1.0"},
        created_at="2026-03-04T03:04:05+00:00",
        name="train.log",
        source=Source(kind="log", path="train.log", format="generic"),
        environment=Environment(),
        configuration={},
        steps=None,
        stages={},
        throughput=None,
    )


def with_steps(report: Report, step_s: Floats, columns: Mapping[str, Floats]) -> Report:
    """The times of a log's records, and of the stages it prints; the rest is `other`."""
    whole = describe(step_s)
    assert whole is not None
    series = {"step_s": step_s, "step": 50.0 * np.arange(1, step_s.size + 1)}
    stages = {}
    for name, column in {**columns, "other": step_s - sum(columns.values())}.items():
        stat = describe(column)
        assert stat is not None
        stages[name] = StageStat(**vars(stat), share=stat.total_s / whole.total_s)
        series |= {} if name == "other" else {f"{name}_s": column}
    return replace(
        report,
        steps=Steps(count=step_s.size, warmup_discarded=0, time=whole),
        stages=stages if columns else {},
        throughput=Throughput(
            samples_per_s=256 / whole.mean_s,
            steps_per_s=1 / whole.mean_s,
            trend=Trend(first=640.0, last=640.0, change=0.0, shape="steady"),
        ),
        series={name: tuple(column.tolist()) for name, column in series.items()},
    )


def steps_only() -> Report:
    """How long steps take, and not what for."""
    return with_steps(bare(), times(STEP_S, 1), {})


def loading_log(share: float, **settings: Any) -> Report:
    """A log that prints the wait for data beside the step, as imagenet-style loops do."""
    step_s = times(STEP_S, 1)
    report = with_steps(bare(), step_s, {"data_loading": share * times(STEP_S, 2)})
    return replace(report, configuration={"batch_size": 256, **settings})


def healthy_log() -> Report:
    """Ten hours on a busy GPU, with all settings as they should be and all of it accounted for."""
    report = loading_log(
        0.03,
        num_workers=8,
        pin_memory=True,
        persistent_workers=True,
        precision="bf16",
        compile=True,
        epochs=50,
        log_interval=50,
    )
    parts = {"validation": 0.05, "checkpoint": 0.01, "logging": 0.01, "start_up": 0.005}
    return replace(
        report,
        environment=Environment(device="cuda:0", gpu=(Gpu(name="NVIDIA A100"),)),
        wall=wall(**parts, unexplained=0.01),
        epochs=Epochs(
            count=50,
            steps_per_epoch=1000,
            time=describe(times(TOTAL_S / 50, 3, count=50)),
            validation=describe(times(0.05 * TOTAL_S / 50, 4, count=50)),
            economics=Economics(
                metric="val_acc",
                lower_is_better=False,
                best=0.761,
                best_epoch=47,
                after_best_s=2160.0,
                after_best_share=0.06,
                patience=15,
                saved_s=0.0,
            ),
        ),
        utilisation={
            "gpu": usage(93.0),
            "gpu_memory": usage(70.0),
            "ram": usage(40.0, 2.0),
            "swap_bytes": usage(0.0),
        },
        memory=MemoryUse(peak_share=0.70),
        series=report.series | {"epoch_s": tuple(times(TOTAL_S / 50, 3, count=50).tolist())},
    )


def waiting_log() -> Report:
    """Four workers, and a third of each step is waiting."""
    return loading_log(0.35, num_workers=4)


def no_workers_log() -> Report:
    """No workers, and half of each step is waiting."""
    return loading_log(0.50, num_workers=0)


def slowing_log() -> Report:
    """Twice as long a step from the middle on, while the wait for data stays as it was."""
    step_s = np.concatenate([times(0.298, 1, count=100), times(0.616, 2, count=100)])
    report = with_steps(bare(), step_s, {"data_loading": times(0.11, 3)})
    point = ChangePoint(
        index=100,
        before=53.7,
        after=26.0,
        p=1e-9,
        step=5050.0,
        step_before=5000.0,
        at_s=3600.0,
        where="logs/train.log:412",
    )
    trend = Trend(
        first=53.7, last=26.0, change=26.0 / 53.7 - 1, shape="step", change_points=(point,)
    )
    return replace(report, throughput=Throughput(samples_per_s=35.0, trend=trend))


def recovered_log() -> Report:
    """Half as fast for a while, then as before."""
    report = loading_log(0.03, num_workers=4)
    points = (
        ChangePoint(index=60, before=640.0, after=280.0, p=1e-9, step=3000.0, where="train.log:70"),
        ChangePoint(index=90, before=280.0, after=635.0, p=1e-9, step=4500.0),
    )
    trend = Trend(first=640.0, last=636.0, change=-0.006, shape="step", change_points=points)
    return replace(report, throughput=Throughput(samples_per_s=560.0, trend=trend))


def search_log() -> Report:
    """Architecture search that prints the times of its epochs and nothing of their steps."""
    epoch_s = times(90.0, 1, count=40)
    return replace(
        bare(),
        epochs=Epochs(
            count=40,
            time=describe(epoch_s),
            validation=describe(0.17 * epoch_s),
            economics=Economics(
                metric="valid_acc",
                lower_is_better=False,
                best=88.45,
                best_epoch=15,
                after_best_s=2250.0,
                after_best_share=0.61,
                patience=15,
                saved_s=900.0,
            ),
        ),
        wall=wall(3600.0, validation=0.17, arch_step=0.45, unexplained=0.02),
        series={"epoch_s": tuple(epoch_s.tolist())},
    )


LOGS: dict[str, Callable[[], Report]] = {
    make.__name__: make
    for make in (
        bare,
        steps_only,
        healthy_log,
        waiting_log,
        no_workers_log,
        slowing_log,
        recovered_log,
        search_log,
    )
}
