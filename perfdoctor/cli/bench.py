"""`perfdoctor bench`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perfdoctor.cli.output_options import checked_output, output_options
from perfdoctor.cli.values import Count, Seconds
from perfdoctor.cli.verify_options import DEFAULT_BUDGET_S, refuse_budget_alone, verify_options
from perfdoctor.cli.workload_options import (
    AXES,
    DEMOS,
    flag,
    refuse_contradictions,
    workload_options,
)
from perfdoctor.errors import EXIT_DONE, EXIT_INTERRUPTED, tell

if TYPE_CHECKING:
    from perfdoctor.collect.options import Progress
    from perfdoctor.pipeline import BenchRequest, VerifyRequest
    from perfdoctor.workload import WorkloadFactory


@click.command(
    "bench",
    epilog="Several values for one option are measured side by side and compared: "
    "--num-workers 0,2,4 --precision fp32,bf16. Exit codes: 0 done, 2 the input is wrong, "
    "130 interrupted (what was measured is still reported).",
)
@workload_options(several=True)
@click.option("--iterations", type=Count(min=1), help="Measure exactly so many steps.")
@click.option("--warmup", type=Count(min=0), help="Discard so many. [default: found]")
@click.option(
    "--max-seconds",
    type=Seconds(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Budget for each configuration.",
)
@click.option(
    "--seed", type=Count(min=0), default=0, show_default=True, help="Of all random numbers."
)
@verify_options
@click.option("--profile", metavar="NAME", help="Options from [tool.perfdoctor.profiles.NAME].")
@click.option(
    "--strict", is_flag=True, help="An unreadable file ends it, instead of being skipped."
)
@output_options
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Measure a model and its data, stage by stage, and say what makes it slow.

    With nothing else it measures the embedded demo `images`: real JPEG files and a small CNN.
    """
    _check(given)
    ctx.exit(_run(given))


def _run(given: Mapping[str, Any]) -> int:
    from perfdoctor import interrupts, pipeline, settings
    from perfdoctor.cli.progress import shown_progress
    from perfdoctor.output import STDOUT

    output = checked_output(given)
    rules = settings.load(Path.cwd())
    given = rules.with_profile(given, given["profile"])
    with interrupts.heard():
        with (
            redirect_stdout(sys.stderr) if output.json_file == STDOUT else nullcontext(),
            shown_progress(quiet=given["quiet"]) as progress,
        ):
            report = pipeline.bench(_request(given, progress), rules, progress)
        with interrupts.kept():
            complete = output.write(report)
    interrupted = report.sampling is not None and report.sampling.stop == "interrupted"
    interrupted |= report.verification is not None and report.verification.interrupted
    return EXIT_INTERRUPTED if interrupted or not complete else EXIT_DONE


def _check(given: Mapping[str, Any]) -> None:
    """Refuses combinations that mean nothing."""
    refuse_contradictions(given)
    refuse_budget_alone(given)
    several = [name for name in (*AXES, "model", "dataset") if len(given[name] or ()) > 1]
    if given["verify"] and several:
        raise click.UsageError(
            f"--verify tries changes to one configuration: give one value for {flag(several[0])}"
        )


def _request(given: Mapping[str, Any], progress: Progress) -> BenchRequest:
    from perfdoctor.collect.options import BenchOptions
    from perfdoctor.pipeline import BenchRequest

    axes = {name: given[name] for name in AXES if given[name] and len(given[name]) > 1}
    single = {name: given[name][0] for name in AXES if given[name] and len(given[name]) == 1}
    options = BenchOptions(
        **single,
        pin_memory=given["pin_memory"],
        persistent_workers=given["persistent_workers"],
        channels_last=bool(given["channels_last"]),
        device=given["device"],
        seed=given["seed"],
        iterations=given["iterations"],
        warmup=given["warmup"],
        max_seconds=given["max_seconds"],
        strict=given["strict"],
    )
    return BenchRequest(
        workloads=_workloads(given, progress),
        options=options,
        axes=axes,
        command=shlex.join(["perfdoctor", *sys.argv[1:]]),
        verify=_verification(given) if given["verify"] else None,
    )


def _verification(given: Mapping[str, Any]) -> VerifyRequest:
    """The same training, described for other processes."""
    from perfdoctor.pipeline import VerifyRequest

    described = {name: given[name] for name in ("workload", "data_dir", "demo", "strict")}
    if given["model"] is not None:
        described |= {"model": given["model"][0], "dataset": given["dataset"][0]}
        described |= {f"{part}_args": given[f"{part}_args"] for part in ("model", "dataset")}
    elif given["workload"] is None and given["data_dir"] is None:
        described["demo"] = given["demo"] or DEMOS[0]
    workload = {name: value for name, value in described.items() if value is not None}
    return VerifyRequest(workload, given["budget"] or DEFAULT_BUDGET_S, tell)


def _workloads(given: Mapping[str, Any], progress: Progress) -> dict[str, WorkloadFactory]:
    from perfdoctor import workloads

    if given["data_dir"] is not None:
        made = workloads.from_data_dir(given["data_dir"], strict=given["strict"])
        return {given["data_dir"]: made}
    if given["workload"] is not None:
        return {given["workload"]: workloads.from_spec(given["workload"])}
    if given["model"] is not None:
        return _parts(given, workloads.from_parts)
    name = given["demo"] or DEMOS[0]
    return {name: workloads.demo(name, progress)}


def _parts(given: Mapping[str, Any], make: Callable[..., WorkloadFactory]) -> dict[str, Any]:
    """Every model with every dataset, called by what tells them apart."""
    models, datasets = given["model"], given["dataset"]
    model_args, dataset_args = given["model_args"] or {}, given["dataset_args"] or {}
    found = {}
    for model in models:
        for dataset in datasets:
            parts = [model] if len(models) > 1 else []
            parts += [dataset] if len(datasets) > 1 else []
            label = " ".join(parts) or f"{model} {dataset}"
            found[label] = make(model, dataset, model_args, dataset_args)
    return found
