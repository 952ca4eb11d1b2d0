"""Without workers (`num_workers=0`) the main process fetches: its fetcher, timed.

The iterator's fetcher stays the same object; its class is replaced by one derived from it.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from typing import Any

from perfdoctor.collect.script.stopwatch import StampedCollate, Stopwatch
from perfdoctor.collect.script.worker_records import Tally


def observe_fetcher(fetcher: Any, tally: Tally) -> None:
    """Times what this fetcher of torch's fetches from now on."""
    watch = Stopwatch(
        tally,
        fetcher.dataset,
        iterable=hasattr(fetcher, "dataset_iter"),
        batched=bool(fetcher.auto_collation),
    )
    if watch.enough:
        return
    fetcher.collate_fn = StampedCollate(fetcher.collate_fn, watch)
    fetcher.__class__ = _observed_class(fetcher.__class__)


def restore_fetcher(fetcher: Any) -> None:
    """Makes it what it was."""
    with suppress(AttributeError, TypeError):
        fetcher.__class__ = fetcher._perfdoctor_base
        fetcher.collate_fn = fetcher.collate_fn.collate


@functools.lru_cache(maxsize=16)
def _observed_class(base: Any) -> Any:
    def fetch(self: Any, possibly_batched_index: Any) -> Any:
        watch = self.collate_fn.watch
        index = possibly_batched_index
        if watch.off or watch.passes():
            if watch.enough:
                restore_fetcher(self)
            return base.fetch(self, index)
        try:
            index = watch.begin(index)
        except Exception:
            watch.off = True
        data = base.fetch(self, index)
        try:
            watch.end()
            watch.kept()
        except Exception:
            watch.off = True
        return data

    return type(base.__name__, (base,), {"fetch": fetch, "_perfdoctor_base": base})
