"""Ranks of one training find each other: through small files in a hidden folder, nothing else.

Each rank leaves a mark when it begins and hands in its part when it ends. Nobody serves and
nobody listens; the folder has to be one that all ranks see. One rank takes all the parts:

- rank 0, once it has ended well; it waits a little for the others;
- where ranks fail, the lowest one that is left. The one that fails first does not wait: the
  others cannot end before it has, since they wait for it in a collective.

No numpy and no torch here: a rank is told apart before the script's first line.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from perfdoctor.errors import tell

PREFIX = ".perfdoctor-ranks-"
#: How long one rank waits for the others' parts, and after which time it says so.
PATIENCE_S, QUIET_S = 5.0, 1.0
_POLL_S = 0.02
#: Of other hosts nobody knows which processes live: their leftovers go after a week.
_OLD_S = 7 * 86400.0
#: Clocks of file servers and starts of ranks differ by no more.
_APART_S = 60.0
_LOCK, _ALONE = "merging", "report-of-one"
#: What a rank writes before its part: it has left, or it is there until all is merged.
_LEFT, _HERE = b"left", b"here"

#: Variables of the rank and of the number of ranks, by launcher; the first pair that is set counts.
_LAUNCHERS = (
    ("RANK", "WORLD_SIZE"),  # torchrun, accelerate, deepspeed
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),  # srun; a batch script itself has no step
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
)
#: What ranks of one training have in common and others have not.
_COMMON = (
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "OMPI_MCA_ess_base_jobid",
)


@dataclass(frozen=True)
class Place:
    """Which of how many ranks this process is; `group` is a name that all of them share."""

    rank: int
    world: int
    group: str


def place_of(environment: Mapping[str, str]) -> Place | None:
    """None for a process that trains alone, or whose launcher is not known."""
    for rank_name, world_name in _LAUNCHERS:
        rank, world = environment.get(rank_name, ""), environment.get(world_name, "")
        if rank.isdecimal() and world.isdecimal():
            return _place(int(rank), int(world), environment)
    if environment.get("SLURM_STEP_ID") and environment.get("SLURM_PROCID", "").isdecimal():
        world = environment.get("SLURM_NTASKS", "")
        if world.isdecimal():
            return _place(int(environment["SLURM_PROCID"]), int(world), environment)
    return None


def _place(rank: int, world: int, environment: Mapping[str, str]) -> Place | None:
    if world < 2 or rank >= world:
        return None
    common = [f"{name}={environment.get(name, '')}" for name in _COMMON]
    digest = hashlib.sha256("\n".join([*common, str(world)]).encode()).hexdigest()
    return Place(rank, world, digest[:12])


@dataclass(frozen=True)
class Mark:
    """What a rank leaves when it begins: the process, and when it was made."""

    host: str
    pid: int
    started_s: float

    @classmethod
    def mine(cls) -> Mark:
        """Of this process."""
        return cls(socket.gethostname(), os.getpid(), _started_s(os.getpid()) or 0.0)

    def to_bytes(self) -> bytes:
        """As `_read_mark` reads it."""
        return json.dumps(vars(self)).encode()

    @property
    def alive(self) -> bool | None:
        """Whether the process lives; None where nobody can tell, on another host."""
        if self.host != socket.gethostname():
            return None
        started_s = _started_s(self.pid)
        return started_s is not None and abs(started_s - self.started_s) < 1.0


def _started_s(pid: int) -> float | None:
    """When a process was made; None if there is none, or only what its parent has yet to see."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


@dataclass(frozen=True)
class Gathered:
    """All parts that were handed in, as bytes, and the ranks without one.

    Attributes:
        parts: of those without, what they handed in before the end, if they did.
        died: they began, and their process is gone. running: they go on, or nobody knows.
        absent: they never began.
    """

    parts: Mapping[int, bytes]
    died: tuple[int, ...] = ()
    running: tuple[int, ...] = ()
    absent: tuple[int, ...] = ()


