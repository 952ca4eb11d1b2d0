"""Whether both revisions ask for the same packages: they run in one environment without --setup."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from perfdoctor.errors import tell
from perfdoctor.gate.worktrees import Checkout

#: What says which packages there are, and the patterns of its names; then what installs them.
_INSTALLED_BY = (
    ("requirements*.txt", "pip install -r {name}"),
    ("requirements/*.txt", "pip install -r {name}"),
    ("pyproject.toml", "pip install -e ."),
    ("setup.py", "pip install -e ."),
    ("setup.cfg", "pip install -e ."),
    ("uv.lock", "uv sync --active --inexact"),
    ("poetry.lock", "poetry install"),
    ("pdm.lock", "pdm install"),
    ("Pipfile.lock", "pipenv sync"),
)


def differing(before: Checkout, after: Checkout, below: Path, setup: str | None) -> Iterator[str]:
    """A note where they do not, and `setup` installs nothing; told at once, too."""
    if setup is not None:
        return
    found = dict(_differing(before, after, below))
    if not found:
        return
    names = ", ".join(found)
    differ = "differs" if len(found) == 1 else "differ"
    note = (
        f"{names} {differ} between the two revisions, and both ran in the one environment that is "
        f"here; --setup '{next(iter(found.values()))}' gives each side its own."
    )
    tell(note)
    yield note


def _differing(before: Checkout, after: Checkout, below: Path) -> Iterator[tuple[str, str]]:
    """(file, what installs it), of the top folder and of the one that is measured."""
    for folder in dict.fromkeys((below, Path())):
        for pattern, command in _INSTALLED_BY:
            for name in _names(pattern, before.at(folder), after.at(folder)):
                if _read(before.at(folder) / name) != _read(after.at(folder) / name):
                    yield str(folder / name), command.format(name=name)


def _names(pattern: str, *folders: Path) -> list[str]:
    return sorted({str(file.relative_to(root)) for root in folders for file in root.glob(pattern)})


def _read(file: Path) -> bytes | None:
    """Without ends of lines, which git may have changed."""
    try:
        return file.read_bytes().replace(b"\r\n", b"\n")
    except OSError:
        return None
