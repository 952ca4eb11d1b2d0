"""Experiments on the DataLoader."""

from __future__ import annotations

from typing import Any, ClassVar

from perfdoctor.experiments import Situation

_ITERABLE = "an iterable dataset gives every sample once per worker unless it divides them itself"


class Workers:
    """As many workers as were recommended, or one for each core."""

    name: ClassVar[str] = "workers"
    keys: ClassVar[tuple[str, ...]] = ("num_workers", "persistent_workers")
    safety: ClassVar[str] = "random"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

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


class Prefetch:
    """Each worker prepares more batches ahead."""

    name: ClassVar[str] = "prefetch"
    keys: ClassVar[tuple[str, ...]] = ("prefetch_factor",)
    safety: ClassVar[str] = "exact"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """Nothing is prefetched without workers."""
        return None if situation.workers else "there are no workers, so nothing is prefetched"

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`prefetch_factor`: as recommended, or doubled."""
        now = int(situation.configuration.get("prefetch_factor") or 2)
        return {"prefetch_factor": situation.wanted.get("prefetch_factor", 2 * now)}


class PersistentWorkers:
    """Workers stay when an epoch ends."""

    name: ClassVar[str] = "persistent-workers"
    keys: ClassVar[tuple[str, ...]] = ("persistent_workers",)
    safety: ClassVar[str] = "random"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """Nothing to keep without workers."""
        if not situation.workers:
            return "there are no workers to keep"
        on = situation.configuration.get("persistent_workers")
        return "workers are kept already" if on else None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`persistent_workers`."""
        return {"persistent_workers": True}


class PinMemory:
    """Batches in page-locked memory, which a GPU copies from directly."""

    name: ClassVar[str] = "pin-memory"
    keys: ClassVar[tuple[str, ...]] = ("pin_memory",)
    safety: ClassVar[str] = "exact"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """A CPU copies nothing."""
        if not situation.on_cuda:
            return "there is no GPU to copy to"
        wanted = self.changes(situation)["pin_memory"]
        same = bool(situation.configuration.get("pin_memory")) == wanted
        return f"memory is {'' if wanted else 'not '}pinned already" if same else None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`pin_memory`."""
        return {"pin_memory": bool(situation.wanted.get("pin_memory", True))}


class CachedDataset:
    """Replays samples that were made once; collating and sending them remain."""

    name: ClassVar[str] = "cached-dataset"
    keys: ClassVar[tuple[str, ...]] = ("cache_samples",)
    safety: ClassVar[str] = "semantics"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = True

    def why_not(self, situation: Situation) -> str | None:
        """Only what is read by index can be replayed by index."""
        iterable = situation.configuration.get("loader_kind") == "iterable"
        return "an iterable dataset cannot be replayed by index" if iterable else None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`cache_samples`."""
        return {"cache_samples": True}


class FreeLoading:
    """Replays a few batches at no cost: nothing done to the loader can bring more."""

    name: ClassVar[str] = "free-loading"
    keys: ClassVar[tuple[str, ...]] = ("free_loading",)
    safety: ClassVar[str] = "semantics"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = True

    def why_not(self, situation: Situation) -> str | None:
        """It can be tried everywhere."""
        return None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`free_loading`."""
        return {"free_loading": True}
