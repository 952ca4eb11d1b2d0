"""The page about CI: its commands are those of the command line, its workflows are YAML."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from perfdoctor.cli import cli

PAGE = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[str]:
    """Those of the shell blocks, and of the workflows, where they are folded over lines."""
    folded = [
        " ".join(found.split())
        for block in blocks("yaml")
        for found in re.findall(r"perfdoctor check (?:.|\n +--)*", block)
    ]
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [line for line in (*lines, *folded) if line.startswith("perfdoctor ")]


def test_the_page_has_commands_of_all_kinds():
    found = commands()
    assert len(found) >= 11
    assert any("origin/$" in line for line in found)
    assert any("FETCH_HEAD" in line and "--gitlab" in line for line in found)


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_page_is_understood(line):
    name, *arguments = shlex.split(line)[1:]
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    command.make_context(name, list(arguments))


def test_workflows_are_yaml():
    github, gitlab = (yaml.safe_load(block) for block in blocks("yaml"))
    run = [step.get("run", "") for step in github["jobs"]["check"]["steps"]]
    assert any(line.startswith("perfdoctor check") and "\n" not in line.strip() for line in run)
    assert gitlab["performance"]["artifacts"]["reports"]["junit"] == "perfdoctor.xml"
