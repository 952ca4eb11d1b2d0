"""Convolutions of one pixel right after an upsampling, which could come before it.

Both are linear, and the weights of an interpolation add up to one: a convolution of one pixel, its
bias included, gives the same before and after it, but before it has fewer pixels to work on, and
the upsampling fewer channels. Told from the graph that a backward pass goes through.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from perfdoctor.collect.script.arithmetic import parameter_of
from perfdoctor.collect.script.timed_ways import Took, two_ways

_CONVOLUTION = "ConvolutionBackward0"
_UPSAMPLING = re.compile(
    r"Upsample(NearestExact|Nearest|Linear|Bilinear|Trilinear|Bicubic)[123]DBackward\d"
)
#: How `interpolate` calls them.
_MODES = {"NearestExact": "nearest-exact"}
#: Numbers that are upsampled to see how long it takes, above the 32 MiB from which memory comes
#: from the system each time. Half a second in all.
_NUMBERS = 10_000_000


@dataclass(frozen=True)
class _Head:
    """An upsampling of `shape` to the sizes `to`, of which a convolution makes `gives` channels."""

    shape: tuple[int, ...]
    to: tuple[int, ...]
    gives: int
    mode: str
    bias: bool

    @property
    def times(self) -> float:
        """Pixels after the upsampling ÷ before."""
        return math.prod(self.to) / math.prod(self.shape[2:])

    @property
    def numbers(self) -> int:
        """That the upsampling gives."""
        return self.shape[0] * self.shape[1] * math.prod(self.to)

    @property
    def parts(self) -> float:
        """How many times as much it is as what is measured."""
        return self.shape[0] / self.rows

    @property
    def rows(self) -> int:
        """Samples of which it is measured."""
        return max(1, min(self.shape[0], _NUMBERS * self.shape[0] // self.numbers))


class LateHeads:
    """Those of one step."""

    def __init__(self) -> None:
        self._heads: list[_Head] | None = None
        self._took: tuple[Took, Took] | None = None

    def note(self, functions: Collection[Any]) -> None:
        """The operations that a backward pass goes through."""
        used = Counter(below for f in functions for below, _ in f.next_functions)
        alone = [f for f in functions if (below := _upsampling_below(f)) and used[below] == 1]
        found = [head for head in map(_head, alone) if head is not None]
        self._heads = [*(self._heads or []), *found]

    def measure(self) -> None:
        """Sees how long the largest takes, and would before the upsampling; for when the training
        is over, and on the host only."""
        most = self._most
        if most is not None:
            self._took = _took(most)

    def settings(self) -> dict[str, Any]:
        """As configuration; empty where no step was looked into, or it was not measured."""
        most, took = self._most, self._took
        if self._heads is None or (most is not None and took is None):
            return {}
        if most is None or took is None:
            return {"late_head_s": 0.0}
        late, early = took
        same = self._heads.count(most)
        return {
            "late_head_s": same * most.parts * late.both_s,
            "late_head_left": early.both_s / late.both_s,
            "late_head_backward": late.backward_s / late.forward_s,
            "late_head_times": most.times,
            "late_head_takes": most.shape[1],
            "late_head_gives": most.gives,
        }

    @property
    def _most(self) -> _Head | None:
        return max(self._heads or (), key=lambda head: head.numbers, default=None)


def _head(function: Any) -> _Head | None:
    """The upsampling and the convolution of one pixel that this convolution is; None of another."""
    below, weight = _upsampling_below(function), parameter_of(function.next_functions[1][0])
    if weight is None or not _of_one_pixel(function, weight):
        return None
    shape = tuple(int(size) for size in below._saved_self_sym_sizes)
    to = tuple(int(size) for size in below._saved_output_size or ())
    # More channels after than before would be more to upsample.
    if len(to) != len(shape) - 2 or math.prod(to) <= math.prod(shape[2:]):
        return None
    if weight.shape[0] > weight.shape[1]:
        return None
    kind = _UPSAMPLING.fullmatch(type(below).__name__)
    mode = "" if kind is None else _MODES.get(kind[1], kind[1].lower())
    bias = len(function.next_functions) > 2 and function.next_functions[2][0] is not None
    return _Head(shape, to, int(weight.shape[0]), mode, bias)


def _upsampling_below(function: Any) -> Any:
    """What a convolution is of, if that is an upsampling; None else."""
    if type(function).__name__ != _CONVOLUTION or not function.next_functions:
        return None
    below = function.next_functions[0][0]
    return below if _UPSAMPLING.fullmatch(type(below).__name__) else None


def _of_one_pixel(function: Any, weight: Any) -> bool:
    ones = all(size == 1 for size in weight.shape[2:])
    plain = all(step == 1 for step in function._saved_stride)
    unpadded = all(int(size) == 0 for size in function._saved_padding)
    return ones and plain and unpadded and int(function._saved_groups) == 1


def _took(head: _Head) -> tuple[Took, Took]:
    """How long it takes, and takes before the upsampling, in turns; of a part of its samples."""
    import torch
    from torch.nn import functional

    here: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
    pixels = len(head.to)
    x = torch.zeros(head.rows, *head.shape[1:], requires_grad=True, **here)
    weight = torch.zeros(head.gives, head.shape[1], *[1] * pixels, requires_grad=True, **here)
    bias = torch.zeros(head.gives, **here) if head.bias else None
    convolution = (functional.conv1d, functional.conv2d, functional.conv3d)[pixels - 1]

    def convolve(value: Any) -> Any:
        return convolution(value, weight, bias)

    def upsample(value: Any) -> Any:
        return functional.interpolate(value, size=head.to, mode=head.mode)

    return two_ways(lambda: convolve(upsample(x)), lambda: upsample(convolve(x)), (x, weight))
