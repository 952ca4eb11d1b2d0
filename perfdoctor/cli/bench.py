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
from perfdoctor.cli.values import Duration, JsonObject, ListOf
from perfdoctor.errors import EXIT_DONE, EXIT_INTERRUPTED, tell

if TYPE_CHECKING:
    from perfdoctor.collect.options import Progress
    from perfdoctor.pipeline import BenchRequest, VerifyRequest
    from perfdoctor.workload import WorkloadFactory

# Written out here, since importing their homes would import torch; a test compares them.
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
COMPILE_MODES = ("off", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
DEMOS = ("images", "darts")

#: Options that take several values, each of which is measured.
_AXES = (
    "batch_size",
    "num_workers",
    "prefetch_factor",
    "precision",
    "compile",
)


@click.command(
    "bench",
    epilog="Several values for one option are measured side by side and compared: "
    "--num-workers 0,2,4 --precision fp32,bf16. Exit codes: 0 done, 2 the input is wrong, "
    "130 interrupted (what was measured is still reported).",
)
@click.option("--data-dir", metavar="DIR", help="A folder of data, or a glob of folders.")
@click.option("--workload", metavar="FILE.py|MODULE[:FUNCTION]", help="Your own workload.")
@click.option("--model", type=ListOf(click.STRING), help="Model class or function, pkg.mod:Name.")
@click.option("--dataset", type=ListOf(click.STRING), help="Dataset class, pkg.mod:Name.")
@click.option("--model-args", type=JsonObject(), help="Keyword arguments of --model.")
@click.option("--dataset-args", type=JsonObject(), help="Keyword arguments of --dataset.")
@click.option("--demo", type=click.Choice(DEMOS), help="Which embedded demo. [default: images]")
@click.option("--batch-size", type=ListOf(click.IntRange(min=1)), help="Samples per batch.")
@click.option("--num-workers", type=ListOf(click.IntRange(min=0)), help="Loader workers.")
@click.option("--prefetch-factor", type=ListOf(click.IntRange(min=1)), help="Batches per worker.")
@click.option("--pin-memory/--no-pin-memory", default=None, help="Page-locked batches.")
@click.option(
    "--persistent-workers/--no-persistent-workers", default=None, help="Keep workers at epoch end."
)
@click.option("--precision", type=ListOf(click.Choice(PRECISIONS)), help="Arithmetic precision.")
@click.option(
    "--compile",
    type=ListOf(click.Choice(COMPILE_MODES)),
    is_flag=False,
    flag_value="default",
    help="torch.compile the model, in a mode.",
)
@click.option("--channels-last", is_flag=True, help="Images in channels-last layout.")
@click.option("--device", help="cpu, cuda, cuda:N. [default: a GPU if there is one]")
@click.option("--iterations", type=click.IntRange(min=1), help="Measure exactly so many steps.")
@click.option("--warmup", type=click.IntRange(min=0), help="Discard so many. [default: found]")
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Budget for each configuration.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--verify", is_flag=True, help="Try the advice, and say what it really brings.")
@click.option(
    "--budget",
    type=Duration(),
    metavar="SECONDS|2m",
    help="Time for all trials of --verify.  [default: 120s]",
)
@click.option("--profile", metavar="NAME", help="Options from [tool.perfdoctor.profiles.NAME].")
@click.option(
    "--strict", is_flag=True, help="An unreadable file ends it, instead of being skipped."
)
@output_options
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Measure a model and its data, stage by stage, and say what makes it slow.

    With nothing else it measures an embedded demo: real JPEG files and a small CNN.
    """
    _check(given)
    ctx.exit(_run(given))


def _run(given: Mapping[str, Any]) -> int:
    from perfdoctor import pipeline, settings
    from perfdoctor.cli.progress import shown_progress
    from perfdoctor.output import STDOUT

    output = checked_output(given)
    rules = settings.load(Path.cwd())
    given = rules.with_profile(given, given["profile"])
    with (
        redirect_stdout(sys.stderr) if output.json_file == STDOUT else nullcontext(),
        shown_progress(quiet=given["quiet"]) as progress,
    ):
        report = pipeline.bench(_request(given, progress), rules, progress)
    complete = output.write(report)
    interrupted = report.sampling is not None and report.sampling.stop == "interrupted"
    interrupted |= report.verification is not None and report.verification.interrupted
    return EXIT_INTERRUPTED if interrupted or not complete else EXIT_DONE


def _check(given: Mapping[str, Any]) -> None:
    """Refuses combinations that mean nothing."""
    sources = [
        name for name in ("data_dir", "workload", "model", "demo") if given[name] is not None
    ]
    if len(sources) > 1:
        names = " and ".join(_flag(name) for name in sources)
        raise click.UsageError(f"{names} exclude each other: give one of them")
    if (given["model"] is None) != (given["dataset"] is None):
        missing = "model" if given["model"] is None else "dataset"
        raise click.UsageError(f"--model and --dataset go together: {_flag(missing)} is missing")
    for part in ("model", "dataset"):
        if given[f"{part}_args"] is not None and given[part] is None:
            raise click.UsageError(f"--{part}-args needs --{part}")
    if given["budget"] is not None and not given["verify"]:
        raise click.UsageError("--budget is for --verify: give that as well")
    several = [name for name in (*_AXES, "model", "dataset") if len(given[name] or ()) > 1]
    if given["verify"] and several:
        raise click.UsageError(
            f"--verify tries changes to one configuration: give one value for {_flag(several[0])}"
        )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _request(given: Mapping[str, Any], progress: Progress) -> BenchRequest:
    from perfdoctor.collect.options import BenchOptions
    from perfdoctor.pipeline import BenchRequest

    axes = {name: given[name] for name in _AXES if given[name] and len(given[name]) > 1}
    single = {name: given[name][0] for name in _AXES if given[name] and len(given[name]) == 1}
    options = BenchOptions(
        **single,
        pin_memory=given["pin_memory"],
        persistent_workers=given["persistent_workers"],
        channels_last=given["channels_last"],
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
    from perfdoctor.experiments.verify import DEFAULT_BUDGET_S
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
