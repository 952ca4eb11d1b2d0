"""The machine while the script runs: memory over the steps, CPU and GPU use. One look a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # not before the script's first line, see `perfdoctor.running`
    from perfdoctor.collect.hardware import HardwareSampler
    from perfdoctor.record import Floats, Memory

#: Every second at first; past so many samples every second one is dropped and the pace halved.
PERIOD_S = 1.0
_MOST_SAMPLES = 2048
#: Memory settles while the first steps run, so growth is judged by what comes after this share.
_SETTLING = 0.3
_FEWEST = 10
#: A slope is of so many pairs of samples at most (Theil and Sen; all pairs would be 2 million).
_PAIRED = 200


@dataclass
class MachineWatch:
    """Looks on `tick`. `steps` tells how many steps were made, `worker_pids` the loaders' workers.

    Nothing is looked at before the training has begun: torch is not there yet.
    """

    steps: Callable[[], int]
    worker_pids: Callable[[], Sequence[int]]
    resident: list[tuple[int, int]] = field(default_factory=list)
    workers: list[tuple[int, int]] = field(default_factory=list)
    _sampler: HardwareSampler | None = None
    _every: int = 1
    _ticks: int = 0

    def tick(self) -> None:
        """One look, if it is time for one."""
        self._ticks += 1
        if self.steps() and self._ticks % self._every == 0:
            self._look()

    def _look(self) -> None:
        if self._sampler is None:
            self._sampler = _begun(self.worker_pids)
            return
        import psutil

        self._sampler.sample()
        self.resident.append((self.steps(), int(psutil.Process().memory_info().rss)))
        if self._sampler.workers_now_bytes:
            self.workers.append((self.steps(), self._sampler.workers_now_bytes))
        if len(self.resident) >= _MOST_SAMPLES:
            del self.resident[::2], self.workers[::2]
            for values in self._sampler.columns.values():
                del values[::2]
            self._every *= 2

    def utilisation(self) -> dict[str, Floats]:
        """Every counter's samples."""
        return {} if self._sampler is None else self._sampler.utilisation()

    def counters(self) -> dict[str, float]:
        """Totals over what was looked at, see `HardwareSampler.counters`."""
        return {} if self._sampler is None else self._sampler.counters()

    def latest(self) -> dict[str, float]:
        """The newest sample of every counter, and the bytes of this process and the workers."""
        if self._sampler is None or not self.resident:
            return {}
        found = {name: values[-1] for name, values in self._sampler.columns.items() if values}
        found["resident_bytes"] = float(self.resident[-1][1])
        if self._sampler.workers_pss_bytes:
            found["workers_bytes"] = float(self._sampler.workers_pss_bytes)
        return found

    def workers_growth(self) -> float | None:
        """Bytes per step that the workers' own memory grows; None where there are none."""
        return growth(self.workers) if self.workers else None

    def memory(self) -> Memory:
        """Peaks and the growth per step."""
        import torch

        from perfdoctor.collect.memory import peak_bytes, total_bytes
        from perfdoctor.record import Memory

        cuda = torch.cuda.is_initialized()
        device = torch.device("cuda" if cuda else "cpu")
        sampler = self._sampler
        workers = 0 if sampler is None else sampler.workers_pss_bytes
        return Memory(
            total_bytes=total_bytes(device),
            training_peak_bytes=peak_bytes(device) + (0 if cuda else workers),
            workers_peak_bytes=workers or None,
            host_used_share=None if sampler is None else sampler.host_used_share,
            trend_bytes_per_step=growth(self.resident),
        )


def _begun(worker_pids: Callable[[], Sequence[int]]) -> HardwareSampler:
    import torch

    from perfdoctor.collect.hardware import HardwareSampler

    device = torch.device("cuda" if torch.cuda.is_initialized() else "cpu")
    sampler = HardwareSampler(device, worker_pids)
    sampler.begin()
    return sampler


def growth(resident: Sequence[tuple[int, int]]) -> float | None:
    """Bytes per step that the process grows, the median slope over pairs of samples.

    None with too few samples to tell (Sen, J. Am. Stat. Assoc. 63, 1968).
    """
    import numpy as np

    kept = np.array(resident[int(len(resident) * _SETTLING) :], dtype=np.float64)
    if len(kept) < _FEWEST:
        return None
    kept = kept[:: max(1, len(kept) // _PAIRED)]
    step, size = kept[:, 0], kept[:, 1]
    first, second = np.triu_indices(len(kept), k=1)
    apart = step[second] - step[first]
    slopes = (size[second] - size[first])[apart > 0] / apart[apart > 0]
    return float(np.median(slopes)) if slopes.size else None
