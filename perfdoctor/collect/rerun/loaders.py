"""Gives the script's loop batches from another DataLoader than its own, for as long as wanted.

Every iterator of a DataLoader stands behind a switch. Once a mode has a loader of its own, the
training loop gets its batches from twins: the same dataset, sampler and collate_fn, with the
settings of the mode, or with its own where none is on. Epochs keep their length, and each twin has
epochs of its own, so that neither side pays for what the other has left unread. The workers of
whoever is not asked stand still (SIGSTOP), so that they neither fill their queue for later nor take
the other's cores.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import os
import signal
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol

from perfdoctor.collect.script.state import samples_in
from perfdoctor.errors import PerfdoctorError

SETTINGS = ("num_workers", "prefetch_factor", "persistent_workers", "pin_memory", "batch_size")
REPLAYED_BATCHES = 8


class Source(Protocol):
    """Where batches come from while a mode is on."""

    def next(self) -> Any:
        """The next batch; it never ends."""

    def pids(self) -> list[int]:
        """Its workers."""


class Switches:
    """All iterators of the script's DataLoaders, and where the training's batches come from.

    Attributes:
        training: the number of the training's loader, once it is known, and loader the script's
            latest one of that number. source: where its batches
            come from while a mode is on. usual: where else; None: from its own iterators.
            prolonged: epochs that train on batches of a source do not end. steps: made so far.
        epochs, samples: begun and given so far, the twins' included. own_epochs: begun by the
            script alone; starting_s: what the twins took to begin theirs.
        epoch_steps: batches after which an epoch of the training ends; None: at its own end.
        is_short: whether a loop over this loader is to see its first batch only.
    """

    def __init__(self, number_of: Callable[[Any], int]) -> None:
        self._number_of = number_of
        self._arguments: weakref.WeakKeyDictionary[Any, dict[str, Any]]
        self._arguments = weakref.WeakKeyDictionary()
        self._opened: weakref.WeakSet[Switch] = weakref.WeakSet()
        self._iterate: Callable[[Any], Any] = iter
        self.loader: Any = None
        self.training: int | None = None
        self.source: Source | None = None
        self.usual: Source | None = None
        self.prolonged = False
        self.epoch_steps: int | None = None
        self.is_short: Callable[[Any], bool] = lambda loader: False
        self.steps = 0
        self.epochs = self.samples = self.own_epochs = 0
        self.starting_s = 0.0

    def install(self, torch: Any) -> None:
        """Puts the switches in place. After the observer's own wrappers, which stay inside."""
        loader = torch.utils.data.DataLoader
        make, self._iterate = loader.__init__, loader.__iter__
        signature, known = inspect.signature(make), self._arguments

        def made(loader_self: Any, *args: Any, **kwargs: Any) -> None:
            with suppress(TypeError):  # wrong arguments: torch says so itself
                bound = signature.bind(loader_self, *args, **kwargs)
                known[loader_self] = dict(list(bound.arguments.items())[1:])
            make(loader_self, *args, **kwargs)

        loader.__init__ = functools.wraps(make)(made)
        loader.__iter__ = lambda loader_self: Switch(self, loader_self)

    def opened(self, switch: Switch, loader: Any) -> int:
        """A loop begins to go over a loader; its number."""
        self._opened.add(switch)
        number = self._number_of(loader)
        if number == self.training:
            self.loader = loader
            self.epochs += 1
            self.own_epochs += 1
        return number

    def iterate(self, loader: Any) -> Any:
        """The iterator that the script would have got."""
        kept = getattr(loader, "_iterator", None)  # persistent workers have to answer
        send(signal.SIGCONT, worker_pids(kept))
        return self._iterate(loader)

    def source_for(self, number: int) -> Source | None:
        """Where its batches come from now; None: from its own loader."""
        return (self.source or self.usual) if number == self.training else None

    def load_by_twins(self, loader: Any) -> None:
        """From now on, where no mode is on either; an iterable dataset ends by itself."""
        if self.usual is None and length_of(loader) is not None:
            self.usual = self.twin(loader, {})

    def twin(self, loader: Any, changes: Mapping[str, Any], dataset: Any = None) -> Twin:
        """As `remade`, without an end."""
        return Twin(self.remade(loader, changes, dataset), self)

    def remade(self, loader: Any, changes: Mapping[str, Any], dataset: Any = None) -> Any:
        """The same loader with other settings.

        Raises:
            PerfdoctorError: it was made in a way that cannot be repeated.
        """
        given = self._arguments.get(loader)
        if given is None:
            raise PerfdoctorError("the script's loader cannot be made again", slug="no-twin")
        return type(self)._base(loader)(**twin_arguments(given, changes, dataset))

    @staticmethod
    def _base(loader: Any) -> Any:
        """torch's own class: what derives from it may take other arguments."""
        return next(k for k in type(loader).__mro__ if k.__module__.startswith("torch.utils.data"))

    def own_pids(self) -> list[int]:
        """The workers of the script's own loaders."""
        return [pid for switch in self._opened for pid in switch.pids()]

    def still(self) -> None:
        """All workers stand still."""
        send(signal.SIGSTOP, [*self.own_pids(), *self._source_pids()])

    def go(self) -> None:
        """Those go on that are asked for batches now: validation's too, whoever trains."""
        own = [s for s in self._opened if self.source_for(s.number) is None]
        send(signal.SIGCONT, [*(pid for s in own for pid in s.pids()), *self._source_pids()])

    def _source_pids(self) -> list[int]:
        source = self.source or self.usual
        return source.pids() if source else []


