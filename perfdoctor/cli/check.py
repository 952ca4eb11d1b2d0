"""`perfdoctor check`."""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Mapping
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perfdoctor.cli.check_output import (
    check_output_options,
    deliver,
    deliver_error,
    remove_old,
    writable,
)
from perfdoctor.cli.values import Count, Seconds
from perfdoctor.cli.workload_options import described, workload_options

if TYPE_CHECKING:
    from perfdoctor.compare.checks import CheckResult
    from perfdoctor.gate.asked import Asked, Measured


@click.command(
    "check",
    epilog="Exit codes: 0 not worse, 1 a regression, 2 the input is wrong or a side cannot run, "
    "3 inconclusive (see --inconclusive).",
)
@click.option("--against", metavar="REV", help="Compare with where this branch left REV.")
@click.option("--exact", is_flag=True, help="Compare with REV itself, not with the merge base.")
@click.option("--baseline", metavar="FILE", help="Compare with what was stored earlier.")
@click.option("--update-baseline", is_flag=True, help="Add this measurement to --baseline.")
@click.option("--history", metavar="DIR|FILE|URL", help="Add to a series, and look for changes.")
@workload_options(several=False)
@click.option("--command", "shell_command", metavar="CMD", help="Measure a command instead.")
@click.option("--report", metavar="FILE", help="The perfdoctor report that --command writes.")
@click.option(
    "--steps",
    type=Count(min=10),
    default=200,
    show_default=True,
    help="Steps of a SCRIPT to observe.",
)
@click.option(
    "--fail-on",
    multiple=True,
    metavar="METRIC:STATISTIC:PERCENT",
    help="What must not get worse: step, memory, or a stage; p25, p50, p95, mean, min, cpu, peak. "
    "Fails if surely worse and by more than half of PERCENT (of memory: by more than PERCENT), "
    "passes if surely worse by less than PERCENT. [default: step:p25:5%]",
)
@click.option("--warn-on", multiple=True, metavar="…", help="The same, without failing.")
@click.option(
    "--inconclusive",
    type=click.Choice(["pass", "fail"]),
    help="What to make of it where nothing can be told. [default: exit code 3]",
)
@click.option(
    "--max-seconds",
    type=Seconds(min=1),
    help="Budget of measuring, after --setup; the first pair takes what it takes. "
    "[default: 85, more where steps are long]",
)
@click.option("--setup", metavar="CMD", help="Run on each side, in an environment of its own.")
@click.option("--share", multiple=True, metavar="PATH", help="Untracked data for both sides.")
@click.option("--same", multiple=True, metavar="FILE", help="Take the new version on both sides.")
@click.option(
    "--seed", type=Count(min=0), default=0, show_default=True, help="Of all random numbers."
)
@check_output_options
@click.argument("script", nargs=-1, type=click.UNPROCESSED, metavar="[-- SCRIPT ARGS...]")
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Decide whether the code became slower, and say why. For CI, and before a commit.

    \b
    perfdoctor check --against origin/main --workload bench.py
    perfdoctor check --against v1.2 -- train.py --epochs 1
    perfdoctor check --against main --command 'make bench' --report out.json

    Both revisions are measured here in turns, each in a checkout of its own, until it is clear:
    identical code passes, a slowdown of 5 % fails on a quiet machine, and where it is too busy to
    tell, that is said.
    """
    ctx.exit(_told(given))


def _told(given: Mapping[str, Any]) -> int:
    """The exit code. CI is told of an error as well, and finds no result of an earlier check."""
    from perfdoctor.errors import PerfdoctorError, UserCodeError, first_line

    remove_old(given)
    try:
        _check(given)
        return _run(given)
    except (PerfdoctorError, click.ClickException) as error:
        _tell_error(given, error)
        raise
    except (OSError, click.Abort):  # `cli` tells what it means
        raise
    except Exception as error:  # a fault of ours must not read as a regression, which is 1
        fault = UserCodeError(
            f"perfdoctor itself has failed: {first_line(error)}",
            slug="internal-error",
            details=traceback.format_exc(),
        )
        _tell_error(given, fault)
        raise fault from error


def _tell_error(given: Mapping[str, Any], error: Exception) -> None:
    from perfdoctor.render.check_errors import Unmeasured

    told = error.format_message() if isinstance(error, click.ClickException) else str(error)
    script = " ".join(given["script"])
    failed = Unmeasured(
        measured=given["shell_command"] or script or given["workload"] or "perfdoctor check",
        message=told,
        slug=getattr(error, "slug", "usage"),
        details=getattr(error, "details", ""),
    )
    deliver_error(given, failed)


def _check(given: Mapping[str, Any]) -> None:
    """Refuses combinations that mean nothing."""
    ways = [name for name in ("against", "baseline", "history") if given[name] is not None]
    if len(ways) != 1:
        raise click.UsageError(
            "compare with what? Give just one of --against REV, --baseline FILE, --history URL"
        )
    if given["update_baseline"] and given["baseline"] is None:
        raise click.UsageError("--update-baseline needs --baseline FILE")
    if (given["shell_command"] is None) != (given["report"] is None):
        raise click.UsageError("--command and --report go together")
    if given["against"] is None:
        for name in ("exact", "setup", "share", "same"):
            if given[name]:
                raise click.UsageError(f"--{name} needs --against")


def _run(given: Mapping[str, Any]) -> int:
    from perfdoctor.cli.progress import shown_progress

    writable(given)
    asked = _asked(given)
    to_stdout = given["json_file"] == "-"
    with (
        redirect_stdout(sys.stderr) if to_stdout else nullcontext(),
        shown_progress(quiet=given["quiet"]) as progress,
    ):
        result = _checked(given, asked, progress)
    deliver(given, result)
    return result.exit_code(given["inconclusive"])


def _checked(given: Mapping[str, Any], asked: Asked, progress: Any) -> CheckResult:
    if given["baseline"] is not None:
        from perfdoctor.gate import with_baseline

        return with_baseline.check(
            asked, Path(given["baseline"]), update=given["update_baseline"], progress=progress
        )
    if given["history"] is not None:
        from perfdoctor.gate import with_history

        return with_history.check(asked, given["history"], progress)
    from perfdoctor.gate import against

    request = against.Against(
        revision=given["against"],
        exact=given["exact"],
        setup=given["setup"],
        share=given["share"],
        same=given["same"],
    )
    return against.check(asked, request, progress)


def _asked(given: Mapping[str, Any]) -> Asked:
    from perfdoctor.compare.checks import parse_all
    from perfdoctor.gate.asked import Asked

    return Asked(
        measured=_measured(given),
        criteria=parse_all(given["fail_on"], given["warn_on"]),
        max_seconds=given["max_seconds"],
        seed=given["seed"],
        command=shlex.join(["perfdoctor", *sys.argv[1:]]),
    )


def _measured(given: Mapping[str, Any]) -> Measured:
    from perfdoctor.gate.asked import Measured

    workload, options = described(given)
    ways = [bool(workload), bool(given["script"]), given["shell_command"] is not None]
    if sum(ways) != 1:
        raise click.UsageError(
            "measure what? Give just one of --workload (or --data-dir, --model with --dataset, "
            "--demo), -- SCRIPT, or --command CMD --report FILE"
        )
    if options and not workload:
        raise click.UsageError("options of a workload mean nothing for a script or a command")
    if given["script"] and not Path(given["script"][0]).is_file():
        raise click.UsageError(f"there is no script {given['script'][0]}")
    return Measured(
        workload=workload or None,
        options=options,
        script=given["script"],
        steps=given["steps"],
        command=given["shell_command"],
        report=given["report"],
    )
