"""What this machine can do at most, measured: arithmetic, host-to-device copies, reading."""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from perfdoctor.collect.clocks import synchronise, timed
from perfdoctor.collect.precision import autocast, matmul_precision
from perfdoctor.record import Limit

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
#: Growing until the peak is reached; the last takes a fraction of a second.
_MATRIX_SIZES = {"cpu": (256, 768, 1536), "cuda": (1024, 4096, 8192)}
#: The next size takes up to 27 times as long.
_LONGEST_PRODUCT_S = 0.02
_COPY_BYTES = 64 << 20
_READ_BYTES = 64 << 20
_REPEATS = 5


def matmul_peak(device: torch.device, precision: str) -> float:
    """FLOP/s of a square matrix product in this precision, the best of a few."""
    dtype = _DTYPES.get(precision, torch.float32)
    best = 0.0
    with matmul_precision("tf32" if precision == "tf32" else "fp32"):
        for size in _MATRIX_SIZES.get(device.type, _MATRIX_SIZES["cpu"]):
            a = torch.randn(size, size, device=device).to(dtype)
            torch.mm(a, a)
            seconds = min(timed(device, partial(torch.mm, a, a)) for _ in range(_REPEATS))
            best = max(best, 2 * size**3 / seconds)
            if seconds > _LONGEST_PRODUCT_S:  # a precision that this device only emulates
                break
    return best


def step_flops(loop: Any, batch: Any) -> int:
    """Floating-point operations of one forward and backward, by PyTorch's counter."""
    compiled, loop.model = loop.model, loop.eager_model
    counter = FlopCounterMode(display=False)
    try:
        with counter:
            loop.loss_of(batch).backward()
    finally:
        loop.model = compiled
        loop.optimizer.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


def compute_limit(loop: Any, batch: Any, forward_backward_s: float, precision: str) -> Limit | None:
    """FLOP/s of forward, loss and backward beside the peak; None if nothing could be counted."""
    with loop.settings(), autocast(loop.device, loop.options.precision):
        flops = step_flops(loop, batch)
    if flops == 0 or forward_backward_s <= 0:
        return None
    peak = matmul_peak(loop.device, precision)
    return Limit(name="compute", achieved=flops / forward_backward_s, peak=peak, unit="FLOP/s")


def pinned_copy_peak(device: torch.device) -> float:
    """Bytes/s of a large copy from pinned memory to the device."""
    source = torch.empty(_COPY_BYTES, dtype=torch.uint8).pin_memory()
    target = torch.empty(_COPY_BYTES, dtype=torch.uint8, device=device)
    best = min(timed(device, lambda: target.copy_(source)) for _ in range(_REPEATS))
    synchronise(device)
    return _COPY_BYTES / best


def sequential_read_peak(folder: Path | None = None) -> float | None:
    """Bytes/s of reading a file just written, its pages dropped from the cache first.

    None where pages cannot be dropped or the folder cannot be written: reading from the page
    cache would say nothing of the disk.
    """
    if not hasattr(os, "posix_fadvise"):
        return None
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            block = os.urandom(1 << 20)
            for _ in range(_READ_BYTES >> 20):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return _READ_BYTES / _read_s(file.fileno())
    except OSError:
        return None


def _read_s(descriptor: int) -> float:
    os.lseek(descriptor, 0, os.SEEK_SET)
    start = time.perf_counter()
    while os.read(descriptor, 1 << 20):
        pass
    return time.perf_counter() - start
