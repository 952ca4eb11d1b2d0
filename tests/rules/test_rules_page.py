"""The page of rules in the docs is what the docstrings say, and its tables name what exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from perfdoctor.experiments import EXPERIMENTS
from perfdoctor.rules import BUILTIN, catalogue
from perfdoctor.rules.known import ADVICE, NOT_EVALUATED
from perfdoctor.rules.page import page

PAGE = Path(__file__).parents[2] / "docs" / "rules.md"


def test_the_page_is_not_stale() -> None:
    assert PAGE.read_text("utf-8") == page(catalogue.builtin()), "run `make docs`"


def test_every_rule_is_on_the_page_and_every_link_leads_somewhere() -> None:
    text = page(catalogue.builtin())
    anchors = {
        f"{code.lower()}-{rule.name}"
        for code, rule in zip(BUILTIN, catalogue.builtin(), strict=True)
    }
    headings = set(re.findall(r"^### (PD\d{3}) ", text, re.MULTILINE))
    assert headings == set(BUILTIN)
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) == anchors


def test_the_table_of_advice_names_rules_that_exist() -> None:
    assert {code for _, codes, _ in ADVICE for code in codes} <= set(BUILTIN)
    assert all(codes or note for _, codes, note in ADVICE)
    assert all(cause and missing for cause, missing in NOT_EVALUATED)


def test_experiments_are_called_by_the_agreed_names() -> None:
    used = {rule.verify_with for rule in catalogue.builtin()} - {None}
    assert used <= set(EXPERIMENTS)


def test_the_command_prints_the_page_without_torch() -> None:
    code = (
        "import runpy, sys\n"
        "for name in ('torch', 'pandas', 'matplotlib'): sys.modules[name] = None\n"
        "sys.argv = ['page']\n"
        "runpy.run_module('perfdoctor.rules.page', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# The rules\n")
