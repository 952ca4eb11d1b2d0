"""How long Python's garbage collector stops the training. Imports nothing heavy."""

from __future__ import annotations

import gc
import time
from typing import Any

_OLDEST = 2


class CollectionWatch:
    """Adds up the pauses for cyclic garbage between `start` and `stop`.

    Attributes:
        pause_s: all of them. longest_s: the longest. full, full_s: how many of them, and how long,
            went through the oldest generation, which is every object there is.
        watched_s: wall time from `start` to `stop`.
    """

    def __init__(self) -> None:
        self.pause_s = self.full_s = self.longest_s = self.watched_s = 0.0
        self.full = 0
        self._began_s = self._from_s = 0.0

    def start(self) -> None:
        """From here on. Asked twice it goes on."""
        if self._noted not in gc.callbacks:
            self._from_s = time.perf_counter()
            gc.callbacks.append(self._noted)

    def stop(self) -> None:
        """Until here. Asked twice it does it once."""
        if self._noted in gc.callbacks:
            gc.callbacks.remove(self._noted)
            self.watched_s += time.perf_counter() - self._from_s

    def counters(self) -> dict[str, float]:
        """As `Run.counters` has them; empty where nothing was watched."""
        watched_s = self.watched_s
        if self._noted in gc.callbacks:  # still watching: a report of a training that goes on
            watched_s += time.perf_counter() - self._from_s
        if watched_s <= 0:
            return {}
        return {
            "gc_watched_s": watched_s,
            "gc_pause_s": self.pause_s,
            "gc_full_pause_s": self.full_s,
            "gc_longest_s": self.longest_s,
            "gc_full_collections": float(self.full),
        }

    def _noted(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._began_s = time.perf_counter()
            return
        if not self._began_s:
            return
        pause_s = time.perf_counter() - self._began_s
        self.pause_s += pause_s
        self.longest_s = max(self.longest_s, pause_s)
        if info.get("generation") == _OLDEST:
            self.full += 1
            self.full_s += pause_s
