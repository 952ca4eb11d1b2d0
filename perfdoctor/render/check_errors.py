"""A check that came to no result, as CI systems read it: no regression, and no pass."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree

from perfdoctor import schema
from perfdoctor.compare.checks import CHECK_VERSION
from perfdoctor.render import github, junit
from perfdoctor.render.markdown import escaped
from perfdoctor.render.text import clean

#: Of a traceback an annotation shows the end, where the error stands.
_ANNOTATED_LINES = 8


@dataclass(frozen=True, kw_only=True)
class Unmeasured:
    """Why there is no result.

    Attributes:
        measured: what was to be run. message, slug: of the error. details: what the code that
            failed has printed.
    """

    schema_version: int = CHECK_VERSION
    kind: str = "check"
    tool: dict[str, str] = field(default_factory=schema.tool)
    created_at: str = field(default_factory=schema.now)
    outcome: str = "error"
    measured: str
    message: str
    slug: str
    details: str = ""


def as_junit(failed: Unmeasured) -> bytes:
    """One test case, which has an error."""
    case = ElementTree.Element(
        "testcase",
        classname=junit.printable(f"perfdoctor.{clean(failed.measured)}"),
        name="can be measured",
    )
    error = ElementTree.SubElement(
        case, "error", message=junit.printable(clean(failed.message)), type=failed.slug
    )
    error.text = junit.printable(failed.details)
    return junit.document([case], {"tests": 1, "errors": 1}, failed.created_at)


def as_markdown(failed: Unmeasured) -> str:
    """The error, and what was printed."""
    parts = [
        f"## 💥 error: {escaped(failed.measured)}",
        f"**{escaped(failed.message)}**",
        "Nothing was measured: this is neither a regression nor a pass.",
    ]
    if failed.details:  # indented: text that nothing in it can end
        parts.append("\n".join(f"    {line}" for line in failed.details.splitlines()))
    return "\n\n".join(parts) + "\n"


def as_code_quality(failed: Unmeasured) -> bytes:
    """One finding; an empty list would tell that all earlier ones are mended."""
    identity = f"{failed.measured} {failed.slug}"
    issue = {
        "description": clean(failed.message),
        "check_name": f"perfdoctor-{failed.slug}",
        "fingerprint": hashlib.sha256(identity.encode(errors="replace")).hexdigest(),
        "severity": "critical",
        "location": {"path": "perfdoctor", "lines": {"begin": 1}},
    }
    return json.dumps([issue], indent=1).encode() + b"\n"


def as_metrics(failed: Unmeasured) -> bytes:
    """OpenMetrics text without a metric."""
    return b"# EOF\n"


def tell_github(
    failed: Unmeasured, environment: Mapping[str, str], *, commands: bool = True
) -> None:
    """Adds to the job summary, and prints one annotation."""
    github.summarise(as_markdown(failed), environment)
    if commands:
        lines = [failed.message, *failed.details.splitlines()[-_ANNOTATED_LINES:]]
        sys.stdout.write(f"{github.annotation('error', 'Cannot be measured', lines)}\n")
        sys.stdout.flush()
