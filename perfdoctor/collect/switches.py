"""Settings of this process or of its torch, changed for a while."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any


@contextmanager
def set_for_now(owner: Any, name: str, value: Any, *, delete: bool = False) -> Iterator[None]:
    """An attribute of something else, while the context lasts; `delete`: there is none before."""
    before = None if delete else getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if delete:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@contextmanager
def called(change: Callable[[Any], Any], now: Callable[[], Any], value: Any) -> Iterator[None]:
    """`change(value)` now, and with what `now()` was before afterwards."""
    before = now()
    change(value)
    try:
        yield
    finally:
        change(before)


def threads(count: int) -> AbstractContextManager[None]:
    """Threads of operations. Belongs to the calling thread."""
    import torch

    return called(torch.set_num_threads, torch.get_num_threads, count)


def anomaly_detection(on: bool) -> AbstractContextManager[None]:
    """Autograd's anomaly detection."""
    import torch

    def change(value: bool) -> None:
        torch.autograd.set_detect_anomaly(value)

    return called(change, torch.is_anomaly_enabled, on)


@contextmanager
def deterministic(on: bool) -> Iterator[None]:
    """Deterministic algorithms, cuDNN's included."""
    import torch

    now = torch.are_deterministic_algorithms_enabled
    with (
        called(torch.use_deterministic_algorithms, now, on),
        set_for_now(torch.backends.cudnn, "deterministic", on),
    ):
        yield


def cudnn_benchmark(on: bool) -> AbstractContextManager[None]:
    """Whether cuDNN tries which of its convolutions is fastest."""
    import torch

    return set_for_now(torch.backends.cudnn, "benchmark", on)


def matmul_precision(name: str) -> AbstractContextManager[None]:
    """How precise float32 matrix products are: highest, high (TF32) or medium."""
    import torch

    now = torch.get_float32_matmul_precision
    return called(torch.set_float32_matmul_precision, now, name)


@contextmanager
def frozen() -> Iterator[None]:
    """Objects that exist now are left out of garbage collection."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def gradient_checkpointing(model: Any, on: bool) -> Iterator[None]:
    """Models of transformers have methods for it, others often a flag on their blocks.

    Raises:
        PerfdoctorError: the model has no switch for it.
    """
    from perfdoctor.errors import PerfdoctorError

    enable = getattr(model, "gradient_checkpointing_enable", None)
    disable = getattr(model, "gradient_checkpointing_disable", None)
    if callable(enable) and callable(disable):

        def change(wanted: bool) -> None:
            enable() if wanted else disable()

        with called(change, lambda: bool(model.is_gradient_checkpointing), on):
            yield
        return
    flags = list(checkpointing_flags(model))
    if not flags:
        raise PerfdoctorError(
            "the model has no switch for gradient checkpointing", slug="no-checkpointing-switch"
        )
    with ExitStack() as stack:
        for module, name in flags:
            stack.enter_context(set_for_now(module, name, on))
        yield


def checkpointing_flags(model: Any) -> Iterator[tuple[Any, str]]:
    """Modules with a switch for gradient checkpointing, and its name (as timm, torchtune, …)."""
    names = ("gradient_checkpointing", "use_checkpoint", "grad_checkpointing")
    for module, name in itertools.product(model.modules(), names):
        if isinstance(getattr(module, name, None), bool):
            yield module, name
