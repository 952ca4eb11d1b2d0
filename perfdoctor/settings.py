"""Settings of a project: disabled rules, thresholds and formats of logs.

Read from the first of these that has a section for perfdoctor, in the working directory or the
nearest folder above it: `perfdoctor.toml` (whole file), `pyproject.toml` (`[tool.perfdoctor]`),
`setup.cfg` (`[perfdoctor]`, `[perfdoctor:thresholds]`, `[perfdoctor:formats]`).
"""

from __future__ import annotations

import configparser
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfdoctor.errors import PerfdoctorError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KEYS = {"disable", "thresholds", "formats"}


@dataclass(frozen=True)
class Settings:
    """What a project settled.

    Attributes:
        disable: rule codes or names. thresholds: name → number. path: the file read.
        formats: name → templates of log lines, see `perfdoctor analyze --pattern`.
    """

    disable: frozenset[str] = frozenset()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    path: Path | None = None
    formats: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def load(folder: Path) -> Settings:
    """The settings that hold in `folder`.

    Raises:
        PerfdoctorError: the file cannot be parsed, or has a key that does not exist.
    """
    for place in (folder, *folder.parents):
        for name, reader in _READERS.items():
            if (place / name).is_file() and (section := _read(place / name, reader)) is not None:
                return _settings(section, place / name)
    return Settings()


def _read(path: Path, reader: Any) -> dict[str, Any] | None:
    try:
        section: dict[str, Any] | None = reader(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, configparser.Error) as error:
        line = str(error).splitlines()[0]
        raise PerfdoctorError(f"cannot read {path}: {line}", slug="settings-unreadable") from None
    return section


def _settings(section: dict[str, Any], path: Path) -> Settings:
    unknown = set(section) - _KEYS
    if unknown:
        raise PerfdoctorError(
            f"{path}: unknown setting {sorted(unknown)[0]!r}; known are {', '.join(sorted(_KEYS))}",
            slug="settings-unknown-key",
        )
    try:
        thresholds = {str(k): float(v) for k, v in dict(section.get("thresholds", {})).items()}
        formats = {str(k): _templates(v) for k, v in dict(section.get("formats", {})).items()}
        disable = frozenset(map(str, section.get("disable", ())))
        return Settings(disable, thresholds, path, formats)
    except (TypeError, ValueError):
        raise PerfdoctorError(
            f"{path}: disable must be a list of rules, thresholds a table of numbers, formats a "
            "table of templates or lists of them",
            slug="settings-wrong-type",
        ) from None


def _templates(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(line.strip() for line in value.splitlines() if line.strip())
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise TypeError(value)
    return tuple(value)


def _pyproject(text: str) -> dict[str, Any] | None:
    section: dict[str, Any] | None = tomllib.loads(text).get("tool", {}).get("perfdoctor")
    return section


def _setup_cfg(text: str) -> dict[str, Any] | None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    sections = ("perfdoctor", "perfdoctor:thresholds", "perfdoctor:formats")
    if not any(parser.has_section(name) for name in sections):
        return None
    section: dict[str, Any] = dict(parser["perfdoctor"]) if "perfdoctor" in parser else {}
    if "disable" in section:
        section["disable"] = section["disable"].replace(",", " ").split()
    if "perfdoctor:thresholds" in parser:
        section["thresholds"] = dict(parser["perfdoctor:thresholds"])
    if "perfdoctor:formats" in parser:
        section["formats"] = dict(parser["perfdoctor:formats"])
    return section


_READERS = {
    "perfdoctor.toml": tomllib.loads,
    "pyproject.toml": _pyproject,
    "setup.cfg": _setup_cfg,
}
