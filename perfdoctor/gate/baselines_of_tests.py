"""One file with the baselines of many tests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from perfdoctor.gate.baseline_file import VERSION, Baseline, Session, read_document


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """Test → its baseline."""

    schema_version: int = VERSION
    kind: str = "baselines"
    tests: dict[str, Baseline] = field(default_factory=dict)

    def of(self, test: str) -> Baseline:
        """That of a test; an empty one where nothing was stored."""
        return self.tests.get(test) or Baseline(measured=test, identity=test)

    def with_session(self, test: str, session: Session) -> Baselines:
        """A session more of one test."""
        return replace(self, tests={**self.tests, test: self.of(test).with_session(session)})


def read(path: Path, *, may_be_missing: bool) -> Baselines:
    """All of a file.

    Raises:
        PerfdoctorError: there is none, or it cannot be read.
    """
    if may_be_missing and not path.exists():
        return Baselines()
    return read_document(path, "baselines", Baselines, "--perf-update")
