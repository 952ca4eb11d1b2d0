"""GitHub Actions: a job summary, and few annotations.

GitHub shows ten annotations of a kind for a step, and people read one: all regressions are told
together.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

from perfdoctor.compare.checks import IMPROVED, INCONCLUSIVE, REGRESSION, CheckResult
from perfdoctor.render import check_words, markdown, sides_words

_WHY_SHOWN = 3


def tell(
    result: CheckResult,
    environment: Mapping[str, str],
    *,
    commands: bool = True,
    strict: bool = False,
) -> None:
    """Writes the job summary, and prints annotations unless stdout belongs to something else."""
    summarise(markdown.check(result), environment)
    if commands:
        for line in workflow_commands(result, strict=strict):
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def summarise(text: str, environment: Mapping[str, str]) -> None:
    """Adds Markdown to the job summary, where there is one."""
    path = environment.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    try:
        with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123 - as it is named
            file.write(text)
    except OSError as error:
        sys.stderr.write(f"perfdoctor: cannot write the job summary: {error}\n")


def workflow_commands(result: CheckResult, *, strict: bool = False) -> Iterator[str]:
    """Workflow commands: at most one of each kind. `strict`: what is inconclusive fails."""
    fatal = {REGRESSION, INCONCLUSIVE} if strict else {REGRESSION}
    failing = [j for j in result.judged if j.criterion.fails]
    warning = [j for j in result.judged if not j.criterion.fails]
    kinds = {
        "error": [j for j in failing if j.outcome in fatal],
        "warning": [
            *(j for j in failing if j.outcome == INCONCLUSIVE and j.outcome not in fatal),
            *(j for j in warning if j.outcome == REGRESSION),
        ],
        "notice": [j for j in result.judged if j.outcome == IMPROVED],
    }
    slower = any(j.outcome == REGRESSION for j in kinds["error"])
    worse = "Slower" if slower else "Performance"
    titles = {"error": worse, "warning": "Performance", "notice": "Faster"}
    for kind, found in kinds.items():
        if found:
            lines = [check_words.verdict(judged) for judged in found]
            if kind == "error" and slower:
                lines += [sides_words.difference(d) for d in result.why[:_WHY_SHOWN]]
            yield annotation(kind, titles[kind], lines)


def annotation(kind: str, title: str, lines: Sequence[str]) -> str:
    """A workflow command: error, warning or notice."""
    return f"::{kind} title={_property(title)}::{_data(chr(10).join(lines))}"


def _data(text: str) -> str:
    """Escaped as the runner unescapes it (actions/toolkit, command.ts)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
