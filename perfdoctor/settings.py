"""Settings of a project: disabled rules, thresholds and formats of logs.

Read from the first of these that has a section for perfdoctor, in the working directory or the
nearest folder above it: `perfdoctor.toml` (whole file), `pyproject.toml` (`[tool.perfdoctor]`),
`setup.cfg` (`[perfdoctor]`, `[perfdoctor:thresholds]`, `[perfdoctor:formats]`).
"""

from __future__ import annotations

import configparser
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfdoctor.errors import PerfdoctorError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KEYS = {"disable", "thresholds", "formats", "profiles"}


@dataclass(frozen=True)
class Settings:
    """What a project settled.

    Attributes:
        disable: rule codes or names. thresholds: name → number. path: the file read.
        formats: name → templates of log lines, see `perfdoctor analyze --pattern`.
        profiles: name → options of `bench`, written as in Python: `num_workers = 2`.
    """

    disable: frozenset[str] = frozenset()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    path: Path | None = None
    formats: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def with_profile(self, given: Mapping[str, Any], name: str | None) -> Mapping[str, Any]:
        """Options of `bench` with those of a profile where the command line gave none.

        Raises:
            PerfdoctorError: there is no such profile, or it has an option that does not exist.
        """
        if name is None:
            return given
        if name not in self.profiles:
            known = f"there are {', '.join(self.profiles)}" if self.profiles else "there are none"
            raise PerfdoctorError(
                f"no profile {name!r} in {self.path or 'the settings'}: {known}",
                slug="profile-unknown",
            )
        chosen = self.profiles[name]
        unknown = set(chosen) - set(given)
        if unknown:
            raise PerfdoctorError(
                f"{self.path}: profile {name!r} has no option {min(unknown)!r} of bench to set",
                slug="profile-unknown-option",
            )
        missing = {k: v for k, v in chosen.items() if given[k] in (None, False)}
        return {**given, **{k: (v,) if k in _LISTS else v for k, v in missing.items()}}


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
        thresholds = dict(_numbers(section.get("thresholds", {}), path))
        formats = {str(k): _templates(v) for k, v in dict(section.get("formats", {})).items()}
        disable = _disabled(section.get("disable", []), path)
        profiles = {str(k): dict(v) for k, v in dict(section.get("profiles", {})).items()}
        return Settings(disable, thresholds, path, formats, profiles)
    except (TypeError, ValueError):
        raise PerfdoctorError(
            f"{path}: disable must be a list of rules, thresholds a table of numbers, formats a "
            "table of templates or lists of them",
            slug="settings-wrong-type",
        ) from None


#: Options of `bench` that take several values.
_LISTS = ("batch_size", "num_workers", "prefetch_factor", "precision", "compile")


def _disabled(value: Any, path: Path) -> frozenset[str]:
    """Codes or names of rules. One text would be read letter by letter, so it is refused."""
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise PerfdoctorError(
            f"{path}: disable must be a list of codes or names, such as "
            f'["PD504", "slow-tail"], not {value!r}',
            slug="settings-wrong-type",
        )
    return frozenset(value)


def _numbers(value: Any, path: Path, owner: str = "") -> Iterator[tuple[str, float]]:
    """Name → number. TOML makes a table of `PD205.memory_share = 0.9` without quotes."""
    if not isinstance(value, Mapping):
        raise PerfdoctorError(
            f"{path}: thresholds must be a table of numbers, not {value!r}",
            slug="settings-wrong-type",
        )
    for key, inner in value.items():
        if isinstance(inner, Mapping) and not owner:
            yield from _numbers(inner, path, f"{key}.")
        else:
            yield f"{owner}{key}", _number(inner, f"{owner}{key}", path)


def _number(value: Any, name: str, path: Path) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise PerfdoctorError(
            f"{path}: threshold {name!r} must be a number, not {value!r}",
            slug="settings-wrong-type",
        )
    return number


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
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # PD205, not pd205
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
