"""What of a graph a call of `torch.autograd.grad` goes through: the way to its inputs alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_LEAF = "AccumulateGrad"
#: Adds up all of a tensor. Whoever writes it anew for each call means the same tensor.
_SUMS = ("SumBackward0", "MeanBackward0")

#: An operation, and which of the tensors that went into it.
Edge = tuple[str, int, int]


def numbered(node: Any) -> tuple[str, int]:
    """What tells an operation from others of its step without keeping it."""
    return type(node).__name__, int(node._sequence_nr())


def output_key(tensor: Any) -> tuple[Any, ...]:
    """The same for the same tensor, and for the sum (or the mean) of all of it."""
    node, number, kind = tensor.grad_fn, tensor.output_nr, ""
    if type(node).__name__ in _SUMS and not tensor.dim():
        after, place = node.next_functions[0]
        if after is not None and type(after).__name__ != _LEAF:
            kind, node, number = type(node).__name__, after, place
    return (kind, *numbered(node), number, tuple(tensor.shape))


def edges_to(outputs: Sequence[Any], inputs: Sequence[Any], most: int) -> set[Edge] | None:
    """The edges along which gradients of `inputs` are computed; None where the graph has more
    operations than `most`."""
    leaves = {id(tensor) for tensor in inputs if tensor.grad_fn is None}
    ends = {(t.grad_fn, t.output_nr) for t in inputs if t.grad_fn is not None}
    above: dict[Any, list[tuple[Any, int]]] = {tensor.grad_fn: [] for tensor in outputs}
    waiting, reached = list(above), list[tuple[Any, int]]()
    while waiting:
        node = waiting.pop()
        for place, (after, number) in enumerate(node.next_functions):
            if after is None:
                continue
            if type(after).__name__ == _LEAF:
                if id(after.variable) in leaves:
                    reached.append((node, place))
                continue
            if (after, number) in ends:
                reached.append((node, place))
            if after not in above:
                above[after] = []
                waiting.append(after)
            above[after].append((node, place))
        if len(above) > most:
            return None
    return _upwards(reached, above)


def _upwards(reached: list[tuple[Any, int]], above: dict[Any, list[tuple[Any, int]]]) -> set[Edge]:
    """These edges and all that lead to them."""
    found, climbed = set[Edge](), set[Any]()
    while reached:
        node, place = reached.pop()
        found.add((*numbered(node), place))
        if node not in climbed:
            climbed.add(node)
            reached += above[node]
    return found
