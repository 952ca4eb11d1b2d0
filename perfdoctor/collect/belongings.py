"""What an arm has started ends with it, also what has left its session (Linux).

The arm takes in orphans, so that all it has started stays below it; and its environment has a mark
that they inherit, so that they are found when it is there no longer. Elsewhere only its process
group is known.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: The variable that everything an arm has started inherits.
MARK = "PERFDOCTOR_ARM"
_SET_CHILD_SUBREAPER = 36  # prctl(2)
_PROC = Path("/proc")
#: They unlink shared memory once all who use it are gone, and end then.
_TIDYING = (b"multiprocessing.resource_tracker", b"torch_shm_manager")
_PATIENCE_S, _LOOK_S = 2.0, 0.01
#: Of this process; a script may change its environment.
_mark = os.environ.get(MARK, "")


def become_expendable() -> None:
    """Where memory is full the kernel is to end this process, or what it starts, and no other
    program of the user's (oom_score_adj in proc(5))."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def take_in_orphans(*, wanted: bool = True) -> None:
    """What this process's children leave behind becomes its own, and not the system's."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)


def take_note_of(group: int) -> None:
    """Waits for those of a group that have ended and were taken in: what they used of the processor
    is added to what this process's children have used."""
    with suppress(OSError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass


@dataclass(frozen=True)
class Started:
    """A process; `began` (clock ticks since the system's start) tells it from a later one of its
    number."""

    pid: int
    began: int


@dataclass(frozen=True)
class _Seen:
    parent: int
    group: int
    began: int


def started_by(pid: int, mark: str) -> frozenset[Started]:
    """What runs below a process, in its group or with its mark, without itself."""
    running = _running()
    below = {pid}
    while more := {p for p, seen in running.items() if seen.parent in below} - below:
        below |= more
    found = {p for p, seen in running.items() if p in below or seen.group == pid}
    found |= {p for p in running if p not in found and _is_marked(p, mark)}
    return frozenset(Started(p, running[p].began) for p in found - {pid, os.getpid()})


def end_all(pid: int, mark: str, known: Iterable[Started] = ()) -> None:
    """Ends all that a process has started, and what is known of it already.

    Resource trackers come last: what is left in shared memory is unlinked by them.
    """
    if not _are_seen():
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        return
    _end(pid, mark, known, spared=_TIDYING)
    _until_gone(pid, mark)
    _end(pid, mark, known, spared=())


def end_with_all() -> None:
    """Ends this process and all it has started; its resource trackers end by themselves then."""
    if _are_seen():
        _end(os.getpid(), _mark, (), spared=_TIDYING)
        os.kill(os.getpid(), signal.SIGKILL)
    os.killpg(os.getpid(), signal.SIGKILL)


def _are_seen() -> bool:
    return (_PROC / "self" / "stat").exists()


def _end(pid: int, mark: str, known: Iterable[Started], spared: tuple[bytes, ...]) -> None:
    """Until there are none: what is killed may have started another one just before."""
    give_up, known = time.monotonic() + _PATIENCE_S, frozenset(known)
    while True:
        found = [one for one in _there(pid, mark, known) if not _is(one.pid, spared)]
        for one in found:
            with suppress(OSError):
                os.kill(one.pid, signal.SIGKILL)
        if not found or time.monotonic() > give_up:
            return
        time.sleep(_LOOK_S)


def _until_gone(pid: int, mark: str) -> None:
    give_up = time.monotonic() + _PATIENCE_S
    while started_by(pid, mark) and time.monotonic() < give_up:
        time.sleep(_LOOK_S)


def _there(pid: int, mark: str, known: frozenset[Started]) -> frozenset[Started]:
    running = _running() if known else {}
    kept = {one for one in known if one.pid in running and running[one.pid].began == one.began}
    return started_by(pid, mark) | kept


def _running() -> dict[int, _Seen]:
    """All processes but those that have ended and are not waited for yet; see proc(5), stat."""
    found = {}
    for name in os.listdir(_PROC) if _are_seen() else ():  # noqa: PTH208 - names are numbers
        fields = _bytes(name, "stat").rpartition(b") ")[2].split() if name.isdigit() else []
        if fields and fields[0] not in b"ZX":
            found[int(name)] = _Seen(int(fields[1]), int(fields[2]), int(fields[19]))
    return found


def _is_marked(pid: int, mark: str) -> bool:
    return bool(mark) and f"{MARK}={mark}".encode() in _bytes(pid, "environ").split(b"\0")


def _is(pid: int, names: tuple[bytes, ...]) -> bool:
    line = _bytes(pid, "cmdline") if names else b""
    return any(name in line for name in names)


def _bytes(pid: int | str, name: str) -> bytes:
    try:
        return (_PROC / str(pid) / name).read_bytes()
    except OSError:  # gone, or another user's
        return b""