def meet(environment: Mapping[str, str], folder: Path) -> Meeting | None:
    """This rank's side of the exchange; None for a process that is none of several ranks."""
    place = place_of(environment)
    if place is None:
        return None
    meeting = Meeting(place, folder)
    try:
        meeting.begin()
    except OSError as error:
        tell(f"the ranks cannot meet in {folder} ({error.strerror}): each reports for itself")
        return None
    return meeting


class Meeting:
    """One rank's side of the exchange. `folder` is where reports go, which all ranks see."""

    def __init__(
        self,
        place: Place,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.place = place
        self.home = folder / f"{PREFIX}{place.group}"
        self._clock, self._sleep = clock, sleep
        self._merges = False

    def begin(self) -> None:
        """Leaves this rank's mark, and clears away what earlier runs left.

        Raises:
            OSError: the folder cannot be written.
        """
        sweep(self.home.parent, keep=self.home.name)
        self.home.mkdir(exist_ok=True)
        self._remove_stale()
        for old in self._files(self.place.rank):
            old.unlink(missing_ok=True)
        self._write(self._mark(self.place.rank), Mark.mine().to_bytes())

    def hand_in(self, part: bytes, *, failed: bool, first: bool) -> Gathered | None:
        """Hands in this rank's part. All the parts for the rank that is to merge them, else None.

        Args:
            part: what the others should know of this rank.
            failed: whether it ended otherwise than it was meant to.
            first: whether it failed by an error of its own, and not because it was told to end.

        Raises:
            OSError: the folder cannot be written.
        """
        leaves = first and not self._trouble_before() and self._others_live()
        try:
            word = _LEFT if leaves else _HERE
            self._write(self._part(self.place.rank), word + b"\n" + part)
        except FileNotFoundError:  # another one has merged already, and cleared away
            return None
        may_merge = self._is_last() if leaves else self._is_to_merge(failed)
        self._merges = may_merge and self._lock()
        return self._gather() if self._merges else None

    def hand_in_partial(self, part: bytes) -> None:
        """What there is so far: it counts if this rank dies without handing in its part."""
        with suppress(OSError):
            self._write(self._partial(self.place.rank), part)

    def note_report(self, path: Path) -> None:
        """A report of this rank alone lies there until all is merged."""
        with suppress(OSError):
            self._write(self.home / _ALONE, os.fsencode(path))

    def remove_report(self) -> None:
        """All is merged: the report of one rank alone, if there is one, has had its day."""
        with suppress(OSError):
            Path(os.fsdecode((self.home / _ALONE).read_bytes())).unlink(missing_ok=True)

    def close(self) -> None:
        """If this rank has merged: nothing is left behind."""
        if not self._merges:
            return
        away = self.home.with_name(f"{self.home.name}.{os.getpid()}")
        with suppress(OSError):  # at once, so that a late rank finds nothing
            self.home = self.home.replace(away)
        shutil.rmtree(self.home, ignore_errors=True)

    # -- who merges ----------------------------------------------------------------------------

    def _is_last(self) -> bool:
        """All that fail at the same moment leave; whoever comes last sees all the others."""
        return all(self._accounted(rank) for rank in self._others())

    def _is_to_merge(self, failed: bool) -> bool:
        if not failed and self._lower_lives():
            return False
        return self._wait()

    def _wait(self) -> bool:
        """Until everyone is accounted for, or for a while; False if another rank merges."""
        end, told = self._clock() + PATIENCE_S, False
        while True:
            if not self.home.exists() or (self.home / _LOCK).exists() or self._lower_is_here():
                return False
            missing = [r for r in self._others() if not self._accounted(r)]
            now = self._clock()
            if not missing or now >= end:
                return True
            if not told and now >= end - PATIENCE_S + QUIET_S:
                told = True
                ranks = ", ".join(str(rank) for rank in missing)
                tell(f"waiting up to {PATIENCE_S:.0f} s for rank {ranks} to end")
            self._sleep(_POLL_S)

    def _lower_is_here(self) -> bool:
        """A lower rank that has handed in its part, and stays, merges."""
        return any(
            self._stays(rank) and self._lives(rank) is not False for rank in range(self.place.rank)
        )

    def _lower_lives(self) -> bool:
        """A lower rank that may yet end, and merge then."""
        return any(
            self._begun(rank) is not None and self._lives(rank) is not False
            for rank in range(self.place.rank)
            if not self._left(rank)
        )

    def _others_live(self) -> bool:
        return any(
            self._begun(rank) is not None
            and not self._part(rank).exists()
            and self._lives(rank) is not False
            for rank in self._others()
        )

    def _trouble_before(self) -> bool:
        """Another rank has failed, or died, before this one did."""
        return any(
            self._left(rank) or (not self._part(rank).exists() and self._lives(rank) is False)
            for rank in self._others()
        )

    def _accounted(self, rank: int) -> bool:
        return self._part(rank).exists() or self._lives(rank) is False

    def _lock(self) -> bool:
        try:
            with (self.home / _LOCK).open("xb") as file:
                file.write(Mark.mine().to_bytes())
        except OSError:
            return False
        return True

    # -- the files -------------------------------------------------------------------------------

    def _gather(self) -> Gathered:
        parts, died, running, absent = {}, [], [], []
        for rank in range(self.place.world):
            with suppress(OSError):
                parts[rank] = self._part(rank).read_bytes().partition(b"\n")[2]
                continue
            with suppress(OSError):
                parts[rank] = self._partial(rank).read_bytes()
            if self._begun(rank) is None:
                absent.append(rank)
            elif self._lives(rank) is False:
                died.append(rank)
            else:
                running.append(rank)
        return Gathered(parts, tuple(died), tuple(running), tuple(absent))

    def _others(self) -> list[int]:
        return [rank for rank in range(self.place.world) if rank != self.place.rank]

    def _mark(self, rank: int) -> Path:
        return self.home / f"rank-{rank}.begun"

    def _part(self, rank: int) -> Path:
        return self.home / f"rank-{rank}.part"

    def _partial(self, rank: int) -> Path:
        return self.home / f"rank-{rank}.partial"

    def _files(self, rank: int) -> list[Path]:
        return [self._part(rank), self._partial(rank), self._mark(rank)]

    def _begun(self, rank: int) -> Mark | None:
        return _read_mark(self._mark(rank))

    def _lives(self, rank: int) -> bool | None:
        """None where nobody can tell: on another host, or not begun yet."""
        mark = self._begun(rank)
        return None if mark is None else mark.alive

    def _stays(self, rank: int) -> bool:
        return self._first_word(rank) == _HERE

    def _left(self, rank: int) -> bool:
        return self._first_word(rank) == _LEFT

    def _first_word(self, rank: int) -> bytes:
        try:
            with self._part(rank).open("rb") as file:
                return file.readline(8).strip()
        except OSError:
            return b""

    def _remove_stale(self) -> None:
        """What an earlier run of the same name left: its processes are gone, or it is old."""
        merger = _read_mark(self.home / _LOCK)
        if merger is not None and merger.alive is False:
            (self.home / _LOCK).unlink(missing_ok=True)
        for rank in self._others():
            mine = [path for path in self._files(rank) if path.exists()]
            if self._lives(rank) is not True and all(_age_s(path) > _APART_S for path in mine):
                for path in mine:
                    path.unlink(missing_ok=True)

    def _write(self, path: Path, data: bytes) -> None:
        """The file is whole or not there."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def sweep(folder: Path, keep: str) -> None:
    """Removes what earlier runs left in `folder`: those whose processes are all gone."""
    for home in folder.glob(f"{PREFIX}*"):
        if home.name != keep and home.is_dir() and _is_leftover(home):
            shutil.rmtree(home, ignore_errors=True)


def _is_leftover(home: Path) -> bool:
    marks = [_read_mark(path) for path in home.glob("rank-*.begun")]
    lives = [mark.alive for mark in marks if mark is not None]
    if True in lives:
        return False
    return _age_s(home) > (_OLD_S if None in lives else _APART_S)


def _age_s(path: Path) -> float:
    """Since something in it was last written; 0 where it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _read_mark(path: Path) -> Mark | None:
    try:
        found = json.loads(path.read_bytes())
        return Mark(str(found["host"]), int(found["pid"]), float(found["started_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
