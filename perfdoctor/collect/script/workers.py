"""The parent's side of observing DataLoader workers: puts the observation in, reads what it saw.

Each worker writes a file of fixed size into a private folder. Files of workers that have ended
are folded and deleted whenever an iterator is made, so there are never many.
"""

from __future__ import annotations

import copy
import functools
import inspect
import os
import shutil
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from perfdoctor.collect.script import worker_side
from perfdoctor.collect.script.in_process import observe_fetcher, restore_fetcher
from perfdoctor.collect.script.scratch import is_alive, make_scratch
from perfdoctor.collect.script.stacks import Sampled
from perfdoctor.collect.script.worker_records import SIZE_BYTES, Tally
from perfdoctor.collect.script.worker_side import Site
from perfdoctor.collect.script.worker_stacks import StackTotals, read_stacks
from perfdoctor.collect.script.worker_totals import (
    LoaderObserved,
    LoaderTotals,
    WorkerFile,
    read_record,
)

__all__ = ["LoaderObserved", "WorkerWatch", "supported"]

#: torch's worker loop: the name until 2.13, then the one on its main branch since.
_LOOPS = ("_worker_loop", "_process_worker_loop")
_FETCHERS = ("_MapDatasetFetcher", "_IterableDatasetFetcher")
#: Files of workers whose loader nobody named, before they are deleted.
_STRANGERS = 16
_clock = time.perf_counter_ns
_T = TypeVar("_T")


def supported() -> bool:
    """Whether torch's loader is built as expected; imports torch."""
    return _loop_name() is not None


def _loop_name() -> str | None:
    """The name under which torch looks its worker loop up; the one place that knows torch."""
    try:
        worker = import_module(worker_side.WORKER_MODULE)
        dataloader = import_module("torch.utils.data.dataloader")
        fetch = import_module("torch.utils.data._utils.fetch")
        name = next(n for n in _LOOPS if hasattr(worker, n))
        known = inspect.signature(getattr(worker, name)).parameters
        expected = (
            all(argument in known for argument in worker_side.NEEDED),
            dataloader._utils.worker is worker,
            dataloader._DatasetKind.Iterable == worker_side.ITERABLE,
            import_module("torch._utils").ExceptionWrapper,
            all(hasattr(getattr(fetch, f), "fetch") for f in _FETCHERS),
        )
    except (ImportError, AttributeError, StopIteration, TypeError, ValueError):
        return None
    return name if all(expected) else None


@dataclass(frozen=True)
class _Expected:
    """A worker process whose file will come, or has."""

    loader: int
    iterator: int
    began_ns: int


