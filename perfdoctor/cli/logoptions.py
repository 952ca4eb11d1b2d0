"""The options of commands that read logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_FORMAT = click.option(
    "--format", "format_name", metavar="NAME", help="Read as this format, whatever it looks like."
)
_PATTERN = click.option(
    "--pattern",
    multiple=True,
    metavar="TEMPLATE",
    help="Your own lines: 'step {step:d} .* {step_time_ms:f}'. Types: d whole number, f number, "
    "t time or duration, w word; .* stands for anything. May be given several times.",
)


def log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --format and --pattern."""
    return _FORMAT(_PATTERN(command))
