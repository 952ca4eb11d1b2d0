"""GitHub Actions: a job summary, and few annotations.

GitHub shows ten annotations of a kind for a step, and people read one: all regressions are told
together.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

from perfdoctor.compare.checks import IMPROVED, INCONCLUSIVE, REGRESSION, CheckResult
from perfdoctor.render import check_words, markdown, sides_words

_WHY_SHOWN = 3


def tell(result: CheckResult, environment: Mapping[str, str], *, commands: bool = True) -> None:
    """Writes the job summary, and prints annotations unless stdout belongs to something else."""
    path = environment.get("GITHUB_STEP_SUMMARY")
    if path:
        try:
            with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123 - as it is named
                file.write(markdown.check(result))
        except OSError as error:
            sys.stderr.write(f"perfdoctor: cannot write the job summary: {error}\n")
    if commands:
        for line in workflow_commands(result):
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def workflow_commands(result: CheckResult) -> Iterator[str]:
    """Workflow commands: at most one of each kind."""
    kinds = {
        "error": [j for j in result.judged if j.criterion.fails and j.outcome == REGRESSION],
        "warning": [
            j
            for j in result.judged
            if j.outcome == (INCONCLUSIVE if j.criterion.fails else REGRESSION)
        ],
        "notice": [j for j in result.judged if j.outcome == IMPROVED],
    }
    titles = {"error": "Slower", "warning": "Performance", "notice": "Faster"}
    for kind, found in kinds.items():
        if found:
            lines = [check_words.verdict(judged) for judged in found]
            if kind == "error":
                lines += [sides_words.difference(d) for d in result.why[:_WHY_SHOWN]]
            yield f"::{kind} title={_property(titles[kind])}::{_data(chr(10).join(lines))}"


def _data(text: str) -> str:
    """Escaped as the runner unescapes it (actions/toolkit, command.ts)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
