"""Landlock: this process and its children may write below some folders only. See landlock(7)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_NO_NEW_PRIVS = 38
#: LANDLOCK_ACCESS_FS_*: WRITE_FILE, REMOVE_DIR, REMOVE_FILE, MAKE_* (seven of them).
_WRITING = 1 << 1 | 1 << 4 | 1 << 5 | sum(1 << bit for bit in range(6, 13))
_REFER, _TRUNCATE = 1 << 13, 1 << 14
#: What applies to a file that is not a folder.
_OF_FILES = 1 << 1 | _TRUNCATE
#: Programs write there and leave nothing: terminals, shared memory, the process's own settings.
DEVICES = ("/dev", "/proc")


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled", ctypes.c_uint64),)


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def available(*, alone: bool = False) -> bool:
    """Whether the kernel has it, and with renaming between folders (Linux 5.19).

    Args:
        alone: nothing else protects files, so that truncating by name has to be covered as well
            (Linux 6.2).
    """
    return _version() >= (3 if alone else 2)


def allow_writing(paths: Iterable[str]) -> None:
    """From now on, only below `paths`; everything may still be read.

    Raises:
        OSError: the kernel refuses.
    """
    handled = _WRITING | _REFER | (_TRUNCATE if _version() >= 3 else 0)
    rules = _syscall(_CREATE_RULESET, ctypes.byref(_Ruleset(handled)), ctypes.sizeof(_Ruleset), 0)
    try:
        for path in paths:
            _allow(rules, path, handled)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
        _syscall(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: str, handled: int) -> None:
    folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        allowed = handled if Path(path).is_dir() else handled & _OF_FILES
        rule = _Beneath(allowed, folder)
        _syscall(_ADD_RULE, rules, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(folder)


def _version() -> int:
    try:
        return _syscall(_CREATE_RULESET, None, 0, _VERSION)
    except (OSError, AttributeError):
        return 0


def _syscall(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock: {os.strerror(error)}")
    return result
