"""Experiments on the DataLoader."""

from __future__ import annotations

from typing import Any

from perfdoctor.experiments import Experiment, Situation, Switch

_NO_LOADER = "the training uses no DataLoader"
#: Reads at a time where no number was advised. [own]
_THREADS = 8
_ITERABLE = "an iterable dataset gives every sample once per worker unless it divides them itself"


def without_loader(situation: Situation) -> bool:
    """Whether it is a script in which no DataLoader was seen."""
    return situation.is_script and situation.configuration.get("num_workers") is None


class Workers(Experiment):
    """As many workers as were recommended, or one for each core."""

    name = "workers"
    keys = ("num_workers", "persistent_workers")
    safety = "random"

    def why_not(self, situation: Situation) -> str | None:
        """Not for iterable datasets, nor for the number that is in use."""
        if situation.configuration.get("loader_kind") == "iterable":
            return _ITERABLE
        workers = self.changes(situation)["num_workers"]
        return f"it has {workers} workers already" if workers == situation.workers else None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`num_workers`, and `persistent_workers` with it where that was recommended."""
        wanted = {k: situation.wanted[k] for k in self.keys if k in situation.wanted}
        return {"num_workers": max(1, int(situation.cores))} | wanted


class Prefetch(Experiment):
    """Each worker prepares more batches ahead."""

    name = "prefetch"
    keys = ("prefetch_factor",)

    def why_not(self, situation: Situation) -> str | None:
        """Nothing is prefetched without workers."""
        return None if situation.workers else "there are no workers, so nothing is prefetched"

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`prefetch_factor`: as recommended, or doubled."""
        now = int(situation.configuration.get("prefetch_factor") or 2)
        return {"prefetch_factor": situation.wanted.get("prefetch_factor", 2 * now)}


class PersistentWorkers(Switch):
    """Workers stay when an epoch ends."""

    name = "persistent-workers"
    keys = ("persistent_workers",)
    safety = "random"
    already = "workers are kept already"

    def why_not(self, situation: Situation) -> str | None:
        """Nothing to keep without workers."""
        return super().why_not(situation) if situation.workers else "there are no workers to keep"


class PinMemory(Experiment):
    """Batches in page-locked memory, which a GPU copies from directly."""

    name = "pin-memory"
    keys = ("pin_memory",)

    def why_not(self, situation: Situation) -> str | None:
        """A CPU copies nothing."""
        if not situation.on_cuda:
            return "there is no GPU to copy to"
        wanted = self.changes(situation)["pin_memory"]
        same = situation.uses("pin_memory") == wanted
        return f"memory is {'' if wanted else 'not '}pinned already" if same else None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`pin_memory`."""
        return {"pin_memory": bool(situation.wanted.get("pin_memory", True))}


class ConcurrentReads(Experiment):
    """The samples of a batch are read by several threads at once.

    Which of them draws its random numbers first is chance.
    """

    name = "concurrent-reads"
    keys = ("reads_at_once",)
    safety = "random"

    def why_not(self, situation: Situation) -> str | None:
        """Only samples that are read by index can be read in any order."""
        iterable = situation.configuration.get("loader_kind") == "iterable"
        return "an iterable dataset is read in its own order" if iterable else None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`reads_at_once`."""
        return {"reads_at_once": int(situation.wanted.get("reads_at_once", _THREADS))}


class CachedDataset(Experiment):
    """Replays samples that were made once; collating and sending them remain."""

    name = "cached-dataset"
    keys = ("cache_samples",)
    safety = "semantics"
    ceiling = True

    def why_not(self, situation: Situation) -> str | None:
        """Only what is read by index can be replayed by index."""
        if without_loader(situation):
            return _NO_LOADER
        iterable = situation.configuration.get("loader_kind") == "iterable"
        return "an iterable dataset cannot be replayed by index" if iterable else None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`cache_samples`."""
        return {"cache_samples": True}


class FreeLoading(Experiment):
    """Replays a few batches at no cost: nothing done to the loader can bring more."""

    name = "free-loading"
    keys = ("free_loading",)
    safety = "semantics"
    ceiling = True

    def why_not(self, situation: Situation) -> str | None:
        """Only what a DataLoader gives can be replayed in its place."""
        return _NO_LOADER if without_loader(situation) else None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`free_loading`."""
        return {"free_loading": True}
