"""Copies from the host's memory to a device, as they are called: `to`, `cuda`, `copy_`.

Put in place only where the training is found to use a device, so that others pay nothing. What the
copy takes on the device is told by its own clock (`DeviceLane`), and what the call takes
of the host's time, too: a copy from pageable memory keeps it waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.state import State, guarded

#: Where a copy is told apart. In a loader, a validation or a stage of the script's own it is part
#: of that.
_TOLD = (r.OTHER, r.FORWARD, r.AFTER_FORWARD)
#: Copies smaller than this are of numbers, not of batches: how they are made matters to nobody.
_LEAST_BYTES = 1024
Call = Callable[..., Any]


@dataclass
class Copies:
    """How batches are copied, from the steps that are looked into (`State.noting`).

    Attributes:
        count: copies that were looked at. bytes_moved: theirs.
        pinned, non_blocking: bytes of those from pinned memory; of those that need not be waited
            for.
    """

    count: int = 0
    bytes_moved: int = 0
    pinned: int = 0
    non_blocking: int = 0

    def add(self, size_bytes: int, *, pinned: bool, non_blocking: bool) -> None:
        """One copy."""
        if size_bytes >= _LEAST_BYTES:
            self.count += 1
            self.bytes_moved += size_bytes
            self.pinned += pinned * size_bytes
            self.non_blocking += non_blocking * size_bytes

    def settings(self) -> dict[str, Any]:
        """As configuration: what holds for most bytes; empty where nothing was copied."""
        if not self.count:
            return {}
        return {
            "h2d_pinned": 2 * self.pinned > self.bytes_moved,
            "non_blocking": 2 * self.non_blocking > self.bytes_moved,
        }


def copying(original: Call, state: State, goes: Callable[..., bool], seen: Copies) -> Call:
    """`original`, a method of tensors that copies; `goes` tells from its arguments whether it
    copies from the host to a device."""
    recorder, get_ident = state.observer.recorder, threading.get_ident

    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        told = recorder.current in _TOLD and recorder.base == r.OTHER
        if not told or not state.active or get_ident() != state.thread:
            return original(self, *args, **kwargs)
        if not guarded(state, goes, self, args, kwargs):
            return original(self, *args, **kwargs)
        if state.noting:
            guarded(state, _look, seen, self, args, kwargs)
        depth = recorder.depth
        recorder.enter(r.H2D_COPY)
        try:
            return original(self, *args, **kwargs)
        finally:
            recorder.unwind(depth)

    return wrapper


def goes_to(tensor: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """`tensor.to(...)`: a device, its name, its number, or a tensor that is there."""
    target = kwargs.get("device", kwargs.get("other", args[0] if args else None))
    return bool(tensor.is_cpu) and _is_device(target) and _is_real(tensor)


def goes_to_cuda(tensor: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """`tensor.cuda(...)`."""
    return bool(tensor.is_cpu) and _is_real(tensor)


def is_copied_over(tensor: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """`tensor.copy_(source)`."""
    source = kwargs.get("src", args[0] if args else None)
    return not tensor.is_cpu and bool(getattr(source, "is_cpu", False)) and _is_real(tensor)


def _is_device(target: Any) -> bool:
    if isinstance(target, str):
        return target.partition(":")[0] != "cpu"
    if isinstance(target, int):
        return not isinstance(target, bool)
    kind = getattr(getattr(target, "device", target), "type", None)  # of a tensor, or of a device
    return isinstance(kind, str) and kind != "cpu"


def _is_real(tensor: Any) -> bool:
    """Not one that a compiler looks at."""
    return type(tensor).__name__ not in ("FakeTensor", "FunctionalTensor")


def _look(seen: Copies, tensor: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    source = tensor if tensor.is_cpu else kwargs.get("src", args[0] if args else tensor)
    flags = [value for value in args[1:2] + args[:1] if isinstance(value, bool)]
    seen.add(
        int(source.numel() * source.element_size()),
        pinned=bool(source.is_pinned()),
        non_blocking=bool(kwargs.get("non_blocking", flags[0] if flags else False)),
    )
