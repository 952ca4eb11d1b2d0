"""Whether there is room for what a script writes while it is tried."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

#: Processes of a script that may write at a time: the trials' own, and those of a pair.
_PROCESSES = 3
#: Below so much a few checkpoints of a usual model fill it. [own]
_LITTLE_BYTES = 1 << 30
_IN_MEMORY = ("tmpfs", "ramfs")


def size_bytes(folder: Path) -> int:
    """What is in a folder, as it takes room; links are not followed."""
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # gone meanwhile
                found += os.lstat(f"{place}/{name}").st_blocks * 512
    return found


def free_bytes(folder: Path) -> int:
    """What can still be written there; a folder in memory takes it from everything else."""
    free = shutil.disk_usage(folder).free
    if _file_system(folder) not in _IN_MEMORY:
        return free
    import psutil

    return min(free, int(psutil.virtual_memory().available))


def little_room(folder: Path) -> str | None:
    """A line about a place with next to no room, before anything is written to it."""
    free = free_bytes(folder)
    return None if free >= _LITTLE_BYTES else f"{_place(folder)} has {_size(free)} left: {_WAY_OUT}"


def too_little_room(folder: Path, observed_s: float, budget_s: float) -> str | None:
    """Why trials of this length are not begun, after what the observed run has written there."""
    written = size_bytes(folder)
    needed = int(_PROCESSES * written * max(1.0, budget_s / max(1.0, observed_s)))
    free = free_bytes(folder) + written
    if needed <= free:
        return None
    return (
        f"nothing is tried, since the script would write up to {_size(needed)} meanwhile, and "
        f"{_place(folder)} has {_size(free)} left: {_WAY_OUT}"
    )


_WAY_OUT = "let TMPDIR name a folder with more room"


def _place(folder: Path) -> str:
    in_memory = _file_system(folder) in _IN_MEMORY
    return f"{folder.parent} (in memory)" if in_memory else str(folder.parent)


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= _LITTLE_BYTES else f"{count >> 20} MiB"


def _file_system(folder: Path) -> str:
    """Its kind, as the kernel calls it (proc(5), mounts); empty where that is not known."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    mounts = {fields[1]: fields[2] for fields in map(str.split, lines)}
    for place in (folder.resolve(), *folder.resolve().parents):
        if str(place) in mounts:
            return mounts[str(place)]
    return ""
