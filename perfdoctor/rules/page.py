"""The page of all rules in the docs, from their docstrings: `python -m perfdoctor.rules.page`."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from perfdoctor.rules import Rule, catalogue
from perfdoctor.rules.known import ADVICE, NOT_EVALUATED

_HEAD = """# The rules

Every cause of slow training that perfdoctor looks for. This page is made from the rules' own
docstrings by `make docs`; `perfdoctor explain CODE` prints one of them, `perfdoctor rules --json`
lists them for programs.

A rule that lacks a measurement it needs says so and decides nothing. Rules read a report and never
measure, so a stored report is judged like a fresh one. Findings of one cause become one
recommendation with its alternatives; advice that is followed already, that is about a GPU where
there is none, or that contradicts better advice, is not given.

Thresholds are changed, and rules switched off, in `perfdoctor.toml`, `[tool.perfdoctor]` of
`pyproject.toml` or `[perfdoctor]` of `setup.cfg`:

```toml
disable = ["PD504", "slow-tail"]

[thresholds]
"PD205.memory_share" = 0.9
min_speedup = 1.05
```

Rules of other packages come through the entry point group `perfdoctor.rules`.
"""


def page(rules: Sequence[Rule]) -> str:
    """The whole page as Markdown."""
    parts = [_HEAD, _contents(rules), *_families(rules), _advice(rules), _not_evaluated()]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _contents(rules: Iterable[Rule]) -> str:
    rows = (
        f"| [{r.code}](#{r.code.lower()}-{r.name}) | {r.name} | {catalogue.one_line(r)} |"
        for r in rules
    )
    return "\n".join(["| code | name | what it says |", "|---|---|---|", *rows])


def _families(rules: Sequence[Rule]) -> Iterator[str]:
    for family, members in itertools.groupby(rules, catalogue.family):
        yield f"\n## {family[0].upper()}{family[1:]}\n"
        yield from (_rule(rule) for rule in members)


def _rule(rule: Rule) -> str:
    """One rule, its headings two levels deeper, and what is only in its attributes."""
    text = catalogue.explanation(rule).replace("\n## ", "\n#### ")
    return f"##{text}\n*{catalogue.attributes(rule)}*\n"


def _advice(rules: Iterable[Rule]) -> str:
    names = {rule.code: rule.name for rule in rules}
    rows = []
    for advice, codes, note in ADVICE:
        found = ", ".join(f"[{c}](#{c.lower()}-{names[c]})" for c in codes)
        rows.append(f"| {advice} | {found or '–'} | {note} |")
    head = (
        "\n## Common advice, and the rules that give it on evidence\n\n"
        "| advice | rules | how |\n|---|---|---|"
    )
    return "\n".join([head, *rows])


def _not_evaluated() -> str:
    rows = [f"| {cause} | {missing} |" for cause, missing in NOT_EVALUATED]
    head = (
        "\n## Causes that are known and not evaluated yet\n\n| cause | what is missing |\n|---|---|"
    )
    return "\n".join([head, *rows])


def main() -> None:
    """Writes the page to the path that is given, or to stdout."""
    text = page(catalogue.builtin())
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