def twin_arguments(
    given: Mapping[str, Any], changes: Mapping[str, Any], dataset: Any = None
) -> dict[str, Any]:
    """What the twin is made of: as given, changed, and without what does not go together."""
    found = dict(given) | {name: changes[name] for name in SETTINGS if name in changes}
    if dataset is not None:
        found["dataset"] = dataset
    if "batch_size" in changes and given.get("batch_sampler") is not None:
        raise PerfdoctorError(
            "the batch size is the script's own sampler's: it cannot be changed from outside",
            slug="own-batch-sampler",
        )
    if not found.get("num_workers"):
        for name in ("prefetch_factor", "persistent_workers", "timeout", "worker_init_fn"):
            found.pop(name, None)
        found.pop("multiprocessing_context", None)
    return found


def send(what: signal.Signals, pids: list[int]) -> None:
    """A signal to workers that may have ended meanwhile."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, what)


class Switch:
    """The iterator that the script's loop gets."""

    def __init__(self, switches: Switches, loader: Any) -> None:
        self._switches, self._loader = switches, loader
        self.number = switches.opened(self, loader)
        self._given, self._length = 0, length_of(loader)
        self._began_at = switches.steps
        self._most = 1 if switches.is_short(loader) else None
        self._own: Any = None
        if switches.source_for(self.number) is None:
            self._own = switches.iterate(loader)

    def __iter__(self) -> Switch:
        return self

    def __len__(self) -> int:
        return len(self._loader)

    def __next__(self) -> Any:
        source = self._switches.source_for(self.number)
        over = self._length is not None and self._given >= self._length
        if (over and not self._goes_on(source)) or self._given >= self._limit():
            self.__del__()
            raise StopIteration
        batch = self._own_next() if source is None else source.next()
        self._given += 1
        if self.number == self._switches.training:
            self._switches.samples += samples_in(batch)
        return batch

    def _limit(self) -> float:
        """Batches after which it ends before its time."""
        trains = self.number == self._switches.training
        most = self._switches.epoch_steps if trains else self._most
        return math.inf if most is None else most

    def _goes_on(self, source: Source | None) -> bool:
        """Beyond its length. A loop that trains on none of the batches waits for their end."""
        trained = self._switches.steps > self._began_at
        return self._switches.prolonged and source is not None and trained

    def _own_next(self) -> Any:
        if self._own is None:
            self._own = self._switches.iterate(self._loader)
        return next(self._own)

    def __getattr__(self, name: str) -> Any:
        if self.__dict__.get("_own") is None:
            raise AttributeError(name)
        return getattr(self._own, name)

    def pids(self) -> list[int]:
        """The workers of the script's own iterator."""
        return worker_pids(self.__dict__.get("_own"))

    def __del__(self) -> None:
        """Workers that are to end must be able to."""
        send(signal.SIGCONT, self.pids())


class Twin:
    """A DataLoader whose batches never end: a new epoch begins with the costs that it has."""

    def __init__(self, loader: Any, switches: Switches) -> None:
        self._loader, self._switches = loader, switches
        self._iterator: Any = None

    def next(self) -> Any:
        """The next batch.

        Raises:
            PerfdoctorError: there is not a single one.
        """
        begun, epochs = time.perf_counter(), self._switches.epochs
        for _ in range(2):
            if self._iterator is None:
                self._switches.epochs += 1
                self._iterator = self._switches.iterate(self._loader)
            with suppress(StopIteration):
                batch = next(self._iterator)
                if self._switches.epochs > epochs:
                    self._switches.starting_s += time.perf_counter() - begun
                return batch
            self._iterator = None
        raise PerfdoctorError("the loader gives no batches any more", slug="empty-loader")

    def pids(self) -> list[int]:
        """Its workers."""
        return worker_pids(self._iterator)

    def __del__(self) -> None:
        """Workers that are to end must be able to."""
        send(signal.SIGCONT, self.pids())


class Replay:
    """A few batches over and over, at no cost."""

    def __init__(self, batches: list[Any]) -> None:
        self._batches: Iterator[Any] = itertools.cycle(batches)

    def next(self) -> Any:
        """The next batch."""
        return next(self._batches)

    def pids(self) -> list[int]:
        """It has none."""
        return []


def worker_pids(iterator: Any) -> list[int]:
    """The processes behind an iterator of a DataLoader that have not ended: the number of one that
    has may be another program's by now."""
    return [worker.pid for worker in getattr(iterator, "_workers", ()) if _is_alive(worker)]


def _is_alive(worker: Any) -> bool:
    try:
        return bool(worker.is_alive())
    except (AssertionError, ValueError):  # a worker's own copy of the iterator; or it was closed
        return False


def length_of(loader: Any) -> int | None:
    """Batches in an epoch; None where that is not known."""
    if getattr(loader, "_dataset_kind", 1):  # an iterable one ends when it ends
        return None
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None
