"""`--verify` and `--budget`, the same in `bench` and in `run`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from perfdoctor.cli.values import Duration

DEFAULT_BUDGET_S = 120.0

_OPTIONS = (
    click.option(
        "--verify",
        is_flag=True,
        help="Try the advice, and say what it really brings. No file of yours changes where "
        "there is a sandbox; before anything runs it is said whether there is one.",
    ),
    click.option(
        "--budget",
        type=Duration(),
        metavar="SECONDS|2m",
        help=f"Time for all trials of --verify. [default: {DEFAULT_BUDGET_S:.0f}s]",
    ),
)


def verify_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def refuse_budget_alone(given: Mapping[str, Any]) -> None:
    """A budget is one of trials."""
    if given["budget"] is not None and not given["verify"]:
        raise click.UsageError("--budget is for --verify: give that as well")
