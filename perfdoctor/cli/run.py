"""`perfdoctor run`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import click

from perfdoctor.cli.misplaced import hint_at_misplaced
from perfdoctor.cli.output_options import checked_output, output_options
from perfdoctor.cli.values import Count, Seconds
from perfdoctor.cli.verify_options import DEFAULT_BUDGET_S, refuse_budget_alone, verify_options
from perfdoctor.errors import EXIT_INTERRUPTED, tell


@click.command(
    "run",
    context_settings={"allow_interspersed_args": False},
    epilog="Options of perfdoctor go before the script, options of the script after it. The exit "
    "code is the script's own. With several processes: torchrun --nproc-per-node 2 -m perfdoctor "
    "run train.py",
)
@click.option("-m", "module", is_flag=True, help="SCRIPT is a module, as in python -m.")
@click.option("--steps", type=Count(min=1), help="Observe so many steps only.")
@click.option(
    "--max-seconds",
    type=Seconds(min=0, min_open=True),
    help="Observe so many seconds of training only.",
)
@click.option("--stop-after", is_flag=True, help="End the script with the observation.")
@click.option(
    "--live", is_flag=True, help="Show at the bottom of the terminal how it runs, every second."
)
@verify_options
@output_options
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(script: str, arguments: tuple[str, ...], **given: Any) -> None:
    """Run a training script, unchanged, and say what makes it slow.

    \b
    perfdoctor run train.py --epochs 3
    perfdoctor run -m package.train --config c.yaml

    The script goes on as before; its output and its exit code stay its own. The diagnosis is
    printed on stderr when it has ended.
    """
    _check(given)
    hint_at_misplaced(script, arguments, command.params)
    if given["verify"]:
        _verify(script, arguments, given)
    _run(script, arguments, given)


def _check(given: Mapping[str, Any]) -> None:
    if given["stop_after"] and given["steps"] is None and given["max_seconds"] is None:
        raise click.UsageError("--stop-after needs --steps or --max-seconds")
    refuse_budget_alone(given)
    if given["verify"] and given["live"]:
        raise click.UsageError("--live and --verify exclude each other: give one of them")
    if given["verify"] and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise click.UsageError("--verify is for one process: start it without torchrun")
    if given["json_file"] == "-":
        raise click.UsageError("stdout belongs to the script: --json needs the name of a file")


def _verify(script: str, arguments: tuple[str, ...], given: Mapping[str, Any]) -> NoReturn:
    """Ends with the script's exit code."""
    from perfdoctor import interrupts, settings, verifying
    from perfdoctor.cli.progress import shown_progress
    from perfdoctor.collect.script.main_module import Script
    from perfdoctor.collect.script.session import Limits

    output = checked_output(given).anchored()
    steps, seconds = given["steps"], given["max_seconds"]
    if steps is None and seconds is None:
        seconds = verifying.OBSERVED_S
    request = verifying.VerifyScript(
        Script(script, arguments, given["module"]),
        Limits(steps=steps, max_seconds=seconds, stop_after=True),
        given["budget"] or DEFAULT_BUDGET_S,
        shlex.join(["perfdoctor", *sys.argv[1:]]),
    )
    rules = settings.load(Path.cwd())
    with interrupts.heard():
        # not drawn before there is progress: until then the terminal is the script's
        with shown_progress(quiet=given["quiet"], only_long=True) as progress:
            found, code = verifying.verify_script(request, rules, progress, tell)
        with interrupts.kept():
            if found is None:
                why = f"ended with exit code {code}" if code else "did not import torch"
                tell(f"{script} {why}: there is nothing to report")
            else:
                output.write_beside_script(found)
    if found is not None and found.verification is not None and found.verification.interrupted:
        code = EXIT_INTERRUPTED
    sys.exit(code)


def _run(script: str, arguments: tuple[str, ...], given: Mapping[str, Any]) -> NoReturn:
    from perfdoctor import running, settings
    from perfdoctor.collect.script.session import Limits

    output = checked_output(given).anchored()
    request = running.RunRequest(
        script=script,
        arguments=arguments,
        is_module=given["module"],
        limits=Limits(
            steps=given["steps"],
            max_seconds=given["max_seconds"],
            stop_after=given["stop_after"],
        ),
        command=shlex.join(["perfdoctor", *sys.argv[1:]]),
        folder=output.folder,
        live=given["live"],
    )
    running.run(
        request, settings.load(Path.cwd()), output.write_beside_script, output.write_partial
    )
