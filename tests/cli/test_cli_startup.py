"""What the command line costs before it does anything."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = ("torch", "pandas", "matplotlib", "numpy", "rich", "psutil")
PROGRAM = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} must not be imported here")
sys.meta_path.insert(0, Refuse())
from perfdoctor.cli import run
sys.exit(run({arguments!r}))
"""


def run_blocked(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(blocked=set(BLOCKED), arguments=list(arguments))
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["bench", "--help"], ["no-such-command"]]
)
def test_help_needs_no_heavy_module(arguments):
    done = run_blocked(*arguments)
    assert "must not be imported" not in done.stderr
    assert done.returncode == (2 if arguments == ["no-such-command"] else 0)


@pytest.mark.parametrize("arguments", [["rules"], ["explain", "PD101"]])
def test_rules_are_listed_and_explained_without_torch(arguments):
    program = PROGRAM.format(blocked={"torch", "pandas", "matplotlib"}, arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["verifying", "collect.rerun.process", "running"])
def test_a_process_of_a_script_has_no_threads_before_its_sandbox(module):
    program = (
        f"import sys, os, perfdoctor.{module}; "
        "print([one for one in ('numpy', 'torch') if one in sys.modules], "
        "len(os.listdir('/proc/self/task')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[] 1\n", done.stderr


def test_a_log_is_read_without_threads_that_wait_for_matrices(tmp_path):
    (tmp_path / "train.log").write_text("step 1 took 0.5 s\nstep 2 took 0.5 s\n")
    program = (
        "import os; from perfdoctor.cli import run; "
        "run(['analyze', 'train.log', '--no-plots', '--quiet']); "
        "print(len(os.listdir('/proc/self/task')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout == "1\n", done.stderr


def test_the_choices_on_the_command_line_are_those_of_the_code():
    from perfdoctor.cli import workload_options as given
    from perfdoctor.collect import options
    from perfdoctor.workloads import DEMOS

    assert given.PRECISIONS == options.PRECISIONS
    assert given.COMPILE_MODES == options.COMPILE_MODES
    assert set(given.DEMOS) == set(DEMOS)


def test_every_command_has_a_file_and_a_help_line():
    from click.testing import CliRunner

    from perfdoctor.cli import COMMANDS, cli

    text = CliRunner().invoke(cli, ["--help"]).output
    for name, (_, line) in COMMANDS.items():
        assert f"{name} " in text
        assert line in text
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0
