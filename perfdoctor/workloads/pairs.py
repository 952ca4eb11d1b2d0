"""Array files and the files beside them that hold their targets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perfdoctor.workloads.arrayfiles import (
    X_NAMES,
    Y_NAMES,
    Arrays,
    as_numpy,
    named,
    read_arrays,
)
from perfdoctor.workloads.kinds import DataFile, read_each, words

#: (path, reason)
Skipped = list[tuple[str, str]]


@dataclass(frozen=True)
class Source:
    """A file with samples, and the file beside it with their targets, if there is one."""

    x: DataFile
    y: DataFile | None = None

    def read(self) -> Arrays:
        """Raises what `read_arrays` raises."""
        held = read_arrays(self.x.path)
        if self.y is None:
            return held
        return replace(held, y=as_numpy(read_arrays(self.y.path).x))


def pair(files: Sequence[DataFile]) -> tuple[list[Source], Skipped]:
    """Joins `x_1.npy` with `y_1.npy`, `a.npy` with `a_label.npy`; the rest are samples alone.

    Where there are pairs, files without targets are skipped: they are something else.
    """
    samples: dict[Any, list[DataFile]] = defaultdict(list)
    targets: dict[Any, list[DataFile]] = defaultdict(list)
    for file in files:
        side = targets if named([file.path.stem], Y_NAMES) else samples
        side[_pair_key(file.path)].append(file)
    both = [key for key in samples if len(samples[key]) == len(targets.get(key, ())) == 1]
    if not both:
        return [Source(file) for file in files], []
    paired = {f for key in both for f in (samples[key][0], targets[key][0])}
    alone = [(str(f.path), "no targets beside it") for f in files if f not in paired]
    return [Source(samples[key][0], targets[key][0]) for key in both], alone


def _pair_key(path: Path) -> tuple[Path, tuple[str, ...]]:
    role = {*X_NAMES, *Y_NAMES}
    return path.parent, tuple(word for word in words(path.stem) if word not in role)


def read_sources(
    sources: Sequence[Source], *, strict: bool
) -> tuple[list[tuple[Source, Arrays]], Skipped]:
    """Reads every source; raises what `read_each` raises."""
    by_path = {source.x.path: source for source in sources}
    done, skipped = read_each(
        [source.x for source in sources], lambda path: by_path[path].read(), strict=strict
    )
    return [(by_path[file.path], held) for file, held in done], skipped
