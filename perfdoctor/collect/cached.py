"""A dataset whose samples are made once: what any caching could bring at most."""

from __future__ import annotations

import time
from typing import Any

from torch.utils.data import Dataset

from perfdoctor.collect.batches import bytes_in

#: Making samples to replay takes no longer, and no more memory, than this: enough of them to
#: leave the processor's caches, few enough to keep a trial short.
MOST_S = 5.0
MOST_BYTES = 256 << 20
MOST_SAMPLES = 4_096
FEWEST_SAMPLES = 32


class CachedDataset(Dataset[Any]):
    """As long as `inner`, but every sample is one of some that were made at the start."""

    def __init__(self, inner: Any) -> None:
        self._length = len(inner)
        self._samples: list[Any] = []
        started, size = time.perf_counter(), 0
        step = max(1, self._length // MOST_SAMPLES)  # spread over the data, which may be sorted
        for index in range(0, self._length, step):
            sample = inner[index]
            self._samples.append(sample)
            size += bytes_in(sample)
            late = time.perf_counter() - started > MOST_S or size > MOST_BYTES
            if late and len(self._samples) >= FEWEST_SAMPLES:
                break

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        return self._samples[index % len(self._samples)]
