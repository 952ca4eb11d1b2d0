"""Copy-on-write over every folder, for this process alone: user and mount namespaces, overlayfs.

See user_namespaces(7), mount_namespaces(7) and the kernel's Documentation/filesystems/overlayfs.rst
(mounting without privileges needs Linux 5.11).
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_REC = 0x4000
_MS_PRIVATE = 1 << 18
_MS_READ_ONLY, _MS_NO_SUID, _MS_NO_DEV, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 32, 4096
_MS_STRICT_ATIME = 1 << 24
#: A mount's options (proc(5), mountinfo) → their flags (mount(2)); a mount that is not ours keeps
#: them when it is mounted anew, or the kernel refuses.
_FLAGS = {
    "ro": _MS_READ_ONLY,
    "nosuid": _MS_NO_SUID,
    "nodev": _MS_NO_DEV,
    "noexec": 8,
    "nosymfollow": 256,
    "noatime": 1024,
    "nodiratime": 2048,
    "relatime": 1 << 21,
}
#: Nobody keeps files there, and programs need them as they are (shared memory, devices).
LEFT_ALONE = ("/dev", "/proc", "/sys")
_SHARED_MEMORY = "/dev/shm"


def cover(scratch: Path, *, alone: bool = False) -> list[str]:
    """Covers all folders, into `scratch`, and returns their paths.

    Args:
        alone: nothing else protects what cannot be covered, so that it is made read-only.

    Raises:
        OSError: the kernel, or the container around us, does not allow it.
    """
    here = Path.cwd()
    _own_namespaces()
    try:
        covered = _all_covered(here, scratch)
        _cover_shared_memory(scratch)
        if alone:
            _close_rest(covered)
        return covered
    finally:
        _drop_capabilities()


def _all_covered(here: Path, scratch: Path) -> list[str]:
    folders = sorted(_folders("/", _mount_points()), key=lambda path: _is_below(scratch, [path]))
    covered = [path for path in folders if _covered(path, scratch)]  # scratch's own one at last
    os.chdir(here)  # the folder below the cover is still the current one
    if not _is_below(here, covered):
        raise OSError(f"{here} cannot be covered")
    return covered


def _cover_shared_memory(scratch: Path) -> None:
    """What is left there goes with the processes; files of the user's are seen, and stay.

    What is written stays in memory: on a disk, workers would take longer to hand over batches.
    """
    if not Path(_SHARED_MEMORY).is_dir():
        return
    place = scratch / "shared"
    with suppress(OSError):
        place.mkdir()
        _in_memory(place)
        _mirrored(_SHARED_MEMORY, place)


def _in_memory(place: Path) -> None:
    found = os.statvfs(_SHARED_MEMORY)
    size = f"size={found.f_blocks * found.f_frsize},mode=1777".encode()
    flags = _MS_NO_SUID | _MS_NO_DEV
    _call("mount", b"tmpfs", os.fsencode(place), b"tmpfs", flags, size)


def _close_rest(covered: list[str]) -> None:
    """Makes every file system read-only in which there is something that is not covered.

    Raises:
        OSError: the kernel refuses.
    """
    for path, options in _mounts().items():
        if path in covered or _is_below(path, list(LEFT_ALONE)) or "ro" in options:
            continue
        if path != "/" and _is_below(path, covered):  # hidden by what covers it
            continue
        flags = sum(_FLAGS.get(option, 0) for option in options)
        if not {"noatime", "relatime"} & set(options):
            flags |= _MS_STRICT_ATIME
        flags |= _MS_REMOUNT | _MS_BIND | _MS_READ_ONLY
        _call("mount", None, os.fsencode(path), None, flags, None)


def _is_below(path: str | Path, folders: list[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def _own_namespaces() -> None:
    user, group = os.getuid(), os.getgid()
    _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)


def _folders(path: str, points: set[str]) -> Iterator[str]:
    """The folders to cover: as large as possible, without other file systems inside.

    The kernel refuses to cover a folder in which mounts of its owner lie.
    """
    if path in LEFT_ALONE:
        return
    inside = any(point.startswith(path.rstrip("/") + "/") for point in points if point != path)
    if not inside:
        yield path
        return
    with os.scandir(path) as entries:
        folders = sorted(e.path for e in entries if e.is_dir(follow_symlinks=False))
    for folder in folders:
        yield from _folders(folder, points)


def _mount_points() -> set[str]:
    return set(_mounts())


def _mounts() -> dict[str, list[str]]:
    """Mount point → its options; of several at one place the last, which is seen."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {_unescaped(fields[4]): fields[5].split(",") for fields in lines}


def _unescaped(path: str) -> str:
    """Spaces and such are octal there (proc(5))."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _covered(path: str, scratch: Path) -> bool:
    """Covers one folder; False if its file system cannot be covered."""
    if any(mark in path for mark in ":,\\"):  # they separate overlayfs's options
        return False
    try:
        _mirrored(path, scratch / f"layer{len(list(scratch.iterdir()))}")
    except OSError:
        return False
    return True


def _mirrored(path: str, place: Path) -> None:
    """Lays a folder of changes over another one.

    Raises:
        OSError: its file system cannot be covered.
    """
    for part in ("written", "work"):
        (place / part).mkdir(parents=True)
    options = f"lowerdir={path},upperdir={place}/written,workdir={place}/work,userxattr"
    _call("mount", b"overlay", os.fsencode(path), b"overlay", 0, os.fsencode(options))


def _drop_capabilities() -> None:
    """In its namespace the process has all of them, and would pass where its user may not.

    capset(2), version 3 of the structures; root keeps what root has.
    """
    if os.getuid() == 0:
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    none = (ctypes.c_uint32 * 6)()
    _call("capset", ctypes.byref(header), ctypes.byref(none))


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    function = getattr(libc, name, None)
    if function is None:
        raise OSError(f"this system has no {name}")
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
