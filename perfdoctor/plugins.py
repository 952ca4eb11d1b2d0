"""Extensions from other packages, found through entry points."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

RULES = "perfdoctor.rules"
READERS = "perfdoctor.readers"


@dataclass(frozen=True)
class Loaded:
    """What one group of entry points gave: the objects, and a line for each that failed."""

    objects: tuple[Any, ...]
    problems: tuple[str, ...]


def load(group: str) -> Loaded:
    """Loads every entry point of `group`; one that fails to import is reported, not raised."""
    objects, problems = [], []
    for entry in entry_points(group=group):
        try:
            objects.append(entry.load())
        except Exception as error:  # another package's import may raise anything
            problems.append(f"{group} entry point {entry.name!r} failed to load: {error}")
    return Loaded(tuple(objects), tuple(problems))
