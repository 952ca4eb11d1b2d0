"""Layers that a step calls on one piece of the batch after the other: frames, samples, moments.

Told from the graph that a backward pass goes through: many operations with the same weights and of
the same shape, none of whose inputs come from what they gave for another piece. All pieces at once
are one operation of more samples.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from perfdoctor.collect.script.arithmetic import UntoldError, output_shape, parameter_of
from perfdoctor.collect.script.timed_ways import Took, two_ways

#: Operations with weights → where their input and their weights are among what comes into them.
_PLACES = {"ConvolutionBackward0": (0, 1), "AddmmBackward0": (1, 2), "MmBackward0": (0, 1)}
_CONVOLUTION = "ConvolutionBackward0"
#: What only looks at the same numbers otherwise, and costs what starting it costs.
_VIEW = re.compile(
    r"((Unsafe)?View|ReshapeAlias|Expand|Transpose|Permute|T|Unsqueeze|Squeeze|Select|Slice|Split"
    r"|Unbind|Alias)Backward\d"
)
#: Fewer calls are views, crops or networks that are compared.
_LEAST_PIECES = 8
#: Layers that are looked into, the largest first; the others go the same way.
_MOST_LAYERS = 4
#: Numbers that all pieces give together, of which it is timed.
_NUMBERS = 2_000_000


@dataclass(frozen=True)
class _Pieces:
    """So many calls that give `gives` each, with weights of that shape; `steps` of a convolution:
    its stride, padding and dilation in each dimension, and the groups of its channels."""

    calls: int
    gives: tuple[int, ...]
    weight: tuple[int, ...]
    steps: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] = ((), (), ())
    groups: int = 1

    @property
    def numbers(self) -> int:
        return math.prod(self.gives)

    @property
    def timed(self) -> int:
        """Calls of which it is timed."""
        return min(self.calls, _NUMBERS // max(1, self.numbers))

    @property
    def takes(self) -> tuple[int, ...]:
        """The shape of what a call is given."""
        if len(self.weight) == 2:
            return (self.gives[0], self.weight[1])
        stride, padding, dilation = self.steps
        pixels = (
            max(1, (out - 1) * s + d * (k - 1) + 1 - 2 * p)
            for out, k, s, p, d in zip(
                self.gives[2:], self.weight[2:], stride, padding, dilation, strict=True
            )
        )
        return (self.gives[0], self.weight[1] * self.groups, *pixels)


@dataclass(frozen=True, order=True)
class _Repeated:
    """Parts of a graph's operations: those of which there is one a piece, and of them those with
    weights and those that are views."""

    all: float = 0.0
    layers: float = 0.0
    views: float = 0.0


class LayersOnPieces:
    """Those of one step."""

    def __init__(self) -> None:
        self._found: list[_Pieces] | None = None
        self._repeated = _Repeated()
        self._took: tuple[tuple[Took, Took], tuple[Took, Took]] | None = None

    def note(self, functions: Collection[Any]) -> None:
        """The operations that a backward pass goes through."""
        try:
            found, in_order = _found(functions)
        except UntoldError:
            return
        self._found = [*(self._found or []), *found]
        if found:
            self._repeated = max(self._repeated, _repeated(functions, found, in_order=in_order))

    def measure(self) -> None:
        """Sees how long the largest takes, and on all pieces at once; for when the training is
        over, and on the host only."""
        one = self._largest
        if one is not None and one.timed >= _LEAST_PIECES:
            self._took = _layer_took(one), _beside_took(one)

    def settings(self) -> dict[str, Any]:
        """As configuration; empty where no step was looked into, or it was not timed."""
        one, took = self._largest, self._took
        if self._found is None or (one is not None and took is None):
            return {}
        if one is None or took is None:
            return {"pieces_calls": 0}
        (now, then), (small, large) = took
        return {
            "pieces_calls": one.calls,
            "pieces_samples": one.gives[0],
            "pieces_operations": self._repeated.all,
            "pieces_of_layers": self._repeated.layers,
            "pieces_of_views": self._repeated.views,
            "pieces_left": min(1.0, then.both_s / now.both_s),
            "pieces_beside_left": min(1.0, large.both_s / small.both_s),
            "pieces_times_beside": now.both_s / small.both_s,
        }

    @property
    def _largest(self) -> _Pieces | None:
        return max(self._found or (), key=lambda one: one.calls * one.numbers, default=None)


def _repeated(
    functions: Collection[Any], found: Collection[_Pieces], *, in_order: bool
) -> _Repeated:
    """By their kinds; where others have to go one after the other, of the layers found only."""
    if in_order:
        own = sum(one.calls for one in found) / len(functions)
        return _Repeated(own, own)
    calls = max(one.calls for one in found)
    kinds = Counter(type(function).__name__ for function in functions)
    many = {kind: n for kind, n in kinds.items() if n >= calls - 1}
    layers = sum(n for kind, n in many.items() if kind in _PLACES)
    views = sum(n for kind, n in many.items() if _VIEW.fullmatch(kind))
    return _Repeated(*(n / len(functions) for n in (sum(many.values()), layers, views)))


def _found(functions: Iterable[Any]) -> tuple[list[_Pieces], bool]:
    """The largest layers that are called on pieces; and whether others are called one after the
    other because each needs what the one before gave."""
    calls: dict[int, list[Any]] = defaultdict(list)
    recurrent = 0
    for function in functions:
        recurrent += "Rnn" in type(function).__name__
        weight = _weight(function)
        if weight is not None:
            calls[id(weight)].append(function)
    many = [group for group in calls.values() if len(group) >= _LEAST_PIECES]
    many.sort(key=lambda group: len(group) * math.prod(output_shape(group[0])), reverse=True)
    free = [group for group in many[:_MOST_LAYERS] if not _fed_back(group)]
    in_order = recurrent >= _LEAST_PIECES or len(free) < len(many[:_MOST_LAYERS])
    return [one for one in map(_pieces, free) if one is not None], in_order


def _weight(function: Any) -> Any:
    """The parameter that an operation multiplies with; None of any other operation."""
    places = _PLACES.get(type(function).__name__)
    if places is None or len(function.next_functions) <= places[1]:
        return None
    below = function.next_functions[places[1]][0]
    if type(below).__name__ == "TBackward0":
        below = below.next_functions[0][0]
    return None if below is None else parameter_of(below)


def _pieces(group: list[Any]) -> _Pieces | None:
    shapes = {output_shape(function) for function in group}
    if len(shapes) != 1:
        return None
    first, weight = group[0], tuple(_weight(group[0]).shape)
    if type(first).__name__ != _CONVOLUTION:
        return _Pieces(len(group), shapes.pop(), weight)
    if first._saved_transposed:
        return None
    stride, padding, dilation = (
        tuple(int(n) for n in getattr(first, f"_saved_{name}"))
        for name in ("stride", "padding", "dilation")
    )
    steps = (stride, padding, dilation)
    return _Pieces(len(group), shapes.pop(), weight, steps, int(first._saved_groups))


def _fed_back(group: list[Any]) -> bool:
    """Whether an input comes from what the layer gave for another piece."""
    own = set(group)
    place = _PLACES[type(group[0]).__name__][0]
    waiting = [function.next_functions[place][0] for function in group]
    seen: set[Any] = set()
    while waiting:
        function = waiting.pop()
        if function is None or function in seen:
            continue
        if function in own:
            return True
        seen.add(function)
        waiting += [below for below, _ in function.next_functions]
    return False


def _layer_took(one: _Pieces) -> tuple[Took, Took]:
    import torch
    from torch.nn import functional

    x = torch.zeros(one.timed * one.gives[0], *one.takes[1:], requires_grad=True)
    weight = torch.zeros(one.weight, requires_grad=True)
    convolutions = (functional.conv1d, functional.conv2d, functional.conv3d)

    def layer(part: Any) -> Any:
        if len(one.weight) == 2:
            return functional.linear(part, weight)
        convolution: Any = convolutions[len(one.weight) - 3]
        stride, padding, dilation = one.steps
        return convolution(part, weight, None, stride, padding, dilation, one.groups)

    def one_by_one() -> Any:
        return torch.cat([layer(part) for part in x.split(one.gives[0])])

    return two_ways(one_by_one, lambda: layer(x), (x, weight))


def _beside_took(one: _Pieces) -> tuple[Took, Took]:
    """Of an activation of what the layer gives."""
    import torch

    x = torch.zeros(one.timed * one.gives[0], *one.gives[1:], requires_grad=True)
    parts = x.split(one.gives[0])
    return two_ways(lambda: torch.cat([part.relu() for part in parts]), x.relu, (x,))
