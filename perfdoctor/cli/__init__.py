"""The command line. Each command lives in its own file and is imported when it is called."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import NoReturn

import click

from perfdoctor import __version__
from perfdoctor.errors import EXIT_INTERRUPTED, EXIT_USAGE, PerfdoctorError, UserCodeError

#: Command → where its `command` object lives, and its line in `perfdoctor --help`.
COMMANDS = {
    "bench": ("perfdoctor.cli.bench", "Measure a model and its data, stage by stage."),
    "run": ("perfdoctor.cli.run", "Run a training script, unchanged, and say what is slow."),
    "analyze": ("perfdoctor.cli.analyze", "Read the logs of earlier runs, and say what was slow."),
    "compare": ("perfdoctor.cli.compare", "Say what changed between two reports, logs or groups."),
    "check": ("perfdoctor.cli.check", "Decide whether the code became slower, for CI."),
    "whatif": ("perfdoctor.cli.whatif", "Predict other workers, batches, cores, GPUs."),
    "formats": ("perfdoctor.cli.formats", "List the formats of logs that can be read."),
    "rules": ("perfdoctor.cli.rules", "List the causes of slow training that are known."),
    "explain": ("perfdoctor.cli.explain", "Explain one of them: why, evidence, what to change."),
}


class LazyGroup(click.Group):
    """A group that imports a command only to run it or to show its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, from the literal help lines: nothing is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="perfdoctor")
def cli() -> None:
    """Tell why a PyTorch training is slow, what to change and how much it brings.

    Begin with `perfdoctor bench`, which measures an embedded demo and shows a diagnosis, or with
    `perfdoctor analyze LOG`, which reads what an earlier run left behind.
    """


def main() -> NoReturn:
    """Runs the command line and exits with its code."""
    code = run(sys.argv[1:])
    gc.freeze()  # the interpreter's last collection would look through everything for nothing
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Runs one command; errors become a line on stderr and an exit code."""
    try:
        result = cli.main(arguments, prog_name="perfdoctor", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except UserCodeError as error:
        click.echo(error.details, err=True)
        return _fail(error)
    except PerfdoctorError as error:
        return _fail(error)
    except (KeyboardInterrupt, click.Abort):
        return _interrupted()
    except BrokenPipeError:
        sys.stdout = None  # or the interpreter flushes it again, and complains
        return 0
    except OSError as error:
        sys.stdout = None
        reason = f"cannot write the output: {error.strerror or error}; files stay where they are"
        return _fail(PerfdoctorError(reason, slug="output-unwritable"))


def _interrupted() -> int:
    """People press Ctrl-C twice: a second one must not make a traceback of it."""
    from perfdoctor.interrupts import undisturbed

    with undisturbed():
        click.echo("perfdoctor: interrupted; there is no result", err=True)
    return EXIT_INTERRUPTED


def _fail(error: PerfdoctorError) -> int:
    click.echo(f"perfdoctor: error: {error} [{error.slug}]", err=True)
    return error.exit_code
