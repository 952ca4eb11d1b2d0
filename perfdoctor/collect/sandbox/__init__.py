"""Runs other people's code so that none of their files change.

`enter` is called once, early, by a process that does nothing else. There are two ways:

`MOUNTS`: every folder is covered by a copy-on-write mount that only this process and its children
see: what they write, by whatever means, lands in a scratch folder, and they find it where they
wrote it. What cannot be covered cannot be written: by Landlock, and where there is none, or one
that does not know truncating, by being mounted read-only. Shared memory (/dev/shm) is covered too,
by a layer in memory. Needs user namespaces, which most containers forbid.

`REDIRECTED`: Landlock, which needs no privileges, lets this process and its children write below
the scratch folder and to devices alone; what they write through Python goes to the scratch folder,
and Python finds it there. Its limits:

- Other code (C, C++ and Rust libraries, programs that are started) sees the files as they were,
  and gets EACCES where it writes outside of the temporary folder, which is in the scratch folder.
  `torch.save`, `torch.load`, sqlite3 and safetensors are redirected. Python that is started as a
  program of its own is other code; processes of `multiprocessing` are not.
- Landlock has no rights for permissions, owners, times and extended attributes: other code could
  change these of the user's files by name, though not what is in them.
- A user's file is copied whole when it is first opened for changing; a large database is not, and
  can only be read.
- The caches of compilers are in the scratch folder, and begin empty.

Where there is neither, nothing is run.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from perfdoctor.collect.sandbox import landlock, overlay, uploads
from perfdoctor.collect.sandbox.scratch import hold, remove, scratch_folder
from perfdoctor.errors import PerfdoctorError

__all__ = ["MOUNTS", "REDIRECTED", "SILENT_TRACKERS", "enter", "remove", "scratch_folder"]

#: So that uploads of common trackers do not happen: each one's own switch. Aim has none.
SILENT_TRACKERS = {
    "WANDB_MODE": "disabled",
    "COMET_START_ONLINE": "false",  # read by `comet_ml.start`
    "COMET_MODE": "disabled",  # read by transformers
    "NEPTUNE_MODE": "offline",
    "CLEARML_OFFLINE_MODE": "1",
    "SWANLAB_MODE": "disabled",
    "DVCLIVE_TEST": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


#: The two ways, see above.
MOUNTS, REDIRECTED = "mounts", "redirected"
#: What finds its files by name in C++ must not have them in two places.
_CACHES = {
    "TMPDIR": "tmp",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "TORCH_EXTENSIONS_DIR": "extensions",
}


def enter(scratch: Path) -> str:
    """Protects all files from this process and its later children; returns in which way.

    Only for a process without other threads, which user namespaces and Landlock demand. Devices
    (/dev) stay as they are, and without private mounts so does shared memory.

    Raises:
        PerfdoctorError: this machine allows neither way.
    """
    scratch = scratch.resolve()
    hold(scratch.parent)
    os.environ.update(SILENT_TRACKERS | {"MLFLOW_TRACKING_URI": f"file:{scratch}/mlruns"})
    uploads.leave_out()
    try:
        covered = overlay.cover(scratch, alone=not landlock.available(alone=True))
        if landlock.available():
            landlock.allow_writing([*covered, *landlock.DEVICES])
    except OSError as error:
        _enter_redirected(scratch, error)
        return REDIRECTED
    return MOUNTS


def _enter_redirected(scratch: Path, why: OSError) -> None:
    from perfdoctor.collect.sandbox import redirect

    try:
        if not landlock.available(alone=True) or _has_threads():  # other threads would be free
            raise why
        landlock.allow_writing([str(scratch), *landlock.DEVICES])
    except OSError as error:
        raise PerfdoctorError(
            f"the files here cannot be protected from the script, so it is not run again: {error}; "
            "that needs Linux 5.11 or newer and a container that allows user namespaces, or Linux "
            "6.2 or newer with Landlock",
            slug="no-sandbox",
        ) from error
    for name, folder in _CACHES.items():
        (scratch / folder).mkdir()
        os.environ[name] = f"{scratch}/{folder}"
    tempfile.tempdir = None
    redirect.install(str(scratch))


def _has_threads() -> bool:
    return sum(1 for _ in Path("/proc/self/task").iterdir()) > 1
