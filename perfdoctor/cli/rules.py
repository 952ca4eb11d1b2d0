"""`perfdoctor rules`: every known cause of slow training, one line each."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command("rules")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def command(as_json: bool) -> None:
    """List the causes of slow training that perfdoctor knows."""
    from perfdoctor.rules import catalogue

    loaded = catalogue.load()
    rows = [
        {
            "code": rule.code,
            "name": rule.name,
            "family": catalogue.family(rule),
            "summary": catalogue.one_line(rule),
            "needs": list(rule.needs),
            "verify_with": rule.verify_with,
            "cause": rule.cause,
            "thresholds": dict(rule.thresholds),
        }
        for rule in loaded.rules
    ]
    for problem in loaded.problems:
        click.echo(f"perfdoctor: warning: {problem}", err=True)
    click.echo(json.dumps(rows, indent=1, ensure_ascii=False) if as_json else _table(rows))


def _table(rows: list[dict[str, Any]]) -> str:
    """Families as headings; one rule a line."""
    width = max(len(row["name"]) for row in rows)
    lines: list[str] = []
    family = None
    for row in rows:
        if row["family"] != family:
            family = row["family"]
            lines += ["", family.capitalize()] if lines else [family.capitalize()]
        lines.append(f"  {row['code']}  {row['name']:<{width}}  {row['summary']}")
    return "\n".join([*lines, "", "`perfdoctor explain CODE` tells more about one of them."])
