"""Small plausible records for tests; whatever matters to a test is passed to the builder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from perfdoctor.record import Environment, Floats, LogFile, Run, Sampling, Source, StageSeries
from perfdoctor.report import (
    ComparedConfiguration,
    Comparison,
    Diagnosis,
    Epochs,
    Evidence,
    Prediction,
    Recommendation,
    Report,
    StageStat,
    Stat,
    Steps,
    Throughput,
    Wall,
    WallPart,
)
from perfdoctor.stages import in_order
from perfdoctor.stats import describe

#: Seconds of each stage in a step that waits for its data.
INPUT_BOUND_S = {
    "data_loading": 0.0820,
    "h2d_copy": 0.0004,
    "forward": 0.0102,
    "loss": 0.0006,
    "backward": 0.0196,
    "optimizer": 0.0021,
    "other": 0.0003,
}
#: The same where only computing takes time.
COMPUTE_BOUND_S = {**INPUT_BOUND_S, "data_loading": 0.0006}

CONFIGURATION = {
    "batch_size": 32,
    "num_workers": 0,
    "pin_memory": False,
    "precision": "fp32",
    "compile": "off",
    "device": "cpu",
}
ENVIRONMENT = Environment(
    python="3.12.4",
    torch="2.13.0",
    platform="linux",
    device="cpu",
    cpu="AMD EPYC 7763 64-Core Processor",
    cores_usable=2.0,
    cores_logical=2,
    memory_bytes=8 * 2**30,
)


def make_run(
    *,
    steps: int = 64,
    stage_s: Mapping[str, float] = INPUT_BOUND_S,
    batch_size: int = 32,
    noise: float = 0.02,
    seed: int = 0,
    **overrides: Any,
) -> Run:
    """A Run of one epoch whose stages take `stage_s`, times log-normal `noise`."""
    rng = np.random.default_rng(seed)
    stages = tuple(
        StageSeries(name=name, exposed_s=stage_s[name] * np.exp(rng.normal(0, noise, steps)))
        for name in in_order(list(stage_s))
    )
    fields: dict[str, Any] = {
        "name": "TinyNet",
        "source": Source(kind="bench", command="perfdoctor bench"),
        "environment": ENVIRONMENT,
        "configuration": {**CONFIGURATION, "batch_size": batch_size},
        "step_s": np.sum([stage.exposed_s for stage in stages], axis=0),
        "samples": np.full(steps, float(batch_size)),
        "stages": stages,
        "epoch_start": np.arange(steps) == 0,
        "steps_per_epoch": steps,
        "sampling": Sampling(stop="iterations", target_share=0.02, seconds=10.0),
    }
    return Run(**(fields | overrides))


def make_stat(p50_s: float, *, count: int = 200, **overrides: Any) -> Stat:
    """A Stat around a median, with percentiles in fixed ratios to it."""
    stat = Stat(
        count=count,
        total_s=1.02 * p50_s * count,
        mean_s=1.02 * p50_s,
        std_s=0.08 * p50_s,
        min_s=0.92 * p50_s,
        p50_s=p50_s,
        p95_s=1.15 * p50_s,
        p99_s=1.30 * p50_s,
        max_s=1.60 * p50_s,
        p50_ci=(0.988 * p50_s, 1.012 * p50_s),
    )
    return replace(stat, **overrides)


def make_stages(stage_s: Mapping[str, float], *, count: int = 200) -> dict[str, StageStat]:
    """Stages in their order, with shares from their medians."""
    total_s = sum(stage_s.values())
    return {
        name: StageStat(
            **vars(make_stat(stage_s[name], count=count)), share=stage_s[name] / total_s
        )
        for name in in_order(list(stage_s))
    }


def make_series(
    step_s: float, *, count: int = 200, batch_size: int = 32, noise: float = 0.05, seed: int = 0
) -> dict[str, tuple[float | None, ...]]:
    """The `step_s` and `samples` columns of a run with log-normal noise."""
    times = step_s * np.exp(np.random.default_rng(seed).normal(0, noise, count))
    return {"step_s": tuple(times.tolist()), "samples": (float(batch_size),) * count}


def make_report(
    *,
    stage_s: Mapping[str, float] = INPUT_BOUND_S,
    count: int = 200,
    batch_size: int = 32,
    **overrides: Any,
) -> Report:
    """A Report of `count` steps whose stages take `stage_s`; nothing is diagnosed."""
    step_s = sum(stage_s.values())
    rate = batch_size / step_s
    fields: dict[str, Any] = {
        "schema_version": 1,
        "tool": {"name": "perfdoctor", "version": "0.1.0"},
        "created_at": "2026-01-02T03:04:05+00:00",
        "name": "TinyNet",
        "source": Source(kind="bench", command="perfdoctor bench"),
        "environment": ENVIRONMENT,
        "configuration": {**CONFIGURATION, "batch_size": batch_size},
        "steps": Steps(count=count, warmup_discarded=10, time=make_stat(step_s, count=count)),
        "stages": make_stages(stage_s, count=count),
        "throughput": Throughput(
            samples_per_s=rate,
            steps_per_s=1 / step_s,
            samples_per_s_ci=(0.985 * rate, 1.015 * rate),
        ),
        "sampling": Sampling(stop="precision", target_share=0.02, seconds=24.6),
        "series": make_series(step_s, count=count, batch_size=batch_size),
    }
    return Report(**(fields | overrides))


def make_diagnosis(**overrides: Any) -> Diagnosis:
    """The verdict of a run that waits for its data."""
    diagnosis = Diagnosis(
        verdict="input-bound",
        bottleneck="data_loading",
        share=0.71,
        confidence=0.9,
        summary="71 % of each step is spent waiting for data; the model waits, not the loader.",
    )
    return replace(diagnosis, **overrides)


def make_recommendation(**overrides: Any) -> Recommendation:
    """The advice to load in worker processes."""
    recommendation = Recommendation(
        rank=1,
        rule="PD101",
        name="synchronous-data-loading",
        title="The training process loads every batch itself",
        stage="data_loading",
        advice="Load in two worker processes, so that the next batch is made during this step.",
        change={"num_workers": 2},
        snippet="DataLoader(dataset, batch_size=32, num_workers=2, persistent_workers=True)",
        evidence=(
            Evidence(metric="stages.data_loading.share", value=0.71, unit="share", threshold=0.1),
            Evidence(metric="num_workers", value=0, unit=""),
        ),
        effort="flag",
        safety="exact",
        confidence=0.9,
        predicted=Prediction(speedup=1.42, low=1.25, high=1.6, model="pipeline"),
    )
    return replace(recommendation, **overrides)


def make_compared(num_workers: int = 0, **overrides: Any) -> ComparedConfiguration:
    """One row of a comparison of worker counts."""
    relative = {0: 1.0, 1: 1.31}.get(num_workers, 1.44)
    row = ComparedConfiguration(
        label=f"num_workers={num_workers}",
        configuration={**CONFIGURATION, "num_workers": num_workers},
        samples_per_s=277.8 * relative,
        step_p50_s=0.1152 / relative,
        relative=relative,
        relative_ci=(0.97 * relative, 1.03 * relative) if num_workers else None,
        peak_bytes=310 * 2**20,
        bottleneck="data_loading",
    )
    return replace(row, **overrides)


def make_comparison(**overrides: Any) -> Comparison:
    """No worker, one and two: two is best."""
    rows = tuple(make_compared(n) for n in (0, 1, 2))
    return replace(Comparison(varied=("num_workers",), rows=rows, best=(2,)), **overrides)


def make_log_file(path: str = "train.log", **overrides: Any) -> LogFile:
    """A file of imagenet-style lines."""
    file = LogFile(
        path=path,
        format="pytorch-imagenet",
        reason='12 of 12 lines like "Epoch: [0][ 10/5005]  Time  0.124 ( 0.131)"',
        lines=420,
        records=400,
    )
    return replace(file, **overrides)


def make_log_series(
    step_s: Floats, *, batch_size: int = 256, data_share: float = 0.1, every: int = 10
) -> dict[str, tuple[float | None, ...]]:
    """The columns of a log that prints every so many steps, thinned to 2,000 points."""
    steps = float(every) * np.arange(1, step_s.size + 1)
    columns = {
        "step": steps,
        "at_s": np.cumsum(step_s) * every,
        "line": np.arange(step_s.size) + 13.0,
        "step_s": step_s,
        "samples": np.full(step_s.size, float(batch_size)),
        "samples_per_s": batch_size / step_s,
        "data_loading_s": data_share * step_s,
    }
    stride = max(1, -(-step_s.size // 2000))
    return {name: tuple(values[::stride].tolist()) for name, values in columns.items()}


def make_epoch_series(
    epoch_s: Floats, validation_s: Floats | None = None
) -> dict[str, tuple[float | None, ...]]:
    """The columns that have one element an epoch."""
    columns = {
        "epoch": np.arange(epoch_s.size, dtype=np.float64),
        "epoch_s": epoch_s,
        "epoch_line": 40.0 * np.arange(1, epoch_s.size + 1),
    }
    if validation_s is not None:
        columns["validation_s"] = validation_s
    return {name: tuple(values.tolist()) for name, values in columns.items()}


def make_wall(parts_s: Mapping[str, float], **overrides: Any) -> Wall:
    """A wall clock of these parts, in seconds."""
    total_s = sum(parts_s.values())
    parts = tuple(WallPart(name=n, seconds=s, share=s / total_s) for n, s in parts_s.items())
    wall = Wall(total_s=total_s, parts=parts, started_at="2026-03-01T21:14:05+00:00")
    return replace(wall, **overrides)


def make_log_report(
    *,
    step_s: Floats | None = None,
    batch_size: int = 256,
    data_share: float = 0.1,
    every: int = 10,
    **overrides: Any,
) -> Report:
    """A Report of a log that prints the time of every tenth step; nothing is diagnosed.

    `step_s` are the printed step times: by default 400 around 125 ms.
    """
    times = 0.125 * np.exp(np.random.default_rng(0).normal(0, 0.04, 400))
    times = times if step_s is None else step_s
    stat = describe(times)
    assert stat is not None
    rate = batch_size / stat.mean_s
    shares = {"data_loading": data_share, "other": 1 - data_share}
    fields: dict[str, Any] = {
        "schema_version": 1,
        "tool": {"name": "perfdoctor", "version": "0.1.0"},
        "created_at": "2026-03-04T03:04:05+00:00",
        "name": "train.log",
        "source": Source(kind="log", path="train.log", format="pytorch-imagenet"),
        "environment": Environment(),
        "configuration": {"batch_size": batch_size, "num_workers": 4, "arch": "resnet50"},
        "steps": Steps(count=stat.count, warmup_discarded=0, time=stat),
        "stages": {name: _part(stat, share) for name, share in shares.items()},
        "throughput": Throughput(
            samples_per_s=rate,
            steps_per_s=1 / stat.mean_s,
            samples_per_s_ci=(0.985 * rate, 1.015 * rate),
            median_samples_per_s=batch_size / stat.p50_s,
        ),
        "epochs": Epochs(count=1),
        "wall": make_wall({"train": every * stat.total_s, "start_up": 41.0, "unexplained": 12.0}),
        "series": make_log_series(times, batch_size=batch_size, data_share=data_share, every=every),
        "logs": (make_log_file(records=stat.count, lines=stat.count + 20),),
    }
    return Report(**(fields | overrides))


def _part(whole: Stat, share: float) -> StageStat:
    """A stage that takes `share` of every step."""
    times = {n: share * v for n, v in vars(whole).items() if isinstance(v, float)}
    return StageStat(**{**vars(whole), **times, "share": share, "p50_ci": None, "p95_ci": None,
                        "p99_ci": None})  # fmt: skip
