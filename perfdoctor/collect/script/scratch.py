"""The private folder that workers write to, and those that killed runs have left behind."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_NAME = re.compile(r"perfdoctor-run-(\d+)-(\d+)-")


def make_scratch(place: Path | None = None) -> Path:
    """A new folder, in the system's place for such things by default. Removes what runs of this
    user have left there whose process is gone.

    Raises:
        OSError: it cannot be made.
    """
    prefix = f"perfdoctor-run-{os.getpid()}-{_namespace()}-"
    scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    with suppress(OSError):
        for folder in scratch.parent.glob("perfdoctor-run-*"):
            if _is_left_over(folder):
                shutil.rmtree(folder, ignore_errors=True)
    return scratch


def is_alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _is_left_over(folder: Path) -> bool:
    found = _NAME.match(folder.name)
    if found is None or int(found[2]) != _namespace():  # of a container, which counts by itself
        return False
    mine = folder.stat().st_uid == os.getuid() if hasattr(os, "getuid") else True
    return mine and not is_alive(int(found[1]))


def _namespace() -> int:
    """Processes are numbered within it."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0
