"""A dataset whose samples of one batch are read at once: what threads of one's own would bring."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch.utils.data import Dataset


class ConcurrentReads(Dataset[Any]):
    """The samples of `inner`, in their order; a batch of them is read by so many threads."""

    def __init__(self, inner: Any, threads: int) -> None:
        self._inner, self._threads = inner, threads
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0

    def __len__(self) -> int:
        return len(self._inner)

    def __getitem__(self, index: int) -> Any:
        return self._inner[index]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """What torch's fetcher asks for, where it is there."""
        if self._pool is None or self._pid != os.getpid():  # a forked worker has no threads
            self._pool, self._pid = ThreadPoolExecutor(self._threads), os.getpid()
        return list(self._pool.map(self._inner.__getitem__, indices))

    def __getstate__(self) -> dict[str, Any]:
        """For workers that are spawned: threads stay where they are."""
        return {**self.__dict__, "_pool": None}
