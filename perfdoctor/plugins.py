"""Extensions from other packages, found through entry points."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

RULES = "perfdoctor.rules"
READERS = "perfdoctor.readers"


@dataclass(frozen=True)
class Loaded:
    """What one group of entry points gave: the objects, and a line for each that failed."""

    objects: tuple[Any, ...]
    problems: tuple[str, ...]


def entry_points(*, group: str) -> Sequence[EntryPoint]:
    """Those of all packages that can be imported.

    `importlib.metadata` is asked only where there may be some: importing it takes four times as
    long as a look into the files that it would read, which name no group of ours most often.
    """
    if not any(_may_name_ours(Path(folder)) for folder in sys.path) and not _other_finders():
        return ()
    from importlib import metadata

    return tuple(metadata.entry_points(group=group))


def _may_name_ours(folder: Path) -> bool:
    """What lies in an archive or in an egg is not looked at: it may."""
    try:
        return any(_names_ours(path) for path in _metadata(folder))
    except NotADirectoryError:
        return True
    except OSError:
        return False


def _metadata(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((".dist-info", ".egg-info", ".egg")):
                yield entry.path


def _names_ours(path: str) -> bool:
    if path.endswith(".egg"):
        return True
    try:
        return b"[perfdoctor." in Path(path, "entry_points.txt").read_bytes()
    except OSError:  # it has none
        return False


def _other_finders() -> bool:
    """Whether packages are found in another way than on `sys.path`."""
    return sum(hasattr(finder, "find_distributions") for finder in sys.meta_path) > 1


def load(group: str) -> Loaded:
    """Loads every entry point of `group`; one that fails to import is reported, not raised."""
    objects, problems = [], []
    for entry in entry_points(group=group):
        try:
            objects.append(entry.load())
        except Exception as error:  # another package's import may raise anything
            problems.append(f"{group} entry point {entry.name!r} failed to load: {error}")
    return Loaded(tuple(objects), tuple(problems))
