"""The file of a stored baseline: sessions of earlier days, of one or more machines."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from perfdoctor import schema
from perfdoctor.errors import PerfdoctorError
from perfdoctor.gate.asked import Measured
from perfdoctor.gate.calibration import Kernels
from perfdoctor.gate.lock_step_pairs import workload_files

VERSION = 1
#: Older sessions are dropped: code and machines change.
KEPT = 50


#: Settings of another workload: what it trains is larger or smaller, not faster or slower.
_SIZES = ("parameters", "dataset_size", "batch_size")


@dataclass(frozen=True, kw_only=True)
class Session:
    """One occasion on which some processes were measured one after the other.

    Attributes:
        fingerprint: what must be equal for a comparison. informational: what may differ.
        before, after: the kernels. foreign_share: of the machine, taken by other programs.
        processes: key ("step:p25") → value, one a process. chunks: of the steps, one list a
            process, where they were measured in chunks.
        files: name → hash of those that say what is measured.
    """

    created_at: str
    commit: str | None
    dirty: bool
    fingerprint: dict[str, Any]
    informational: dict[str, Any]
    before: Kernels
    after: Kernels
    foreign_share: float
    processes: tuple[dict[str, float], ...]
    chunks: tuple[tuple[float, ...], ...] = ()
    configuration: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def other_work(self, other: Session) -> str | None:
        """What tells that the other session measured something else; None where nothing does."""
        changed = [n for n in self.files if _differ(self.files, other.files, n)]
        told = [f"{name} is not what it was" for name in changed]
        old, new = self.configuration, other.configuration
        told += [f"{n} {old[n]} → {new[n]}" for n in _SIZES if _differ(old, new, n)]
        return "; ".join(told) or None

    @property
    def kernels_log(self) -> float:
        """Logarithm of the kernels' time on this occasion."""
        return (self.before.log + self.after.log) / 2


def _differ(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> bool:
    """Where one of them does not know it, nothing is known."""
    return None not in (old.get(name), new.get(name)) and old[name] != new[name]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What is stored. `identity` tells whether the same thing was measured."""

    schema_version: int = VERSION
    kind: str = "baseline"
    tool: dict[str, str] = field(default_factory=schema.tool)
    measured: str
    identity: str
    sessions: tuple[Session, ...] = ()

    def with_session(self, session: Session) -> Baseline:
        """The newest last."""
        return replace(self, sessions=(*self.sessions, session)[-KEPT:])


def identity(measured: Measured) -> str:
    """A hash of what is measured: the workload or command and its options."""
    fields = {
        "workload": dict(measured.workload or {}),
        "options": dict(measured.options),
        "script": measured.script,
        "steps": measured.steps if measured.script else None,
        "command": measured.command,
        "report": measured.report,
    }
    return hashlib.sha256(msgspec.json.encode(fields, order="sorted")).hexdigest()[:16]


def hashes(measured: Measured, folder: Path) -> dict[str, str]:
    """Of the files that a workload is defined in; a script is what is judged, so none of it."""
    found = {}
    for name, _ in workload_files(measured.workload or {}):
        with suppress(OSError):  # a module that is installed
            found[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()[:16]
    return found


Document = TypeVar("Document")


def read(path: Path, measured: Measured) -> Baseline:
    """The baseline in a file.

    Raises:
        PerfdoctorError: there is none, it cannot be read, or it is of something else.
    """
    found = read_document(path, "baseline", Baseline, "--update-baseline")
    if found.identity != identity(measured):
        raise PerfdoctorError(
            f"{path} is the baseline of {found.measured!r} with other options, not of "
            f"{measured.name!r} as asked for; use another file",
            slug="other-baseline",
        )
    return found


def read_document(path: Path, kind: str, of: type[Document], made_with: str) -> Document:
    """A file of this kind, which the option `made_with` makes.

    Raises:
        PerfdoctorError: there is none, or it cannot be read.
    """
    try:
        raw = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        raise PerfdoctorError(
            f"there is no baseline {path}; make it with {made_with}", slug="no-baseline"
        ) from None
    except OSError as error:
        raise PerfdoctorError(
            f"cannot read {path}: {error.strerror}", slug="baseline-unreadable"
        ) from None
    except msgspec.DecodeError as error:
        raise _unusable(path, f"it is not JSON ({error})") from None
    if not isinstance(raw, dict) or raw.get("kind") != kind:
        raise _unusable(path, f"it holds no perfdoctor {kind}")
    version = raw.get("schema_version")
    if not isinstance(version, int) or version > VERSION:
        raise _unusable(
            path,
            f"its version is {version}, this perfdoctor reads up to {VERSION}",
            "upgrade perfdoctor",
        )
    try:
        return msgspec.convert(raw, of)
    except msgspec.ValidationError as error:
        raise _unusable(path, str(error)) from None


@contextmanager
def held(path: Path) -> Iterator[None]:
    """While it lasts, others that add to a file of this folder wait: no session gets lost.

    The folder is locked, so that no further file is left beside the baseline.
    """
    try:
        import fcntl

        folder = os.open(path.absolute().parent, os.O_RDONLY)
    except (ImportError, OSError):  # not POSIX; or there is no such folder, as writing tells
        yield
        return
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def write(path: Path, document: object) -> None:
    """Whole, or not at all.

    Raises:
        PerfdoctorError: it cannot be written.
    """
    schema.write_atomically(path, schema.to_json_document(document))


def _unusable(path: Path, why: str, way_out: str = "delete it, or restore it") -> PerfdoctorError:
    return PerfdoctorError(
        f"cannot use the baseline {path}: {why}; {way_out}", slug="baseline-invalid"
    )
