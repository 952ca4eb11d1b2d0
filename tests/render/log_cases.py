"""Reports of logs by hand that the renderers' tests share, ordinary and nasty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from builders import (
    make_compared,
    make_diagnosis,
    make_epoch_series,
    make_log_file,
    make_log_report,
    make_log_series,
    make_recommendation,
    make_stat,
    make_wall,
)

from perfdoctor.record import Environment, Floats, Gpu, Source, UnreadLine
from perfdoctor.report import (
    Abstained,
    ChangePoint,
    ComparedConfiguration,
    Comparison,
    Economics,
    Epochs,
    Evidence,
    Forecast,
    MemoryUse,
    Prediction,
    Recommendation,
    Report,
    Stalls,
    Throughput,
    Trend,
    Usage,
    Wall,
    WallPart,
)
from perfdoctor.stats import describe

RUN, BENCH = "perfdoctor run train.py", "perfdoctor bench"


def noisy(values: Floats, noise: float = 0.04, seed: int = 1) -> Floats:
    """Log-normal noise on top."""
    return values * np.exp(np.random.default_rng(seed).normal(0, noise, values.size))


def slowed_steps() -> Floats:
    """900 records, every tenth step: 2,052 samples/s, from step 4,100 on 900, from 4,600 on 539."""
    rate = np.full(900, 2052.0)
    rate[410:460] = 900.0
    rate[460:] = 539.0
    step_s = noisy(256 / rate)
    step_s[49::50] += 0.31  # a checkpoint every 500 steps, in the mean of ten
    return step_s


def imagenet_slow_down() -> Report:
    """Fell to a quarter on the way; stalls every 500 steps; waits for its data."""
    points = (
        ChangePoint(
            index=410, before=2052.0, after=900.0, p=1e-9, step=4110.0, step_before=4100.0,
            at_s=513.0, where="train.log:423",
        ),
        ChangePoint(
            index=460, before=900.0, after=539.0, p=1e-7, step=4610.0, step_before=4600.0,
            at_s=655.0, where="train.log:473",
        ),
    )  # fmt: skip
    trend = Trend(first=2052.0, last=539.0, change=-0.737, shape="step", change_points=points)
    epoch_s, validation_s = noisy(np.linspace(330, 900, 12)), noisy(np.full(12, 41.0), seed=2)
    base = make_log_report(step_s=slowed_steps(), data_share=0.62)
    assert base.throughput is not None
    return replace(
        base,
        source=replace(base.source, framework="PyTorch imagenet example"),
        environment=Environment(gpu=(Gpu(name="NVIDIA A100-SXM4-80GB"),)),
        throughput=replace(base.throughput, trend=trend),
        stalls=Stalls(count=18, excess_s=3.1, share=0.021, period_steps=500.0),
        epochs=Epochs(
            count=12, steps_per_epoch=750, time=describe(epoch_s),
            validation=describe(validation_s),
            economics=Economics(
                metric="acc1", lower_is_better=False, best=71.324, best_epoch=6.0,
                after_best_s=3960.0, after_best_share=0.53, patience=3, saved_s=1510.0,
                target_epoch=5.0,
            ),
        ),
        wall=make_wall({
            "start_up": 31.0, "data_loading": 4600.0, "train": 2800.0, "validation": 492.0,
            "checkpoint": 55.8, "unexplained": 72.0,
        }),
        forecast=Forecast(steps_left=1500.0, left_s=712.0, low_s=690.0, high_s=741.0),
        utilisation={
            "gpu": Usage(mean=38.0, p50=31.0, p95=99.0),
            "gpu_memory": Usage(mean=61.0, p50=61.0, p95=61.0),
        },
        memory=MemoryUse(peak_bytes=52 * 2**30, total_bytes=80 * 2**30, peak_share=0.65),
        series=base.series | make_epoch_series(epoch_s, validation_s),
        logs=(
            make_log_file(
                lines=1300, records=900, unread=7,
                unread_samples=tuple(
                    UnreadLine(path="train.log", line=n, text=f"Epoch: [3][{n}/750]  Time  0.1")
                    for n in (512, 513, 977)
                ),
            ),
            make_log_file(
                "gpu.csv", format="nvidia-smi-csv", reason="its header names utilization.gpu [%]",
                lines=2015, records=0,
            ),
        ),
        diagnosis=make_diagnosis(
            verdict="degrading",
            share=0.62,
            summary="Throughput fell from 2,052 to 539 samples/s between step 4,110 and 4,610.",
        ),
        recommendations=(_workers(), _validate_less()),
        abstained=tuple(
            Abstained(rule=f"PD{201 + n}", missing=missing, measure_with=how)
            for n, (missing, how) in enumerate(
                (
                    ("stages.h2d_copy", RUN), ("stages.h2d_copy", RUN), ("loader.batch", BENCH),
                    ("memory.host_used_share", RUN), ("environment.cores_usable", None),
                )
            )
        ),
    )  # fmt: skip


def _workers() -> Recommendation:
    return make_recommendation(
        evidence=(
            Evidence(
                metric="stages.data_loading.share", value=0.62, unit="share", threshold=0.1,
                where="train.log",
            ),
        ),
    )  # fmt: skip


def _validate_less() -> Recommendation:
    return make_recommendation(
        rank=2, rule="PD501", name="validation-too-frequent", stage="validation",
        title="Validation takes 12 % of each epoch", snippet="", change={},
        advice="Validate every second epoch.", safety="semantics", effort="lines",
        predicted=Prediction(speedup=1.06, low=1.05, high=1.07, model="amdahl"), evidence=(),
    )  # fmt: skip


def epochs_only(count: int = 30, **overrides: object) -> Report:
    """A metrics table with the time of each epoch, and nothing of steps."""
    epoch_s = noisy(np.full(count, 172.8), 0.01)
    if count > 20:
        epoch_s[17] = 301.0
    economics = Economics(
        metric="val_loss", lower_is_better=True, best=0.21345, best_epoch=float(count * 2 // 5),
        after_best_s=172.8 * count * 0.6, after_best_share=0.6, patience=5, saved_s=2246.0,
    )  # fmt: skip
    report = make_log_report(
        name="runs/exp4/metrics.csv",
        source=Source(kind="log", path="runs/exp4/metrics.csv", format="lightning-csv"),
        configuration={},
        steps=None,
        throughput=None,
        stages={},
        wall=None,
        epochs=Epochs(count=count, time=describe(epoch_s), economics=economics),
        series=make_epoch_series(epoch_s),
        logs=(
            make_log_file(
                "runs/exp4/metrics.csv", format="lightning-csv",
                reason="CSV with the columns epoch, step", lines=count + 1, records=count,
            ),
        ),
        diagnosis=make_diagnosis(
            verdict="inconclusive", bottleneck="none", confidence=0.3,
            summary="The log tells how long epochs take, and nothing of what a step spends.",
        ),
        abstained=(Abstained(rule="PD101", missing="stages.data_loading", measure_with=RUN),),
    )  # fmt: skip
    return replace(report, **overrides)


def no_timing() -> Report:
    """Losses only."""
    return make_log_report(
        name="train_log.txt",
        source=Source(kind="log", path="train_log.txt", format="text"),
        configuration={},
        steps=None,
        throughput=None,
        stages={},
        wall=None,
        epochs=Epochs(count=12),
        series={"epoch": tuple(float(n) for n in range(12))},
        logs=(
            make_log_file(
                "train_log.txt", format="text", reason="12 of 14 lines have epoch and loss",
                lines=14, records=12,
            ),
        ),
        diagnosis=make_diagnosis(
            verdict="inconclusive", bottleneck="none", confidence=0.0,
            summary="There is no timing information in this log.",
        ),
        abstained=tuple(
            Abstained(rule=f"PD{n}", missing="steps.time", measure_with=RUN) for n in range(9)
        ),
    )  # fmt: skip


def logged(label: str, rate: float | None, **overrides: object) -> ComparedConfiguration:
    """A row of a comparison of logs."""
    row = make_compared(
        0, label=label, configuration={}, samples_per_s=rate,
        step_p50_s=None if rate is None else 256 / rate,
        relative=None if rate is None else rate / 1800,
        relative_ci=None if rate is None else (0.98 * rate / 1800, 1.03 * rate / 1800),
        peak_bytes=None, bottleneck=None, verdict="healthy", best_metric=71.324,
        epoch_p50_s=None if rate is None else 640_000 / rate, wall_s=40_000.0,
    )  # fmt: skip
    return replace(row, **overrides)


def three_runs() -> Report:
    """Three runs, the first read neither the fastest nor the slowest."""
    rows = (
        logged("runs/base/train.log", 1800.0, verdict="input-bound"),
        logged("runs/workers4/train.log", 2412.0),
        logged("runs/old/train.log", 1204.0, verdict="degrading", best_metric=70.9),
    )
    return make_log_report(
        name="runs/workers4/train.log",
        notes=("The best of 3 runs: runs/workers4/train.log.",),
        comparison=Comparison(varied=(), rows=rows, best=(1,)),
        epochs=imagenet_slow_down().epochs,
        diagnosis=make_diagnosis(
            verdict="healthy", bottleneck="none", summary="runs/workers4/train.log is fastest."
        ),
        logs=(make_log_file("runs/workers4/train.log"),),
    )


def many_runs() -> Report:
    """Forty runs with long names, some that could not be read or tell no rate."""
    rows = [
        logged(
            f"/data/experiments/2026-03/{n:02}-a-rather-long-name-of-a-run-that-nobody-can-read/"
            f"logs/train_{n}.log",
            800.0 + 7 * n,
            relative_ci=None,
        )
        for n in range(38)
    ]
    broken = logged("broken.log", None, error="broken.log is not a text file", wall_s=None)
    untimed = logged("untimed.log", None, wall_s=None, verdict="inconclusive")
    return make_log_report(
        name="40 runs",
        comparison=Comparison(varied=(), rows=(*rows, broken, untimed), best=(36, 37)),
    )


def epochs_of_runs() -> Report:
    """Runs that tell only how long their epochs take."""
    rows = tuple(
        ComparedConfiguration(label=f"run {n}", configuration={}, epoch_p50_s=100.0 + n)
        for n in range(3)
    )
    return epochs_only(comparison=Comparison(varied=(), rows=rows, best=(0,)))


def three_records() -> Report:
    """Hardly anything."""
    return make_log_report(
        step_s=np.array([0.11, 0.12, 0.118]),
        wall=make_wall({"train": 3.5}, started_at=None),
        epochs=None,
        configuration={},
    )


def one_record() -> Report:
    """A single record, of a single epoch."""
    series = make_log_series(np.array([0.12])) | make_epoch_series(np.array([71.0]))
    return make_log_report(
        step_s=np.array([0.12]),
        series=series,
        epochs=Epochs(count=1, time=make_stat(71.0, count=1)),
    )


def hundred_thousand_records() -> Report:
    """Thinned to 2,000 points; drifts down, with stalls, restarts and warm-up."""
    slower = np.linspace(0.1, 0.16, 100_000)
    step_s = noisy(slower, 0.08)
    step_s[::997] *= 30
    base = make_log_report(step_s=step_s, every=1)
    assert base.steps is not None and base.throughput is not None
    trend = Trend(first=2560.0, last=1600.0, change=-0.375, shape="drift")
    series = dict(base.series)
    series["step"] = tuple(v + 4000 for v in series["step"] if v is not None)
    return replace(
        base,
        series=series | make_epoch_series(noisy(np.full(300, 44.0), 0.03), np.full(300, 4.0)),
        steps=replace(base.steps, warmup_discarded=4000, first_s=12.1),
        throughput=replace(base.throughput, trend=trend),
        stalls=Stalls(count=101, excess_s=3.8, share=0.027, period_steps=997.0),
        epochs=Epochs(
            count=300,
            time=make_stat(44.0, count=300),
            validation=make_stat(4.0, count=300),
            economics=Economics(
                metric="val_accuracy", lower_is_better=False, best=0.9134, best_epoch=281.0
            ),
        ),
        ranks=8,
        restarts=(30_000, 70_000),
    )


def one_epoch() -> Report:
    """The time of a single epoch, nothing else."""
    return epochs_only(1)


def three_hundred_epochs() -> Report:
    """Epochs by the hundred, two of them far longer."""
    report = epochs_only(300)
    epoch_s = list(report.series["epoch_s"])
    epoch_s[100] = epoch_s[200] = 86_000.0
    return replace(report, series=report.series | {"epoch_s": tuple(epoch_s)})


def tokens_by_time() -> Report:
    """No steps: tokens/s at times, rising; a restart."""
    rate = noisy(np.concatenate([np.full(120, 5.6e6), np.full(200, 7.4e6)]), 0.01)
    point = ChangePoint(
        index=120, before=5.6e6, after=7.4e6, p=1e-9, at_s=7200.0, where="日志/训练.log:133"
    )
    trend = Trend(
        first=5.6e6, last=7.4e6, change=0.32, shape="step", unit="tokens/s", change_points=(point,)
    )
    return make_log_report(
        steps=None,
        stages={},
        configuration={},
        throughput=Throughput(tokens_per_s=6.7e6, median_tokens_per_s=7.3e6, trend=trend),
        series={
            "at_s": tuple(60.0 * n for n in range(320)),
            "tokens_per_s": tuple(rate.tolist()),
            "line": tuple(13.0 + n for n in range(320)),
        },
        epochs=None,
        restarts=(200,),
    )


def steps_repeat() -> Report:
    """Resumed: step numbers go back. Six change points."""
    report = make_log_report()
    steps = [10.0 * n for n in [*range(1, 251), *range(150, 300)]]
    points = tuple(
        ChangePoint(
            index=50 * n, before=2000.0 - 100 * (n % 2), after=1900.0 + 100 * (n % 2), p=1e-4,
            step=steps[50 * n], where=f"a/{'long/' * 12}train.log:{50 * n}",
        )
        for n in range(1, 7)
    )  # fmt: skip
    trend = Trend(first=2050.0, last=2000.0, change=-0.02, shape="step", change_points=points)
    assert report.throughput is not None
    return replace(
        report,
        series=report.series | {"step": tuple(steps)},
        restarts=(249,),
        throughput=replace(report.throughput, trend=trend),
    )


def foreign() -> Report:
    """Chinese, dollars, braces and control characters, as logs bring them."""
    base = imagenet_slow_down()
    assert base.epochs is not None and base.epochs.economics is not None
    economics = replace(base.epochs.economics, metric="准确率 $x_{1}$")
    return replace(
        base,
        name="模型 $\\nomacro$ [bold]训练日志[/bold] \x1b[31m.log\x07",
        epochs=replace(base.epochs, economics=economics),
        wall=make_wall({"train": 300.0, "建图 $g$": 80.0, "[red]x[/red]\x1b[2J": 20.0}),
        logs=(
            make_log_file(
                "日志/训练 $5.log", format="[blink]", reason="12 行 like [/] \x9b31m", unread=1,
                unread_samples=(
                    UnreadLine(path="a.log", line=3, text="\x1b]0;title\x07第 3 轮 [/red]" * 40),
                ),
            ),
        ),
    )  # fmt: skip


def long_names() -> Report:
    """Everything that can be long is."""
    base = imagenet_slow_down()
    long = "a_name_that_is_much_longer_than_anyone_would_expect_" * 4
    return replace(
        base,
        name=f"/home/someone/{long}/train.log",
        configuration={f"{long}_{n}": long for n in range(60)},
        notes=(long,),
        logs=tuple(
            make_log_file(f"/home/someone/{long}/rank{n}.log", reason=long) for n in range(16)
        ),
        wall=make_wall({f"{long}{n}": 10.0 + n for n in range(14)}),
        ranks=16,
    )


def only_dates() -> Report:
    """Lines with dates, and no step or epoch."""
    wall = Wall(
        total_s=93_724.0,
        parts=(WallPart(name="unexplained", seconds=93_724.0, share=1.0),),
        started_at="2025-01-18T12:35:20",
    )
    return make_log_report(
        steps=None, stages={}, throughput=None, epochs=None, series={}, wall=wall, configuration={}
    )


ALL = (
    imagenet_slow_down, epochs_only, no_timing, three_runs, many_runs, epochs_of_runs,
    three_records, one_record, hundred_thousand_records, one_epoch, three_hundred_epochs,
    tokens_by_time, steps_repeat, foreign, long_names, only_dates,
)  # fmt: skip
