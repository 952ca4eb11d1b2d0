"""Reports as JSON: the version, writing, reading back, and upgrades of older files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from perfdoctor import __version__
from perfdoctor.errors import PerfdoctorError
from perfdoctor.report import Report

SCHEMA_VERSION = 1

#: Version N → a function that turns a version-N dictionary into one of version N + 1.
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


def tool() -> dict[str, str]:
    """What writes a document, as it is noted in it."""
    return {"name": "perfdoctor", "version": __version__}


def now() -> str:
    """This moment as documents note it: UTC, ISO 8601, whole seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def to_dict(report: Report) -> dict[str, Any]:
    """The report as plain dictionaries, lists, strings and numbers."""
    built: dict[str, Any] = msgspec.to_builtins(report)
    return built


def to_json(report: Report) -> bytes:
    """The report as indented UTF-8 JSON. NaN and infinity become null."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def to_json_document(document: Any) -> bytes:
    """Any of the records that have a version of their own, as indented UTF-8 JSON."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def from_json(data: bytes, where: str = "report") -> Report:
    """Reads a report of this or an earlier version.

    Raises:
        PerfdoctorError: not JSON, not a perfdoctor report, or written by a newer perfdoctor.
    """
    try:
        raw = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise PerfdoctorError(f"{where} is not JSON: {error}", slug="report-not-json") from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if not isinstance(version, int):
        raise PerfdoctorError(
            f"{where} is not a perfdoctor report: it has no schema_version", slug="not-a-report"
        )
    if isinstance(kind := raw.get("kind"), str):
        raise PerfdoctorError(
            f"{where} is a {kind} that perfdoctor wrote, and no report of a training",
            slug="not-a-report",
        )
    if version > SCHEMA_VERSION:
        raise PerfdoctorError(
            f"{where} has schema version {version}, this perfdoctor reads up to {SCHEMA_VERSION}; "
            "upgrade perfdoctor",
            slug="report-too-new",
        )
    for old in range(version, SCHEMA_VERSION):
        raw = UPGRADES[old](raw)
    try:
        return msgspec.convert(raw, Report)
    except msgspec.ValidationError as error:
        raise PerfdoctorError(f"{where}: {error}", slug="report-invalid") from None


def read_report(path: Path) -> Report:
    """The report in a file.

    Raises:
        PerfdoctorError: as `from_json`, or the file cannot be read.
    """
    try:
        return from_json(path.read_bytes(), str(path))
    except OSError as error:
        raise PerfdoctorError(
            f"cannot read {path}: {error.strerror or error}; give a report that perfdoctor wrote",
            slug="report-unreadable",
        ) from None


def write_atomically(path: Path, data: bytes, *, replace: bool = True) -> bool:
    """Writes to a temporary name beside `path`, which it then gets: the file is whole or not there.

    Returns False, and leaves what is there, where the name is taken and is not to be replaced.

    Raises:
        PerfdoctorError: the folder cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            temporary.chmod(0o644)
            if replace:
                temporary.replace(path)
            else:
                _link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise PerfdoctorError(
            f"cannot write {path}: {error.strerror or error}; choose another place",
            slug="output-unwritable",
        ) from None
    return True


def _link(temporary: Path, path: Path) -> None:
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: for a moment the file is empty
        path.open("xb").close()
        temporary.replace(path)
