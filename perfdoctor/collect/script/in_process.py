"""Without workers (`num_workers=0`) the main process fetches: its fetcher, timed.

The iterator's fetcher stays the same object; its class is replaced by one derived from it. Its
collate function is replaced only while a batch is made that is timed.
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
    fetcher._perfdoctor_watch = watch
    fetcher.__class__ = _observed_class(fetcher.__class__)


def restore_fetcher(fetcher: Any) -> None:
    """Makes it what it was."""
    with suppress(AttributeError, TypeError):
        fetcher.__class__ = fetcher._perfdoctor_base
        del fetcher._perfdoctor_watch


@functools.lru_cache(maxsize=16)
def _observed_class(base: Any) -> Any:
    def fetch(self: Any, possibly_batched_index: Any) -> Any:
        watch = self._perfdoctor_watch
        if watch.left_out:
            watch.left_out -= 1
            return base.fetch(self, possibly_batched_index)
        if watch.off or watch.enough:
            restore_fetcher(self)
            return base.fetch(self, possibly_batched_index)
        return _timed(base, self, watch, possibly_batched_index)

    return type(base.__name__, (base,), {"fetch": fetch, "_perfdoctor_base": base})


def _timed(base: Any, fetcher: Any, watch: Stopwatch, index: Any) -> Any:
    collate = fetcher.collate_fn
    try:
        index = watch.begin(index)
        fetcher.collate_fn = StampedCollate(collate, watch)
    except Exception:
        watch.off = True
    try:
        data = base.fetch(fetcher, index)
    finally:
        fetcher.collate_fn = collate
    try:
        watch.end()
        watch.kept()
    except Exception:
        watch.off = True
    return data
