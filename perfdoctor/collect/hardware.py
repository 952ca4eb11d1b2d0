"""A thread that samples the machine while a training runs: CPU, memory, swap, disk, GPU."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import psutil
import torch

from perfdoctor.collect.environment import throttled_share
from perfdoctor.record import Floats

#: Four samples a second: each costs well under a millisecond of this process's time.
_INTERVAL_S = 0.25
#: A worker's PSS takes milliseconds to read, so it is read every so many samples.
_PSS_EVERY = 4


@dataclass
class _Previous:
    """Counters of the last sample, from which the next one's rates come."""

    time_s: float
    system_busy_s: float
    own_cpu_s: dict[int, float]
    disk_bytes: int
    throttled: tuple[int, int] | None


@dataclass
class HardwareSampler:
    """Samples hardware use between `__enter__` and `__exit__`.

    `columns` holds one list per counter: `cpu` (all cores together, 0–100), `cpu_main`,
    `cpu_workers` and `cpu_foreign` (100 is one core), `cpu_throttled` (of the quota's periods),
    `disk_read_bytes_per_s`, `ram` (host memory in use, 0–100), `swap_bytes` (of the whole machine,
    what was swapped out before included), and for a GPU `gpu`, `gpu_memory` (both 0–100),
    `gpu_power_w`, `gpu_clock_mhz`, `gpu_temperature_c`. `worker_pids` tells the loader's processes
    at this moment.
    """

    device: torch.device
    worker_pids: Callable[[], Sequence[int]] = list
    columns: dict[str, list[float]] = field(default_factory=dict)
    workers_pss_bytes: int = 0
    workers_now_bytes: int = 0
    host_used_share: float = 0.0
    problem: str | None = None

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._main = psutil.Process()
        self._gpu = _open_gpu(self.device)
        self._count = 0
        self._swap_before_bytes: int | None = None

    def begin(self) -> None:
        """Reads the counters from which the first sample's rates come."""
        self._previous = self._counters()
        if self._swap_before_bytes is None:
            self._swap_before_bytes = swapped_bytes()

    def __enter__(self) -> HardwareSampler:
        self.begin()
        self._stop.clear()
        self._thread = threading.Thread(target=self._watch, name="perfdoctor", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def utilisation(self) -> dict[str, Floats]:
        """The samples so far as arrays."""
        return {name: np.array(values) for name, values in self.columns.items()}

    def _watch(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            try:
                self.sample()
            except Exception as error:  # a counter that fails must not harm the measurement
                self.problem = f"hardware sampling stopped: {error}"
                return

    def sample(self) -> None:
        """Adds one sample to every column."""
        before, now = self._previous, self._counters()
        self._previous = now
        elapsed = max(1e-6, now.time_s - before.time_s)
        self._sample_cpu(before, now, elapsed)
        disk = (now.disk_bytes - before.disk_bytes) / elapsed
        self._add("disk_read_bytes_per_s", max(0.0, disk))
        self._sample_memory()
        if self._count % _PSS_EVERY == 0:
            self.workers_now_bytes = _pss(self._members()[1:])
            self.workers_pss_bytes = max(self.workers_pss_bytes, self.workers_now_bytes)
        self._count += 1
        if self._gpu is not None:
            for name, value in _gpu_sample(self._gpu).items():
                self._add(name, value)

    def counters(self) -> dict[str, float]:
        """`swap_grown_bytes`, the most that was swapped out beyond what was at the beginning, and
        `gpu_clock_max_mhz`, the highest clock of the device; what is not known is left out."""
        found: dict[str, float] = {}
        swapped = self.columns.get("swap_bytes")
        if swapped and self._swap_before_bytes is not None:
            found["swap_grown_bytes"] = max(0.0, max(swapped) - self._swap_before_bytes)
        highest = None if self._gpu is None else _highest_clock_mhz(self._gpu)
        return found if highest is None else found | {"gpu_clock_max_mhz": highest}

    def _sample_memory(self) -> None:
        memory = psutil.virtual_memory()
        used = 1 - memory.available / memory.total
        self.host_used_share = max(self.host_used_share, used)
        self._add("ram", 100 * used)
        self._add("swap_bytes", swapped_bytes())

    def _sample_cpu(self, before: _Previous, now: _Previous, elapsed: float) -> None:
        used = {pid: cpu - before.own_cpu_s.get(pid, cpu) for pid, cpu in now.own_cpu_s.items()}
        busy = (now.system_busy_s - before.system_busy_s) / elapsed
        main = used.pop(self._main.pid, 0.0) / elapsed
        workers = sum(used.values()) / elapsed
        self._add("cpu", 100 * busy / (psutil.cpu_count() or 1))
        self._add("cpu_main", 100 * main)
        self._add("cpu_workers", 100 * workers)
        # a worker that ended or began between two samples is not foreign, only not counted
        if set(now.own_cpu_s) == set(before.own_cpu_s):
            self._add("cpu_foreign", 100 * max(0.0, busy - main - workers))
        if now.throttled and before.throttled:
            periods = now.throttled[1] - before.throttled[1]
            throttled = now.throttled[0] - before.throttled[0]
            self._add("cpu_throttled", 100 * throttled / periods if periods else 0.0)

    def _counters(self) -> _Previous:
        system, members = psutil.cpu_times(), self._members()
        idle = system.idle + getattr(system, "iowait", 0.0)
        return _Previous(
            time_s=time.perf_counter(),
            system_busy_s=sum(system) - idle - getattr(system, "guest", 0.0),
            own_cpu_s=_cpu_s(members),
            disk_bytes=_disk_bytes(members),
            throttled=throttled_share(),
        )

    def _members(self) -> list[psutil.Process]:
        """This process and its workers. Looking for children in all of /proc would take long."""
        found = [self._main]
        for pid in self.worker_pids():
            try:
                found.append(psutil.Process(pid))
            except psutil.Error:  # it ended just now
                continue
        return found

    def _add(self, name: str, value: float) -> None:
        self.columns.setdefault(name, []).append(value)


def _cpu_s(members: Sequence[psutil.Process]) -> dict[int, float]:
    found = {}
    for member in members:
        try:
            times = member.cpu_times()
            found[member.pid] = times.user + times.system
        except psutil.Error:  # it ended between listing and reading
            continue
    return found


def _disk_bytes(members: Sequence[psutil.Process]) -> int:
    total = 0
    for member in members:
        try:
            total += member.io_counters().read_bytes
        except (psutil.Error, AttributeError):  # ended, not permitted, or not on this system
            continue
    return total


def swapped_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Swap of this machine that is in use.

    On Linux from one file: psutil reads another one besides, and warns on stderr, which is the
    script's, where a container has none.
    """
    try:
        lines = meminfo.read_text().splitlines()
        found = {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}
        return 1024 * (found["SwapTotal"] - found["SwapFree"])
    except (OSError, ValueError, IndexError, KeyError):  # another system
        return int(psutil.swap_memory().used)


def _pss(workers: Sequence[psutil.Process]) -> int:
    total = 0
    for child in workers:
        try:
            total += getattr(child.memory_full_info(), "pss", 0)
        except psutil.Error:
            continue
    return total


def _open_gpu(device: torch.device) -> Any | None:
    """An NVML handle of the device; None where there is no NVIDIA driver."""
    if device.type != "cuda":
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        return pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except Exception:  # NVML raises its own errors, an older torch has no uuid
        return None


def _gpu_sample(handle: Any) -> dict[str, float]:
    import pynvml

    readers: dict[str, Callable[[], Any]] = {
        "gpu": lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu,
        "gpu_memory": lambda: _memory_percent(pynvml.nvmlDeviceGetMemoryInfo(handle)),
        "gpu_power_w": lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        "gpu_clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "gpu_temperature_c": lambda: pynvml.nvmlDeviceGetTemperature(
            handle, pynvml.NVML_TEMPERATURE_GPU
        ),
    }
    found = {}
    for name, read in readers.items():
        try:
            found[name] = float(read())
        except pynvml.NVMLError:  # this counter is not supported on this GPU
            continue
    return found


def _highest_clock_mhz(handle: Any) -> float | None:
    """The highest that the device's processors can have; None where NVML does not tell."""
    import pynvml

    try:
        return float(pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)) or None
    except pynvml.NVMLError:
        return None


def _memory_percent(info: Any) -> float:
    return 100.0 * float(info.used) / float(info.total)
