"""`perfdoctor rules` and `perfdoctor explain`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from perfdoctor.cli import explain
from perfdoctor.cli import rules as rules_command
from perfdoctor.errors import PerfdoctorError
from perfdoctor.rules import BUILTIN, HEADINGS


def test_rules_lists_every_code_with_its_line() -> None:
    shown = CliRunner().invoke(rules_command.command).stdout
    for code, (_, line) in BUILTIN.items():
        assert any(code in row and line in row for row in shown.splitlines())
    assert "Data loading" in shown


def test_rules_as_json() -> None:
    rows = json.loads(CliRunner().invoke(rules_command.command, ["--json"]).stdout)
    assert [row["code"] for row in rows] == list(BUILTIN)
    assert rows[0] == {
        "code": "PD101",
        "name": "synchronous-data-loading",
        "family": "data loading",
        "summary": BUILTIN["PD101"][1],
        "needs": ["configuration.num_workers"],
        "verify_with": "workers",
        "cause": "loader-throughput",
        "thresholds": rows[0]["thresholds"],
    }
    assert rows[0]["thresholds"]["exposed_share"] == 0.1


@pytest.mark.parametrize("word", ["PD104", "pd104", "workers-restarted-each-epoch"])
def test_explain_takes_a_code_or_a_name(word: str) -> None:
    shown = CliRunner().invoke(explain.command, [word]).stdout
    assert shown.startswith("# PD104 workers-restarted-each-epoch\n")
    assert all(f"\n## {heading}\n" in shown for heading in HEADINGS)


def test_explain_tells_what_is_not_in_the_text() -> None:
    shown = CliRunner().invoke(explain.command, ["PD404"]).stdout
    assert shown.endswith(
        "*family optimizer and architecture search; cause `optimizer-kernels`; needs "
        "`configuration.optimizer_home`, `stages`; tried by the experiment `optimizer-fused`*\n"
    )


def test_explain_formats_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    explain._print_formatted("# PD104 name\n\n## What it does\nLooks.\n")
    shown = capsys.readouterr().out
    assert "What it does" in shown
    assert "##" not in shown


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("PD1O1", "did you mean PD101"),
        ("synchronous-loading", "synchronous-data-loading"),
        ("zzz", "`perfdoctor rules` lists them all"),
    ],
)
def test_an_unknown_rule_is_an_error_with_near_matches(word: str, hint: str) -> None:
    error = CliRunner().invoke(explain.command, [word]).exception
    assert isinstance(error, PerfdoctorError)
    assert error.slug == "unknown-rule"
    assert hint in str(error)


def test_neither_command_needs_torch_pandas_or_matplotlib() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'pandas', 'matplotlib'): sys.modules[name] = None\n"
        "from perfdoctor.cli import explain, rules\n"
        "rules.command([], standalone_mode=False)\n"
        "explain.command(['PD101'], standalone_mode=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
