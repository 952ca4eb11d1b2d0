"""Fourier transforms of padded signals, as a convolution makes them: their lengths are free.

Told from the graph that a backward pass goes through, so that nothing has to be wrapped: an inverse
transform of which only a part is kept, of nothing but products of transforms of padded tensors.
Such a convolution stays the same however far is padded. A Fourier neural operator, a filter given
by its frequencies and a circular convolution do not look so, and their lengths mean something.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

_FORWARD, _INVERSE = ("FftR2CBackward0", "FftC2CBackward0"), ("FftC2RBackward0", "FftC2CBackward0")
_SLICE, _PADDING = "SliceBackward0", "ConstantPadNdBackward0"
#: Between an inverse transform and the part of it that is kept.
_SEEN_THROUGH = frozenset((_SLICE, "SelectBackward0", "ViewAsRealBackward0"))
#: What a product of spectra is made of, whatever their length.
_PRODUCT = re.compile(
    r"(?:Mul|Bmm|Mm|Add|Sub|Sum|Conj|ResolveConj|Neg|Clone|View|UnsafeView|Unsqueeze|Squeeze|Expand"
    r"|Permute|Transpose|T|Alias)Backward\d"
)
_MOST_BETWEEN, _DEEPEST = 200, 6
#: Factors of lengths that are transformed fast.
_FAST = (2, 3, 5, 7)
#: Numbers that are transformed to see how long it takes, and how often: a few ms in all.
_NUMBERS, _TIMES = 60_000, 5


@dataclass(frozen=True)
class _Transform:
    """`lengths` along the dimensions that are transformed; which of them are `free`."""

    lengths: tuple[int, ...]
    free: tuple[bool, ...]
    real: bool

    def faster(self) -> _Transform:
        """The same with the next fast lengths."""
        both = zip(self.lengths, self.free, strict=True)
        fast = tuple(next_fast(length) if free else length for length, free in both)
        return replace(self, lengths=fast)


@dataclass
class _Kept:
    """An inverse transform of which parts are kept: its whole sizes, and where the end is cut."""

    sizes: tuple[int, ...]
    cut: set[int] = field(default_factory=set)


class PaddedTransforms:
    """Those of one step."""

    def __init__(self) -> None:
        self._seen: Counter[_Transform] = Counter()  # → how many belong to such convolutions
        self._all: int | None = None  # transforms
        self._slower: float | None = None

    def note(self, functions: Collection[Any]) -> None:
        """The operations that a backward pass goes through."""
        here = sum(_named(f) in (*_FORWARD, *_INVERSE) for f in functions)
        self._all = (self._all or 0) + here
        if here:
            for inverse, kept in _kept_of(functions).items():
                self._note_one(inverse, kept)

    def measure(self) -> None:
        """Sees how much slower they are than with the next fast length; for when the training is
        over, and on the host only."""
        most = self._most
        if most is None:
            return
        slow, fast = (1.0, 1.0) if most.faster() == most else _took_s(most, most.faster())
        self._slower = slow / fast if fast > 0 else None

    def settings(self) -> dict[str, Any]:
        """As configuration; empty where no step was looked into."""
        if self._all is None:
            return {}
        most = self._most
        part = min(1.0, self._seen[most] / self._all) if most is not None and self._all else 0.0
        return {"fft_padded_part": part} | self._measured()

    @property
    def _most(self) -> _Transform | None:
        return max(self._seen, key=lambda one: self._seen[one], default=None)

    def _note_one(self, inverse: Any, kept: _Kept) -> None:
        dims = tuple(_dimension(dim, len(kept.sizes)) for dim in inverse._saved_dim)
        if not kept.cut or not kept.cut <= set(dims):
            return
        padded = _padded_below(inverse, {len(kept.sizes) - dim for dim in kept.cut})
        if padded >= 2:  # the signal and its filter
            lengths = tuple(kept.sizes[dim] for dim in dims)
            free = tuple(dim in kept.cut for dim in dims)
            self._seen[_Transform(lengths, free, _named(inverse) == _INVERSE[0])] += 1 + padded

    def _measured(self) -> dict[str, Any]:
        most = self._most
        if most is None or self._slower is None:
            return {}
        both = zip(most.lengths, most.faster().lengths, strict=True)
        length, fast = max(both, key=lambda pair: pair[1] != pair[0])
        return {"fft_length": length, "fft_fast_length": fast, "fft_slower": self._slower}


def next_fast(length: int) -> int:
    """The least length that is at least this and has no prime factor above seven."""
    while not _is_fast(length):
        length += 1
    return length


def _is_fast(length: int) -> bool:
    for factor in _FAST:
        while length > 1 and length % factor == 0:
            length //= factor
    return length <= 1


def _named(function: Any) -> str:
    return type(function).__name__


def _sizes(function: Any) -> tuple[int, ...]:
    """Of what a slice is taken of; torch 2.0 gave it another name."""
    saved = getattr(function, "_saved_self_sym_sizes", None)
    return tuple(int(size) for size in saved or function._saved_self_sizes)


def _dimension(saved: int, count: int) -> int:
    """A dimension counted from the front: one counted from the end is saved without its sign."""
    return int(saved - 2**64 if saved >= 2**63 else saved) % count


def _kept_of(functions: Collection[Any]) -> dict[Any, _Kept]:
    """Inverse transforms of which a first part is all that is used."""
    found: dict[Any, _Kept] = {}
    for function in functions:
        inverse, sizes = _below_slices(function) if _named(function) == _SLICE else (None, ())
        if inverse is None:
            continue
        kept = found.setdefault(inverse, _Kept(sizes))
        dim = _dimension(function._saved_dim, len(sizes))
        if function._saved_step == 1 and function._saved_end < _sizes(function)[dim]:
            kept.cut.add(dim)
    return found


def _below_slices(function: Any) -> tuple[Any, tuple[int, ...]]:
    """The inverse transform right below a slice, and its sizes; None for it where there is none."""
    sizes: tuple[int, ...] = ()
    for _ in range(_DEEPEST):
        if _named(function) == _SLICE:
            sizes = _sizes(function)
        below = function.next_functions[0][0]
        if _named(below) in _INVERSE and not getattr(below, "_saved_forward", False):
            return below, sizes
        if _named(below) not in _SEEN_THROUGH:
            break
        function = below
    return None, ()


def _padded_below(inverse: Any, from_end: Collection[int]) -> int:
    """How many transforms of tensors padded along these dimensions an inverse one is the product
    of; 0 where it is of anything else."""
    waiting, seen, padded = [inverse], {inverse}, 0
    while waiting:
        for below, _ in waiting.pop().next_functions:
            if below is None or below in seen:
                continue
            seen.add(below)
            if _is_padded(below, from_end):
                padded += 1
            elif _PRODUCT.fullmatch(_named(below)) and len(seen) < _MOST_BETWEEN:
                waiting.append(below)
            else:
                return 0
    return padded


def _is_padded(function: Any, from_end: Collection[int]) -> bool:
    """Whether this is the transform of something that was padded there."""
    if _named(function) not in _FORWARD or not getattr(function, "_saved_forward", True):
        return False
    below = function.next_functions[0][0]
    if _named(below) != _PADDING:
        return False
    pad = below._saved_pad
    return all(sum(pad[2 * place - 2 : 2 * place]) > 0 for place in from_end)


def _took_s(*transforms: _Transform) -> list[float]:
    """The least time that each takes, in turns."""
    import torch

    calls = [_call(torch, one) for one in transforms]
    took_s = [math.inf] * len(calls)
    for turn in range(_TIMES + 1):
        for place, call in enumerate(calls):
            began = time.perf_counter()
            call()
            if turn:  # the first one plans
                took_s[place] = min(took_s[place], time.perf_counter() - began)
    return took_s


def _call(torch: Any, one: _Transform) -> Callable[[], Any]:
    """A transform there and back."""
    dims = tuple(range(1, len(one.lengths) + 1))
    rows = max(1, _NUMBERS // math.prod(one.lengths))
    fft = torch.fft
    there, back = (fft.rfftn, fft.irfftn) if one.real else (fft.fftn, fft.ifftn)
    numbers = torch.zeros(rows, *one.lengths, dtype=torch.float32, device="cpu")
    return lambda: back(there(numbers, dim=dims), s=one.lengths, dim=dims)
