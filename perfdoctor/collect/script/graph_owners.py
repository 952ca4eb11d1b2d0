"""Whose parameters the operations of a graph lead to: what of a backward pass is for whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: What belongs to no owner, or to several: inputs that are differentiated for, frozen weights.
NOBODY = 1
#: Hides what it leads to: its part of the model is differentiated in a backward pass of its own.
_HIDES = "CheckpointFunctionBackward"
_LEAF = "AccumulateGrad"


@dataclass(frozen=True)
class OwnedGraph:
    """A graph whose operations are known to lead to which owners' parameters.

    Attributes:
        nodes: its operations in the order in which a backward pass does them, newest first.
        owners: operation or parameter's end → the owners that it leads to, one bit each.
    """

    nodes: Sequence[Any]
    owners: Mapping[Any, int]

    def edges_into(self, owner: int) -> Iterator[tuple[Any, Any]]:
        """Operations for others too, with those they rest on that are for this owner alone."""
        for node in self.nodes:
            if self.owners[node] & owner and self.owners[node] != owner:
                for after, _ in node.next_functions:
                    if after is not None and self.owners[after] == owner and not is_leaf(after):
                        yield node, after

    def turns(self, owner: int) -> Iterator[tuple[Any, bool]]:
        """Where a backward pass comes to what is for this owner alone (True), and leaves it."""
        inside = False
        for node in self.nodes:
            if (self.owners[node] == owner) != inside:
                inside = not inside
                yield node, inside

    def parameters(self, owner: int) -> Iterator[tuple[Any, Any]]:
        """Operations for this owner alone that one of its parameters went into, with that."""
        for node in self.nodes:
            if self.owners[node] == owner:
                for after, _ in node.next_functions:
                    if after is not None and is_leaf(after):
                        yield node, after.variable


def is_leaf(node: Any) -> bool:
    """Whether it is a parameter's end of the graph, where its gradient is added up."""
    return type(node).__name__ == _LEAF


def owned_graph(
    tensors: Sequence[Any], owner_of: Callable[[Any], int], most: int
) -> OwnedGraph | None:
    """The graph behind these tensors; None where it has more operations than `most`, or was not
    made in the order of their numbers, as by several threads."""
    nodes = nodes_behind(tensors, most)
    if nodes is None:
        return None
    operations = sorted((n for n in nodes if not is_leaf(n)), key=lambda n: n._sequence_nr())
    owners = {n: owner_of(n.variable) for n in nodes if is_leaf(n)}
    for node in operations:
        found = NOBODY if type(node).__name__ == _HIDES else 0
        for after, _ in node.next_functions:
            if after is not None:
                if after not in owners:
                    return None
                found |= owners[after]
        owners[node] = found
    return OwnedGraph(operations[::-1], owners)


def nodes_behind(tensors: Sequence[Any], most: int) -> set[Any] | None:
    """All operations that these lead to, and the leaves; None where they are more than `most`."""
    waiting = [tensor.grad_fn for tensor in tensors if getattr(tensor, "grad_fn", None) is not None]
    seen = set(waiting)
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is not None and node not in seen:
                seen.add(node)
                waiting.append(node)
        if len(seen) > most:
            return None
    return seen
