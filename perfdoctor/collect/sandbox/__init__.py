"""Runs other people's code so that none of their files change.

`enter` is called once, early, by a process that does nothing else. Every folder is then covered by
a copy-on-write mount that only this process and its children see: what they write, by whatever
means, lands in a scratch folder, and they find it where they wrote it. What cannot be covered
cannot be written. Where the kernel, or a container, does not allow this, nothing is run.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from perfdoctor.collect.sandbox import landlock, overlay
from perfdoctor.errors import PerfdoctorError

#: So that uploads of common trackers do not happen: each one's own documented switch.
SILENT_TRACKERS = {
    "WANDB_MODE": "disabled",
    "COMET_MODE": "disabled",
    "NEPTUNE_MODE": "offline",
    "CLEARML_OFFLINE_MODE": "1",
    "SWANLAB_MODE": "disabled",
    "AIM_TRACKING_DISABLED": "1",
    "DVCLIVE_TEST": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def enter(scratch: Path) -> None:
    """Protects all files from this process and its later children.

    Only for a process without other threads, which user namespaces demand. Shared memory and
    devices (/dev) stay as they are.

    Raises:
        PerfdoctorError: this machine does not allow it.
    """
    os.environ.update(SILENT_TRACKERS | {"MLFLOW_TRACKING_URI": f"file:{scratch}/mlruns"})
    try:
        covered = overlay.cover(scratch)
        if landlock.available():
            landlock.allow_writing([*covered, *landlock.DEVICES])
    except OSError as error:
        raise PerfdoctorError(
            f"the files here cannot be protected from the script, so it is not run again: {error}; "
            "that needs Linux 5.11 or newer, and a container that allows user namespaces",
            slug="no-sandbox",
        ) from error


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for what experiments write; gone afterwards, whatever is in it."""
    folder = Path(tempfile.mkdtemp(prefix="perfdoctor-scratch-"))
    try:
        yield folder
    finally:
        remove(folder)


def remove(folder: Path) -> None:
    """Removes the folder, closed subfolders (an overlay's work folder is one) included."""
    shutil.rmtree(folder, onerror=_opened_first)


def _opened_first(again: Callable[..., Any], path: str, _: Any) -> None:
    place = Path(path)
    for closed in (place.parent, place):
        with suppress(OSError):
            closed.chmod(stat.S_IRWXU)
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    elif os.path.lexists(path):
        again(path)
