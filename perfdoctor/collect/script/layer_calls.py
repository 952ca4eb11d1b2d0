"""Calls of one layer in a step, and how long they take beside one call on all of it.

A layer with weights (linear, convolution) that is called several times on as many samples could be
called once on all of them, where nothing else forbids it.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from perfdoctor.collect.script.arithmetic import output_shape, parameter_of
from perfdoctor.collect.script.timed_ways import Took, two_ways

#: Operations with weights → where their input and their weights are among what comes into them.
PLACES = {"ConvolutionBackward0": (0, 1), "AddmmBackward0": (1, 2), "MmBackward0": (0, 1)}
_CONVOLUTION = "ConvolutionBackward0"
#: Those that are matrix products.
PRODUCTS = PLACES.keys() - {_CONVOLUTION}
#: What only looks at the same numbers otherwise, and costs what starting it costs.
_VIEW = re.compile(
    r"((Unsafe)?View|ReshapeAlias|Expand|Transpose|Permute|T|Unsqueeze|Squeeze|Select|Slice|Split"
    r"|Unbind|Alias)Backward\d"
)
#: Numbers that all calls give together, of which it is timed.
_NUMBERS = 2_000_000


@dataclass(frozen=True)
class LayerCalls:
    """So many calls that give `gives` each, with weights of that shape; `steps` of a convolution:
    its stride, padding and dilation in each dimension, and the groups of its channels."""

    calls: int
    gives: tuple[int, ...]
    weight: tuple[int, ...]
    steps: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] = ((), (), ())
    groups: int = 1

    @property
    def numbers(self) -> int:
        """That a call gives."""
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

    def apply(self, x: Any, weight: Any) -> Any:
        """What the layer gives."""
        from torch.nn import functional

        if len(self.weight) == 2:
            return functional.linear(x, weight)
        convolutions: Any = (functional.conv1d, functional.conv2d, functional.conv3d)
        stride, padding, dilation = self.steps
        convolution = convolutions[len(self.weight) - 3]
        return convolution(x, weight, None, stride, padding, dilation, self.groups)


@dataclass(frozen=True)
class Ways:
    """Call by call, and all at once: of the layer, and of an activation of what it gives."""

    layer: tuple[Took, Took]
    beside: tuple[Took, Took]


def timed_ways(one: LayerCalls) -> Ways:
    """How long both take; for when the training is over, and on the host only."""
    return Ways(_layer_took(one), _beside_took(one))


@dataclass(frozen=True, order=True)
class Repeated:
    """Parts of a graph's operations: those of which there is one for each call, and of them those
    with weights and those that are views."""

    all: float = 0.0
    layers: float = 0.0
    views: float = 0.0


def by_kind(functions: Collection[Any], kinds: Iterable[str]) -> Repeated:
    """Of operations of these kinds."""
    counts = Counter(type(function).__name__ for function in functions)
    many = {kind: counts[kind] for kind in kinds}
    layers = sum(n for kind, n in many.items() if kind in PLACES)
    views = sum(n for kind, n in many.items() if _VIEW.fullmatch(kind))
    return Repeated(*(n / len(functions) for n in (sum(many.values()), layers, views)))


def told(name: str, one: LayerCalls, repeated: Repeated, took: Ways) -> dict[str, Any]:
    """As configuration, under names that begin so."""
    (now, then), (small, large) = took.layer, took.beside
    found = {
        "calls": one.calls,
        "samples": one.gives[0],
        "operations": repeated.all,
        "of_layers": repeated.layers,
        "of_views": repeated.views,
        "left": min(1.0, then.both_s / now.both_s),
        "beside_left": min(1.0, large.both_s / small.both_s),
        "times_beside": now.both_s / small.both_s,
    }
    return {f"{name}_{key}": value for key, value in found.items()}


def weight_of(function: Any) -> Any:
    """The parameter that an operation multiplies with; None of any other operation."""
    places = PLACES.get(type(function).__name__)
    if places is None or len(function.next_functions) <= places[1]:
        return None
    below = function.next_functions[places[1]][0]
    if type(below).__name__ == "TBackward0":
        below = below.next_functions[0][0]
    return None if below is None else parameter_of(below)


def by_weight(functions: Iterable[Any]) -> list[list[Any]]:
    """The operations that multiply with a parameter, those with the same one together."""
    found: dict[int, list[Any]] = defaultdict(list)
    for function in functions:
        weight = weight_of(function)
        if weight is not None:
            found[id(weight)].append(function)
    return list(found.values())


def given_to(call: Any) -> Any:
    """Where what an operation with weights is given comes from; None of what needs no gradient."""
    return call.next_functions[PLACES[type(call).__name__][0]][0]


def _edges(function: Any) -> Any:
    return function.next_functions


def comes_from(
    starts: Iterable[Any], sought: Iterable[Any], edges: Callable[[Any], Any] = _edges
) -> bool:
    """Whether one of `sought` is among the operations from `starts` on down, as far as `edges`
    lead."""
    waiting, own, seen = list(starts), set(sought), set[Any]()
    while waiting:
        function = waiting.pop()
        if function is None or function in seen:
            continue
        if function in own:
            return True
        seen.add(function)
        waiting += [below for below, _ in edges(function)]
    return False


def calls_of(group: list[Any]) -> LayerCalls | None:
    """Operations with the same weights; None where they are not of one shape, or transposed.

    Raises:
        UntoldError: this torch does not tell shapes.
    """
    shapes = {output_shape(function) for function in group}
    if len(shapes) != 1:
        return None
    first, weight = group[0], tuple(weight_of(group[0]).shape)
    if type(first).__name__ != _CONVOLUTION:
        return LayerCalls(len(group), shapes.pop(), weight)
    if first._saved_transposed:
        return None
    stride, padding, dilation = (
        tuple(int(n) for n in getattr(first, f"_saved_{name}"))
        for name in ("stride", "padding", "dilation")
    )
    steps = (stride, padding, dilation)
    return LayerCalls(len(group), shapes.pop(), weight, steps, int(first._saved_groups))


def _layer_took(one: LayerCalls) -> tuple[Took, Took]:
    import torch

    x = torch.zeros(one.timed * one.gives[0], *one.takes[1:], requires_grad=True)
    weight = torch.zeros(one.weight, requires_grad=True)

    def one_by_one() -> Any:
        return torch.cat([one.apply(part, weight) for part in x.split(one.gives[0])])

    return two_ways(one_by_one, lambda: one.apply(x, weight), (x, weight))


def _beside_took(one: LayerCalls) -> tuple[Took, Took]:
    """Of an activation of what the layer gives."""
    import torch

    x = torch.zeros(one.timed * one.gives[0], *one.gives[1:], requires_grad=True)
    parts = x.split(one.gives[0])
    return two_ways(lambda: torch.cat([part.relu() for part in parts]), x.relu, (x,))
