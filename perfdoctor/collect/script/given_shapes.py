"""The shapes of what a module is called with, and what they tell of the call before."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Tensors of one call.
_MOST_TENSORS = 8
#: Numbers of a tensor that are compared with those of the next, about 10 µs; so much is alike
#: where one goes on from the other (our own choice: hypotheses of a beam change places).
_MOST_NUMBERS, _ALIKE = 20_000, 0.75


@dataclass(frozen=True)
class Given:
    """A tensor that a call was given; `kind` is that of its numbers ("int", "float", "bool")."""

    shape: tuple[int, ...]
    kind: str


def tensors_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """Those that are arguments themselves, or in a dictionary that is the first: what lies deeper
    are states and caches."""
    values = [*args, *kwargs.values()]
    if values and isinstance(values[0], Mapping):
        values[:1] = values[0].values()
    tensor = sys.modules["torch"].Tensor
    return [one for one in values[:_MOST_TENSORS] if isinstance(one, tensor) and one.dim()]


def described(tensor: Any) -> Given:
    """What is remembered of a tensor."""
    if tensor.dtype.is_floating_point:
        return Given(tuple(tensor.shape), "float")
    is_bool = tensor.dtype is sys.modules["torch"].bool
    return Given(tuple(tensor.shape), "bool" if is_bool else "int")


def grown(before: Sequence[Given], now: Sequence[Given]) -> tuple[int, int] | None:
    """The first argument that has become one longer in one dimension, and which; None where none
    has, or where it is no input but a mask or a cache beside one."""
    if len(before) != len(now):
        return None
    for which, (a, b) in enumerate(zip(before, now, strict=True)):
        dim = _longer(a.shape, b.shape)
        if dim is not None and b.kind != "bool":
            return (which, dim) if _is_input(which, dim, now) else None
    return None


def _longer(before: tuple[int, ...], now: tuple[int, ...]) -> int | None:
    if len(before) != len(now):
        return None
    other = [i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a != b]
    return other[0] if len(other) == 1 and now[other[0]] == before[other[0]] + 1 else None


def _is_input(which: int, dim: int, given: Sequence[Given]) -> bool:
    """Not where what is called with is one position, and this a mask or what is known of those
    before; so it is where the call is given a state or a cache."""
    this = given[which]
    for i, other in enumerate(given):
        alike = i != which and len(other.shape) == len(this.shape)
        if alike and other.shape[dim] == 1 and (i < which or other.kind == "int"):
            return False
        if i < which and this.kind == "float" and len(other.shape) < len(this.shape):
            return False
    return True


def goes_on_from(before: Any, now: Any, dim: int) -> bool:
    """Whether one begins with the other. On a device nobody asks, since that would wait for it;
    nor of large tensors."""
    if before is None or not now.is_cpu or now.numel() > _MOST_NUMBERS:
        return True
    alike = now.narrow(dim, 0, before.shape[dim]) == before
    return alike.numel() > 0 and float(alike.float().mean()) >= _ALIKE


def is_small(tensor: Any) -> bool:
    """Whether it may be kept until the next call: a view would keep all that it looks into."""
    return bool(tensor.untyped_storage().nbytes() <= _MOST_NUMBERS * 8)


def is_single(given: Sequence[Given], *, batch_first: bool) -> bool:
    """Whether it is called on one sample. Where batches come second, one position of many samples
    looks the same, and has a state with it."""
    wide = [other.shape for other in given if len(other.shape) > 1 and not _masks_pairs(other)]
    if given[0].shape[0] != 1 or any(1 not in shape[:2] for shape in wide):
        return False
    return batch_first or len(wide) < 2


def _masks_pairs(given: Given) -> bool:
    """Whether it says which positions look at which, of all samples."""
    return given.kind == "bool" and len(given.shape) == 2 and given.shape[0] == given.shape[1]


def numbers_in(shape: Iterable[int]) -> int:
    """How many numbers a tensor of that shape has."""
    count = 1
    for size in shape:
        count *= size
    return count