class WorkerWatch:
    """Observes the DataLoader workers that this process starts while it is installed.

    Raises nothing: what cannot be done is told to `warn` in one line, and not done. `folder` is
    where the scratch folder is made, the system's place for such things by default.
    """

    def __init__(
        self, folder: Path | None = None, warn: Callable[[str], None] | None = None
    ) -> None:
        self._place = folder
        self._warn = warn or _to_stderr
        self._pid = os.getpid()
        self._scratch: Path | None = None
        self._loop: str | None = None
        self._expected: dict[int, list[_Expected]] = {}
        self._loaders: dict[int, LoaderTotals] = {}
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()
        self._fetchers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._tallies: dict[int, tuple[Tally, bytearray]] = {}
        self._folded_stacks: dict[int, StackTotals] = {}
        self._stacks: dict[int, StackTotals] = {}

    @property
    def scratch(self) -> Path | None:
        """The private folder, from `install` until `close`."""
        return self._scratch

    def install(self) -> bool:
        """From now on workers are observed; whether that can be. Imports torch."""
        if self._loop is not None:
            return True
        name = _loop_name()
        if name is None:
            self._warn("DataLoader workers are not observed: this torch is not as expected")
            return False
        try:
            if self._scratch is None:
                self._scratch = make_scratch(self._place)
        except OSError as error:
            self._warn(f"DataLoader workers are not observed: no scratch folder ({error})")
            return False
        worker = import_module(worker_side.WORKER_MODULE)
        self._loop = name
        worker_side.originals[name] = getattr(worker, name)
        site = Site(name, str(self._scratch), self._pid)
        setattr(worker, name, functools.partial(worker_side.observed_worker_loop, site))
        return True

    def uninstall(self) -> None:
        """Workers started from now on are not observed, nor what runs in this process."""
        if self._loop is None:
            return
        name, self._loop = self._loop, None
        worker = import_module(worker_side.WORKER_MODULE)
        if getattr(getattr(worker, name), "func", None) is worker_side.observed_worker_loop:
            setattr(worker, name, worker_side.originals.pop(name))
        for fetcher in list(self._fetchers):
            restore_fetcher(fetcher)

    def close(self) -> None:
        """Uninstalls, and removes the scratch folder. What was collected stays."""
        if os.getpid() != self._pid:
            return
        self._guarded(self.uninstall)
        self._guarded(functools.partial(self._fold, last=True))
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def note_iterator(self, iterator: Any, loader_index: int, took_s: float) -> None:
        """`iter(loader)` gave this, after so many seconds."""
        took_ns = int(took_s * 1e9)
        began_ns = _clock() - took_ns
        if self._loop is not None and os.getpid() == self._pid:
            self._guarded(functools.partial(self._note, iterator, loader_index, began_ns, took_ns))

    def collect(self) -> dict[int, LoaderObserved]:
        """What was seen so far, by the loader's index; workers that still run included."""
        return self._guarded(self._collect) or {} if os.getpid() == self._pid else {}

    def _guarded(self, call: Callable[[], _T]) -> _T | None:
        try:
            return call()
        except Exception as error:
            self._warn(
                f"DataLoader workers are no longer observed ({type(error).__name__}: {error})"
            )
            self.uninstall()
            return None

    def _note(self, iterator: Any, loader_index: int, began_ns: int, took_ns: int) -> None:
        if loader_index not in self._loaders:
            self._loaders[loader_index] = LoaderTotals()
        loader = self._loaders[loader_index]
        if iterator in self._known:  # persistent workers begin another epoch
            loader.epochs += 1
            return
        self._known.add(iterator)
        number = loader.begin(began_ns, took_ns)
        self._fold()
        for process in getattr(iterator, "_workers", ()):
            pid = getattr(process, "pid", 0)  # a process of long ago may have had the same one
            before = self._expected.get(pid, [])[-1:]
            self._expected[pid] = [*before, _Expected(loader_index, number, began_ns)]
        fetcher = getattr(iterator, "_dataset_fetcher", None)
        if fetcher is not None:
            self._observe_here(fetcher, loader_index)

    def _collect(self) -> dict[int, LoaderObserved]:
        self._fold()
        loaders, self._stacks = copy.deepcopy((self._loaders, self._folded_stacks))
        for path in self._files():
            self._add(path, _read(path), loaders, self._stacks)
        for index, (_, buffer) in self._tallies.items():
            found = read_record(buffer)
            if found is not None and index in loaders:
                loaders[index].add(found, None)
        return {index: loader.observed() for index, loader in loaders.items()}

    def sampled(self) -> dict[int, list[Sampled]]:
        """Where the workers' time went by line; labels are those of `worker_records`.

        As of the last `collect` or `close`, and at most some seconds older for workers that ran.
        """
        return {index: stacks.sampled() for index, stacks in self._stacks.items()}

    # -- workers -----------------------------------------------------------------------------

    def _files(self) -> list[Path]:
        if self._scratch is None:
            return []
        with suppress(OSError):
            return sorted(self._scratch.glob(f"*{worker_side.BATCHES}"))
        return []

    def _fold(self, *, last: bool = False) -> None:
        """Takes in the files of workers that have ended (all, if `last`) and deletes them."""
        strangers: list[Path] = []
        for path in self._files():
            found = _read(path)
            finished = found is not None and found.header["finished"]
            if not (last or finished) and is_alive(int(path.name.partition("-")[0])):
                continue
            if self._add(path, found, self._loaders, self._folded_stacks):
                _delete(path)
            else:
                strangers.append(path)
        for path in strangers[_STRANGERS:]:
            _delete(path)
        if last:
            self._stacks = self._folded_stacks

    def _add(
        self,
        path: Path,
        found: WorkerFile | None,
        loaders: dict[int, LoaderTotals],
        stacks: dict[int, StackTotals],
    ) -> bool:
        """Whether this is of a worker of a loader that was named."""
        expected = None if found is None else self._owner(found)
        if found is None or expected is None:
            return False
        loaders[expected.loader].add(found, expected.iterator)
        seen = read_stacks(path.with_suffix(worker_side.STACKS))
        stacks.setdefault(expected.loader, StackTotals()).add(seen)
        return True

    def _owner(self, found: WorkerFile) -> _Expected | None:
        """The iterator that the worker served: the latest one that began before it."""
        known = self._expected.get(found.header["pid"])
        if not known:
            return None
        entered_ns = found.header["entered_ns"]
        return next((e for e in reversed(known) if e.began_ns <= entered_ns), known[0])

    # -- without workers ---------------------------------------------------------------------

    def _observe_here(self, fetcher: Any, index: int) -> None:
        if index not in self._tallies:
            buffer = bytearray(SIZE_BYTES)
            self._tallies[index] = (Tally(buffer, 0, _clock()), buffer)
        observe_fetcher(fetcher, self._tallies[index][0])
        self._fetchers.add(fetcher)


def _read(path: Path) -> WorkerFile | None:
    try:
        return read_record(path.read_bytes())
    except OSError:
        return None


def _delete(path: Path) -> None:
    for file in (path, path.with_suffix(worker_side.STACKS)):
        with suppress(OSError):
            file.unlink()


def _to_stderr(text: str) -> None:
    print(f"perfdoctor: {text}", file=sys.stderr)  # noqa: T201
