"""Reports by hand that the renderers' tests share, ordinary and nasty."""

from __future__ import annotations

from dataclasses import replace

from builders import (
    COMPUTE_BOUND_S,
    CONFIGURATION,
    ENVIRONMENT,
    INPUT_BOUND_S,
    make_compared,
    make_comparison,
    make_diagnosis,
    make_recommendation,
    make_report,
    make_run,
    make_series,
    make_stages,
    make_stat,
)

from perfdoctor.record import Environment, Gpu, Limit, Sampling, SkippedFile
from perfdoctor.report import (
    Abstained,
    Choice,
    Comparison,
    Epochs,
    Evidence,
    Loader,
    MemoryUse,
    Prediction,
    Recommendation,
    Report,
    Steps,
    Throughput,
    Trend,
    Trial,
    Usage,
)
from perfdoctor.summarise import summarise


def input_bound() -> Report:
    """Waits for its data; two changes and one for headroom; everything measured."""
    report = make_report(
        name="ResNet-18 on ./photos",
        notes=("./photos has one folder per class: 12 classes, 4,210 images",),
        diagnosis=make_diagnosis(),
        recommendations=(_workers(), _decode(), _bfloat16()),
        alone={name: make_stat(1.1 * s, count=30) for name, s in INPUT_BOUND_S.items()},
        epochs=Epochs(count=3, steps_per_epoch=131, start=make_stat(0.41, count=3)),
        loader=Loader(
            batch=make_stat(0.081), collate=make_stat(0.002), batch_cpu_s=0.079,
            capacity_samples_per_s=395.0, read_bytes_per_s=48e6,
        ),
        inference=make_stat(0.0041),
        utilisation={"cpu": Usage(mean=93.0, p50=95.0, p95=100.0)},
        memory=MemoryUse(peak_bytes=1_300_000_000, peak_share=0.151, total_bytes=8 * 2**30),
        limits={
            "compute": Limit(name="compute", achieved=0.12e12, peak=0.39e12, unit="FLOP/s"),
            "loader_read": Limit(name="loader_read", achieved=48e6, peak=1.9e9, unit="bytes/s"),
        },
        abstained=(
            Abstained(rule="PD201", missing="a GPU"),
            Abstained(rule="PD204", missing="a GPU"),
            Abstained(rule="PD601", missing="more than one process"),
        ),
        warnings=("the machine was busy: 18 % of the processor time went to other programs",),
        skipped=tuple(
            SkippedFile(path=f"photos/cat/{n:04}.jpg", reason="truncated JPEG") for n in range(7)
        ),
    )  # fmt: skip
    steps = replace(report.steps, first_s=0.482)
    stages = dict(report.stages)
    stages["data_loading"] = replace(stages["data_loading"], hidden_s=0.0)
    return replace(report, steps=steps, stages=stages)


def _workers() -> Recommendation:
    choice = Choice(
        rule="PD108",
        name="cache-decoded-images",
        advice="Decode once and keep the arrays: they fit into memory.",
        snippet="",
        predicted=Prediction(speedup=1.3, low=1.1, high=1.5, model="pipeline"),
    )
    trial = Trial(outcome="verified", speedup=1.38, low=1.3, high=1.45, pairs=12)
    return make_recommendation(choices=(choice,), verified=trial)


def _decode() -> Recommendation:
    snippet = "\n".join(
        (
            "def read(path):",
            "    image = PIL.Image.open(path)",
            '    image.draft("RGB", (256, 256))  # decodes at a smaller size where JPEG allows it',
            '    return image.convert("RGB")',
        )
    )
    return make_recommendation(
        rank=2,
        rule="PD105",
        name="images-larger-than-needed",
        title="Images are decoded at 12 times the size that the model sees",
        advice="Resize the files once, or let the JPEG decoder do it.",
        snippet=snippet,
        evidence=(
            Evidence(metric="loader.batch.p50_s", value=0.081, unit="s", threshold=0.033),
            Evidence(metric="file size", value=2_400_000, unit="bytes", where="photos/"),
        ),
        effort="lines",
        safety="numerics",
        predicted=None,
    )


