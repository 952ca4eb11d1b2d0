"""Options of perfdoctor's behind the script."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from perfdoctor.cli.misplaced import hint_at_misplaced

NAMES = ("--verify", "--json", "--no-plots", "--steps", "--max-seconds", "--live")
OPTIONS = [click.Option([name]) for name in NAMES]


@pytest.mark.parametrize(
    ("source", "arguments", "told"),
    [
        ("import torch", ["--verify", "--epochs", "3"], "--verify stands behind"),
        ("import torch", ["--json=x.json", "--no-plots"], "--json, --no-plots stand behind"),
        ("parser.add_argument('--steps')", ["--steps", "3"], None),
        ("max_seconds: float = 3.0  # an option each", ["--max-seconds", "3"], None),
        ("import torch", ["--epochs", "verify"], None),
        ("import torch", [], None),
    ],
)
def test_a_hint_where_the_script_does_not_know_it(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str,
    arguments: list[str],
    told: str | None,
) -> None:
    script = tmp_path / "train.py"
    script.write_text(source)
    hint_at_misplaced(str(script), arguments, OPTIONS)
    shown = capsys.readouterr().err
    assert shown.startswith(f"perfdoctor: note: {told}") if told else not shown


def test_of_a_module_there_is_no_source(capsys: pytest.CaptureFixture[str]) -> None:
    hint_at_misplaced("package.train", ["--live"], OPTIONS)
    assert "--live stands behind package.train, which gets it" in capsys.readouterr().err
