"""Arithmetic precision as a context: fp32, tf32, bf16 or fp16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def matmul_precision(precision: str | None) -> Iterator[None]:
    """Float32 products inside the block in TF32 if `precision` says so, else in full float32.

    None leaves what the user's code has set.
    """
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        if precision is not None:
            torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
            torch.backends.cudnn.allow_tf32 = precision == "tf32"
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def effective_precision(device: torch.device, precision: str | None) -> str:
    """The precision really used where the command line names none."""
    if precision is not None:
        return precision
    tf32 = torch.get_float32_matmul_precision() != "highest"
    return "tf32" if tf32 and device.type == "cuda" else "fp32"


def autocast(device: torch.device, precision: str | None) -> torch.autocast:
    """Autocast for bf16 and fp16; switched off for the others."""
    dtype = _AUTOCAST.get(precision or "")
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def gradient_scaler(device: torch.device, precision: str | None) -> torch.amp.GradScaler | None:
    """A gradient scaler for fp16, which needs it to keep small gradients; None for the others."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None
