"""One file with the baselines of many tests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from perfdoctor import schema
from perfdoctor.errors import PerfdoctorError
from perfdoctor.gate.baseline_file import VERSION, Baseline, Session


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
    try:
        raw = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        if may_be_missing:
            return Baselines()
        raise PerfdoctorError(
            f"there is no baseline {path}; make it with --perf-update", slug="no-baseline"
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise _unusable(path, str(error)) from None
    if not isinstance(raw, dict) or raw.get("kind") != "baselines":
        raise _unusable(path, "it holds no baselines of tests")
    version = raw.get("schema_version")
    if not isinstance(version, int) or version > VERSION:
        raise _unusable(path, f"its version {version} is newer than {VERSION}: upgrade perfdoctor")
    try:
        return msgspec.convert(raw, Baselines)
    except msgspec.ValidationError as error:
        raise _unusable(path, str(error)) from None


def write(path: Path, baselines: Baselines) -> None:
    """Whole, or not at all.

    Raises:
        PerfdoctorError: it cannot be written.
    """
    schema.write_atomically(path, schema.to_json_document(baselines))


def _unusable(path: Path, why: str) -> PerfdoctorError:
    return PerfdoctorError(
        f"cannot use the baseline {path}: {why}; delete it, or restore it", slug="baseline-invalid"
    )
