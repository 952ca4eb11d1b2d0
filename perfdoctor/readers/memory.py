"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back_memory() -> None:
    """Asks the C library to let go of what is free.

    Reading makes and frees many arrays of a megabyte; glibc keeps them for later, and a log of
    ten million lines would hold twice the memory that its records need. Elsewhere nothing is done.
    """
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # another C library
        return
