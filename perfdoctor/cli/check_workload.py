"""The options that say which workload is checked: `bench`'s, with one value each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from perfdoctor.cli.bench import COMPILE_MODES, DEMOS, PRECISIONS
from perfdoctor.cli.values import JsonObject

_WORKLOAD = ("workload", "data_dir", "model", "dataset", "model_args", "dataset_args", "demo")
_SETTINGS = (
    "batch_size",
    "num_workers",
    "prefetch_factor",
    "pin_memory",
    "persistent_workers",
    "precision",
    "compile",
    "channels_last",
    "device",
)
_OPTIONS = (
    click.option("--workload", metavar="FILE.py|MODULE[:FUNCTION]", help="Your own workload."),
    click.option("--data-dir", metavar="DIR", help="A folder of data, or a glob of folders."),
    click.option("--model", help="Model class or function, pkg.mod:Name."),
    click.option("--dataset", help="Dataset class, pkg.mod:Name."),
    click.option("--model-args", type=JsonObject(), help="Keyword arguments of --model."),
    click.option("--dataset-args", type=JsonObject(), help="Keyword arguments of --dataset."),
    click.option("--demo", type=click.Choice(DEMOS), help="An embedded demo."),
    click.option("--batch-size", type=click.IntRange(min=1), help="Samples per batch."),
    click.option("--num-workers", type=click.IntRange(min=0), help="Loader workers."),
    click.option("--prefetch-factor", type=click.IntRange(min=1), help="Batches per worker."),
    click.option("--pin-memory/--no-pin-memory", default=None, help="Page-locked batches."),
    click.option("--persistent-workers/--no-persistent-workers", default=None, help="Keep them."),
    click.option("--precision", type=click.Choice(PRECISIONS), help="Arithmetic precision."),
    click.option("--compile", type=click.Choice(COMPILE_MODES), help="torch.compile, in a mode."),
    click.option("--channels-last", is_flag=True, help="Images in channels-last layout."),
    click.option("--device", help="cpu, cuda, cuda:N. [default: a GPU if there is one]"),
)


def workload_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def described(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The workload and its settings, as another process takes them; empty where none is named."""
    sources = [n for n in ("data_dir", "workload", "model", "demo") if given[n] is not None]
    if len(sources) > 1:
        raise click.UsageError(f"{' and '.join(map(_flag, sources))} exclude each other")
    if (given["model"] is None) != (given["dataset"] is None):
        raise click.UsageError("--model and --dataset go together")
    workload = {name: given[name] for name in _WORKLOAD if given[name] is not None}
    settings = {name: given[name] for name in _SETTINGS if given[name] not in (None, False)}
    for name in ("pin_memory", "persistent_workers"):
        if given[name] is not None:
            settings[name] = given[name]
    return workload, settings


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
