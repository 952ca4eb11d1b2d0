"""Arithmetic precision as a context: fp32, tf32, bf16 or fp16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def matmul_precision(precision: str | None) -> Iterator[None]:
    """Float32 products inside the block in TF32 if `precision` says so, else in full float32.

    None leaves what the user's code has set.
    """
    if precision is None:
        yield
        return
    switches = _switches()
    before = [(owner, name, getattr(owner, name)) for owner, name, _, _ in switches]
    try:
        for owner, name, on, off in switches:
            setattr(owner, name, on if precision == "tf32" else off)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _switches() -> list[tuple[Any, str, Any, Any]]:
    """(owner, name, value with TF32, value without) of PyTorch's switches for products.

    PyTorch refuses to read the older ones once the user's code has set the newer ones.
    """
    backends = torch.backends
    try:
        torch.get_float32_matmul_precision()
    except RuntimeError:
        conv: Any = backends.cudnn.conv  # type: ignore[attr-defined]
        return [
            (backends.cuda.matmul, "fp32_precision", "tf32", "ieee"),
            (conv, "fp32_precision", "tf32", "ieee"),
        ]
    return [
        (backends.cuda.matmul, "allow_tf32", True, False),
        (backends.cudnn, "allow_tf32", True, False),
    ]


def effective_precision(device: torch.device, precision: str | None) -> str:
    """The precision really used where the command line names none."""
    if precision is not None:
        return precision
    owner, name, on, _ = _switches()[0]
    return "tf32" if device.type == "cuda" and getattr(owner, name) == on else "fp32"


def autocast(device: torch.device, precision: str | None) -> torch.autocast:
    """Autocast for bf16 and fp16; switched off for the others."""
    dtype = _AUTOCAST.get(precision or "")
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def gradient_scaler(device: torch.device, precision: str | None) -> torch.amp.GradScaler | None:
    """A gradient scaler for fp16, which needs it to keep small gradients; None for the others."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None
