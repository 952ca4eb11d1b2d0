"""Memory that ran out, as PyTorch, NumPy, Python and the system tell. Never imports torch."""

from __future__ import annotations

import re

from perfdoctor.errors import PerfdoctorError

#: The slug where memory ran out. The other one: it did, but where more was held than one training,
#: so that it says nothing of a change.
OUT_OF_MEMORY, NO_ROOM = "out-of-memory", "no-room"

_SAID = re.compile(
    r"(?:CUDA|HIP|XPU|MPS backend|CUDA error:|HIP error:) out of memory|\w*OutOfMemoryError"
    r"|\b_?(?:Array)?MemoryError\b|can't allocate memory|not enough memory|Cannot allocate memory"
    r"|std::bad_alloc|CU(?:BLAS|DNN)_STATUS_ALLOC_FAILED"
)
#: torch's SIGCHLD handler (torch/utils/data/_utils/signal_handling.py, DataLoader.cpp): what the
#: kernel does to a worker where memory is full, and what happens where /dev/shm is.
_WORKER_KILLED = re.compile(r"DataLoader worker \(pid .*is killed by signal: (?:Killed|Bus error)")


def said(text: str) -> bool:
    """Whether an error's text says that memory ran out."""
    return bool(_SAID.search(text) or _WORKER_KILLED.search(text))


def ran_out(error: BaseException) -> bool:
    """Whether this error says so."""
    if isinstance(error, MemoryError) or getattr(error, "slug", None) == OUT_OF_MEMORY:
        return True
    return said(f"{type(error).__name__}: {error}")


def no_room(what: str) -> PerfdoctorError:
    """The error where it ran out because there is more than one of something."""
    return PerfdoctorError(f"memory would not do for {what} beside each other", slug=NO_ROOM)
