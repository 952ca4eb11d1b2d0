"""Memory that was freed: kept for the next array while there is little of it, else given back."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

#: Parameters of glibc's mallopt (malloc.h), and the largest arrays that it can keep.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 32 * 2**20
#: A process that holds less gives nothing back: it would only have to ask for it again.
_MUCH = 384 * 2**20


def keep_memory() -> None:
    """Asks the C library to keep what is freed.

    Of arrays above 128 KiB, glibc gives every page back at once, and a new page costs as much time
    as reading what fits on it. Elsewhere nothing is done.
    """
    library = _c_library()
    if library is not None:
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        library.mallopt(_TRIM_THRESHOLD, _MUCH)


def give_back_memory() -> None:
    """Asks the C library to let go of what is free, where the process holds much.

    Reading makes and frees many arrays of a megabyte; glibc keeps them for later, and a log of
    ten million lines would hold twice the memory that its records need. Elsewhere nothing is done.
    """
    if sys.platform == "linux" and _resident_bytes() > _MUCH:
        give_all_back()


def give_all_back() -> None:
    """The same however little it is, where nothing more is to be made: others may need it."""
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)


def _c_library() -> ctypes.CDLL | None:
    """glibc; None where there is another C library."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