def _bfloat16() -> Recommendation:
    return make_recommendation(
        rank=3,
        rule="PD203",
        name="full-precision-matrix-products",
        title="Matrix products run in single precision",
        advice="Use bfloat16 autocast for forward and loss.",
        snippet='with torch.autocast("cpu", torch.bfloat16):\n    loss = step(batch)',
        evidence=(Evidence(metric="probes.bf16.speedup", value=1.31, unit="×", threshold=1.1),),
        effort="lines",
        safety="numerics",
        optional=True,
        predicted=Prediction(speedup=1.06, low=1.02, high=1.09, model="probe"),
    )


def healthy() -> Report:
    """Computes nearly all the time on a GPU; nothing to change; little was measured."""
    gpu = Gpu(name="NVIDIA H100 80GB HBM3", memory_bytes=80 * 2**30)
    return make_report(
        name="Transformer",
        stage_s=COMPUTE_BOUND_S,
        environment=replace(ENVIRONMENT, device="cuda:0", cuda="12.8", gpu=(gpu,)),
        configuration={
            **CONFIGURATION,
            "num_workers": 2,
            "pin_memory": True,
            "precision": "bf16",
            "compile": "default",
        },
        sampling=Sampling(stop="budget", target_share=0.02, seconds=30.0),
        diagnosis=make_diagnosis(
            verdict="healthy",
            bottleneck="none",
            share=0.0,
            confidence=0.8,
            summary="The device computes 96 % of the time; nothing found makes it wait.",
        ),
    )


def compared() -> Report:
    """Three worker counts and one that failed; two cannot be told apart."""
    failed = make_compared(
        8, samples_per_s=None, step_p50_s=None, relative=None, relative_ci=None, peak_bytes=None,
        bottleneck=None, error="RuntimeError: DataLoader worker (pid 4711) is killed by signal: 9",
    )  # fmt: skip
    rows = tuple(make_compared(n) for n in (0, 1, 2, 4))
    return make_report(
        diagnosis=make_diagnosis(),
        recommendations=(make_recommendation(),),
        comparison=make_comparison(rows=(*rows, failed), best=(2, 3)),
    )


def one_step() -> Report:
    """A single step: no interval, no spread, no trend."""
    time = make_stat(0.1152, count=1, p50_ci=None, p95_s=0.1152, p99_s=0.1152, max_s=0.1152)
    return make_report(
        count=1,
        steps=Steps(count=1, warmup_discarded=0, time=time),
        series={"step_s": (0.1152,), "samples": (32.0,)},
        throughput=Throughput(samples_per_s=277.8, steps_per_s=8.68),
        sampling=Sampling(stop="interrupted", target_share=0.02, seconds=0.2),
        diagnosis=make_diagnosis(verdict="inconclusive", summary="One step tells nothing."),
    )


def many_stages() -> Report:
    """Every fixed stage, and long names of the user's own."""
    names = (
        "data_loading", "h2d_copy", "forward", "loss", "backward", "optimizer", "arch_step",
        "communication", "validation", "checkpoint", "logging", "metrics", "other", "graph_build",
        "a_stage_whose_name_is_much_longer_than_anyone_would_expect_it_to_be",
        "neighbour sampling of the second hop, with feature look-up",
    )  # fmt: skip
    stage_s = {name: 0.01 * (1 + index % 5) for index, name in enumerate(names)}
    stages = make_stages(stage_s)
    stages["data_loading"] = replace(stages["data_loading"], hidden_s=0.31)
    stages["communication"] = replace(stages["communication"], hidden_s=0.012)
    return make_report(stage_s=stage_s, stages=stages, diagnosis=make_diagnosis())


def forty_stages() -> Report:
    """More stages than a picture has room for."""
    stage_s = {f"stage_{n:02}": 0.001 * (n + 1) for n in range(40)}
    return make_report(stage_s=stage_s, diagnosis=make_diagnosis())


def dominant_stage() -> Report:
    """One stage takes 99.9 % of a step of minutes."""
    stage_s = {"data_loading": 199.8, "forward": 0.1, "backward": 0.08, "other": 0.02}
    return make_report(stage_s=stage_s, diagnosis=make_diagnosis(share=0.999))


