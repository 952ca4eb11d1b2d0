"""The options that name a workload and its settings: of `bench` and of `check`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from perfdoctor.cli.values import AnyParamType, Count, JsonObject, ListOf

# Written out here, since importing their homes would import torch; a test compares them.
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
COMPILE_MODES = ("off", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
DEMOS = ("images", "darts")

SOURCES = ("data_dir", "workload", "model", "demo")
#: Options that take several values in `bench`, each of which is measured.
AXES = ("batch_size", "num_workers", "prefetch_factor", "precision", "compile")
SETTINGS = (*AXES, "pin_memory", "persistent_workers", "channels_last", "device")
_WORKLOAD = (*SOURCES, "dataset", "model_args", "dataset_args")


def workload_options(*, several: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds them; where `several`, those that can be compared take lists of values."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(_options(ListOf if several else _one)):
            command = option(command)
        return command

    return add


def _one(kind: AnyParamType) -> AnyParamType:
    return kind


def _options(of: Callable[[AnyParamType], AnyParamType]) -> tuple[Callable[..., Any], ...]:
    return (
        click.option("--data-dir", metavar="DIR", help="A folder of data, or a glob of folders."),
        click.option("--workload", metavar="FILE.py|MODULE[:FUNCTION]", help="Your own workload."),
        click.option(
            "--model", type=of(click.STRING), help="Model class or function, pkg.mod:Name."
        ),
        click.option("--dataset", type=of(click.STRING), help="Dataset class, pkg.mod:Name."),
        click.option("--model-args", type=JsonObject(), help="Keyword arguments of --model."),
        click.option("--dataset-args", type=JsonObject(), help="Keyword arguments of --dataset."),
        click.option("--demo", type=click.Choice(DEMOS), help="An embedded demo."),
        click.option("--batch-size", type=of(Count(min=1)), help="Samples per batch."),
        click.option("--num-workers", type=of(Count(min=0)), help="Loader workers."),
        click.option("--prefetch-factor", type=of(Count(min=1)), help="Batches per worker."),
        click.option("--pin-memory/--no-pin-memory", default=None, help="Page-locked batches."),
        click.option(
            "--persistent-workers/--no-persistent-workers",
            default=None,
            help="Keep workers at epoch end.",
        ),
        click.option(
            "--precision", type=of(click.Choice(PRECISIONS)), help="Arithmetic precision."
        ),
        click.option(
            "--compile",
            type=of(click.Choice(COMPILE_MODES)),
            is_flag=False,
            flag_value="default",
            help="torch.compile the model, in a mode.",
        ),
        click.option(
            "--channels-last", is_flag=True, default=None, help="Images in channels-last layout."
        ),
        click.option("--device", help="cpu, cuda, cuda:N. [default: a GPU if there is one]"),
    )


def refuse_contradictions(given: Mapping[str, Any]) -> None:
    """Refuses combinations that mean nothing."""
    sources = [name for name in SOURCES if given[name] is not None]
    if len(sources) > 1:
        names = " and ".join(map(flag, sources))
        raise click.UsageError(f"{names} exclude each other: give one of them")
    if (given["model"] is None) != (given["dataset"] is None):
        missing = "model" if given["model"] is None else "dataset"
        raise click.UsageError(f"--model and --dataset go together: {flag(missing)} is missing")
    for part in ("model", "dataset"):
        if given[f"{part}_args"] is not None and given[part] is None:
            raise click.UsageError(f"--{part}-args needs --{part}")


def described(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The workload and its settings, as another process takes them; empty where none is named."""
    refuse_contradictions(given)
    workload = {name: given[name] for name in _WORKLOAD if given[name] is not None}
    settings = {name: given[name] for name in SETTINGS if given[name] is not None}
    return workload, settings


def flag(name: str) -> str:
    """The option that sets it."""
    return "--" + name.replace("_", "-")
