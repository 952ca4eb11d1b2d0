"""GitLab: findings for the merge request's code quality widget, numbers for its metrics widget."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from perfdoctor.compare.checks import REGRESSION, CheckResult, Judged
from perfdoctor.render import check_words

_LABEL = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def code_quality(result: CheckResult) -> bytes:
    """Code Climate's issues, as GitLab reads them: one for each regression."""
    found = [j for j in result.judged if j.outcome == REGRESSION]
    return json.dumps([_issue(result, j) for j in found], indent=1).encode() + b"\n"


def _issue(result: CheckResult, found: Judged) -> dict[str, Any]:
    # the same as long as the same thing is slow, so that GitLab knows it again
    identity = f"{result.measured} {found.criterion.key}"
    return {
        "description": check_words.verdict(found),
        "check_name": f"perfdoctor-{found.criterion.metric}-{found.criterion.statistic}",
        "fingerprint": hashlib.sha256(identity.encode(errors="replace")).hexdigest(),
        "severity": "major" if found.criterion.fails else "minor",
        "location": {"path": _path(result.measured), "lines": {"begin": 1}},
    }


def _path(measured: str) -> str:
    """The file that was measured, as far as a name of one can be seen."""
    found = re.search(r"[\w./-]+\.py", measured)
    return found[0] if found else "perfdoctor"


def metrics(result: CheckResult) -> bytes:
    """OpenMetrics text: the new side's value of everything that was measured."""
    lines = []
    for unit, name, told in (
        ("s", "perfdoctor_seconds", "Time of a step or stage."),
        ("bytes", "perfdoctor_bytes", "Peak memory."),
    ):
        values = [s for s in result.shifts if s.unit == unit and s.after is not None]
        if values:
            lines += [f"# TYPE {name} gauge", f"# HELP {name} {told}"]
            lines += [f"{name}{{{_labels(s.name, s.statistic)}}} {s.after!r}" for s in values]
    return "\n".join([*lines, "# EOF"]).encode() + b"\n"


def _labels(name: str, statistic: str) -> str:
    return f'metric="{name.translate(_LABEL)}",statistic="{statistic}"'