def long_run() -> Report:
    """2,000 points, slower and slower, with a heavy tail of stalls."""
    series = make_series(0.02, count=2000, noise=0.1)
    slow = (
        s * (1 + i / 1500) * (40 if i % 37 == 0 else 1)
        for i, s in enumerate(series["step_s"])
        if s is not None
    )
    return make_report(
        count=8000,
        series={**series, "step_s": tuple(slow)},
        steps=Steps(
            count=8000,
            warmup_discarded=50,
            time=make_stat(0.032, count=8000, p95_s=0.06, p99_s=1.3, max_s=2.1),
        ),
        throughput=Throughput(
            samples_per_s=523.0,
            steps_per_s=16.3,
            trend=Trend(first=901.0, last=402.0, change=-0.554, shape="drift"),
        ),
        diagnosis=make_diagnosis(
            verdict="degrading",
            summary="Training gets slower as it goes: from 901 to 402 samples per second. " * 3,
        ),
    )


def coinciding_percentiles() -> Report:
    """Every step takes the same time."""
    time = make_stat(0.05, p95_s=0.05, p99_s=0.05, max_s=0.05, min_s=0.05)
    return make_report(
        steps=Steps(count=200, warmup_discarded=0, time=time),
        series={"step_s": (0.05,) * 200, "samples": (32.0,) * 200},
        diagnosis=make_diagnosis(),
    )


def many_rows() -> Report:
    """Many configurations with long labels."""
    rows = tuple(
        make_compared(
            n % 5,
            label=f"num_workers={n}, batch_size={2**n}, precision=bf16, compile=max-autotune, "
            f"optimizer=AdamW(fused=True)",
        )
        for n in range(16)
    )
    return make_report(
        diagnosis=make_diagnosis(),
        comparison=Comparison(
            varied=("num_workers", "batch_size", "precision", "compile"), rows=rows, best=(3, 9)
        ),
    )


def many_recommendations() -> Report:
    """More advice than a graph has room for, some with extreme gains."""
    gains = (31.0, 9.2, 2.0, None, 1.31, 1.2, 1.1, 1.05, 1.04, 1.03, 1.01)
    found = tuple(
        make_recommendation(
            rank=rank,
            rule=f"PD{100 + rank}",
            name="a-name-that-tells-the-fault-in-rather-many-words",
            optional=rank > 8,
            predicted=None if g is None else Prediction(
                speedup=g, low=1 + (g - 1) / 2, high=1 + (g - 1) * 1.5, model="pipeline"
            ),
        )
        for rank, g in enumerate(gains, 1)
    )  # fmt: skip
    return make_report(diagnosis=make_diagnosis(), recommendations=found)


def foreign_names() -> Report:
    """Chinese, dollar signs, braces and control characters, as users and files bring them."""
    return make_report(
        name="模型 $\\nomacro$ \\frac{1}{0} [bold]net[/bold] \x1b[31mred\x07",
        stage_s={"data_loading": 0.02, "图_$a_b$": 0.01, "[red]own[/red]": 0.03},
        diagnosis=make_diagnosis(summary="训练速度受数据加载限制 $50 [link=x]y[/link]"),
        recommendations=(
            make_recommendation(
                name="$dollar$ [blink]",
                title="[bold red]标题[/] \x1b]8;;http://x\x07y",
                snippet='print("[bold]x[/bold]\x1b[2J")',
            ),
        ),
        comparison=make_comparison(
            rows=(make_compared(0, label="路径=$HOME$"), make_compared(2, label="_{^}$"))
        ),
        notes=("[/] unbalanced :smile: \x9b31m",),
    )


def no_series() -> Report:
    """A report that was made from a summary: stages and rates, no single steps."""
    return make_report(series={}, diagnosis=make_diagnosis())


def bare() -> Report:
    """Nothing is known but how long the steps took."""
    return make_report(
        environment=Environment(),
        configuration={},
        stages={},
        sampling=None,
        throughput=Throughput(samples_per_s=0.0, steps_per_s=8.7),
        series={"step_s": (0.1, None, 0.2), "samples": (32.0, 32.0, None)},
    )


def summarised() -> Report:
    """What really comes out of a Run."""
    return replace(summarise(make_run(steps=64)), created_at="2026-01-02T03:04:05+00:00")


ALL = (
    input_bound, healthy, compared, one_step, many_stages, forty_stages, dominant_stage,
    long_run,
    coinciding_percentiles, many_rows, many_recommendations, foreign_names, no_series, bare,
    summarised,
)  # fmt: skip
