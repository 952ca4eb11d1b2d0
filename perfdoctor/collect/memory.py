"""Peak memory of a phase: of the device, or of this process on the CPU."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import psutil
import torch

from perfdoctor.collect.environment import usable_memory_bytes


def reset_peak(device: torch.device) -> None:
    """The next `peak_bytes` is of what happens from here on."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # blocks kept from before would count as this phase's
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)
        except OSError:
            return


def peak_bytes(device: torch.device) -> int:
    """Peak since `reset_peak`: reserved by the allocator on CUDA, resident on the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    return _resident_peak()


def release() -> None:
    """Gives back what nobody holds any more, so that another process can have it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def current_bytes(device: torch.device) -> int:
    """What `peak_bytes` would be if nothing more were allocated."""
    if device.type == "cuda":
        return int(torch.cuda.memory_reserved(device))
    return int(psutil.Process().memory_info().rss)


def total_bytes(device: torch.device) -> int:
    """Memory of the device; for the CPU what this process may use."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return usable_memory_bytes()


def _resident_peak() -> int:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # no peak to be had: the size now is the nearest
        return int(psutil.Process().memory_info().rss)
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) * 1024
