"""Recurrent layers that a step calls for one moment after the other, though all are known.

torch's LSTM takes a whole sequence in one operation, on a CPU as on a GPU. Told from the graph that
a backward pass goes through: many such operations of one layer, each of a single moment, none of
whose inputs come from what the layer gave before (then they could not be known).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from perfdoctor.collect.script.arithmetic import UntoldError, output_shape, parameter_of
from perfdoctor.collect.script.layer_calls import comes_from
from perfdoctor.collect.script.recurrence import Recurrence
from perfdoctor.collect.script.stepped_cells import cell_took, cells_of
from perfdoctor.collect.script.timed_ways import Took, two_ways

_RECURRENT = "RnnBackward", "RnnLayerBackward"
#: Shorter sequences are no loop worth a word.
_LEAST_MOMENTS = 8


@dataclass(frozen=True)
class _Ways:
    """One moment after the other, and all at once: of the layer, and of what is done beside it."""

    layer: tuple[Took, Took]
    beside: tuple[Took, Took]


class SteppedLayers:
    """Those of one step."""

    def __init__(self) -> None:
        self._found: list[Recurrence] | None = None
        self._repeated = 0.0
        self._took: _Ways | None = None

    def note(self, functions: Collection[Any]) -> None:
        """The operations that a backward pass goes through."""
        try:
            found = [one for calls in _layers(functions) if (one := _stepped(calls)) is not None]
            found = found or list(cells_of(functions, _LEAST_MOMENTS))
        except UntoldError:
            return
        self._found = [*(self._found or []), *found]
        if found:
            own = sum(one.own_operations for one in found)
            self._repeated = _repeated(functions, found[0].moments) - own / len(functions)

    def measure(self) -> None:
        """Sees how long one takes, and in one call; for when the training is over, and on the host
        only."""
        if self._found and self._largest.timed < _LEAST_MOMENTS:
            self._found = []
        elif self._found:
            self._took = _took(self._largest)

    def settings(self) -> dict[str, Any]:
        """As configuration; empty where no step was looked into."""
        if self._found is None:
            return {}
        if not self._found:
            return {"stepped_layers": 0}
        one, took = self._largest, self._took
        told: dict[str, Any] = {
            "stepped_layers": len(self._found),
            "stepped_moments": one.moments,
            "stepped_operations": max(0.0, self._repeated),
        }
        if one.is_cell:
            told["stepped_cell"] = one.kind
        if took is None:  # on a device
            return told
        (now, then), (small, large) = took.layer, took.beside
        return told | {
            "stepped_s": len(self._found) * one.moments / one.timed * now.both_s,
            "stepped_left": then.both_s / now.both_s,
            "stepped_beside_left": min(1.0, large.both_s / small.both_s),
        }

    @property
    def _largest(self) -> Recurrence:
        return max(self._found or (), key=lambda one: one.gives * (one.takes + one.gives))


def _repeated(functions: Collection[Any], moments: int) -> float:
    """The part of the operations of which there is one for each moment, or more, by their kinds."""
    kinds = Counter(type(function).__name__ for function in functions)
    return sum(n for n in kinds.values() if n >= moments - 1) / len(functions)


def _layers(functions: Iterable[Any]) -> Iterable[list[Any]]:
    """Operations of recurrent layers, by the weights of their inputs."""
    found: dict[int, list[Any]] = defaultdict(list)
    for function in functions:
        if _is_recurrent(function):
            weight = _weight(function)
            if weight is not None:
                found[id(weight)].append(function)
    return found.values()


def _is_recurrent(function: Any) -> bool:
    return type(function).__name__.rstrip("0123456789").endswith(_RECURRENT)


def _weight(function: Any) -> Any:
    """The first weights that come into the operation."""
    leaves = (parameter_of(below) for below, _ in function.next_functions if below is not None)
    return next((leaf for leaf in leaves if leaf is not None and leaf.dim() > 1), None)


def _stepped(calls: list[Any]) -> Recurrence | None:
    """The layer of these calls; None if it is not called moment by moment, or has to be."""
    shapes = {output_shape(call) for call in calls}
    shape = next(iter(shapes))
    if len(calls) < _LEAST_MOMENTS or len(shapes) > 1 or len(shape) != 3 or 1 not in shape[:2]:
        return None
    if _fed_back(calls):
        return None
    weight = _weight(calls[0])
    return Recurrence(len(calls), shape[0] * shape[1], int(weight.shape[1]), shape[2])


def _fed_back(calls: Collection[Any]) -> bool:
    """Whether an input comes from what the layer gave for another moment."""
    starts = [call.next_functions[0][0] for call in calls if call.next_functions]
    return comes_from(starts, calls, _edges)


def _edges(function: Any) -> Any:
    """The states of all layers are one tensor: by these every layer would depend on every other."""
    return function.next_functions[:1] if _is_recurrent(function) else function.next_functions


def _took(one: Recurrence) -> _Ways:
    return _Ways(cell_took(one) if one.is_cell else _layer_took(one), _beside_took(one))


def _layer_took(one: Recurrence) -> tuple[Took, Took]:
    import torch

    x, weights, first = one.inputs(), one.weights(), one.first_state()

    def moment_by_moment() -> Any:
        state, given = first, []
        for part in x.split(1):
            output, state = one.sequence(part, state, weights)
            given.append(output)
        return torch.cat(given)

    return two_ways(moment_by_moment, lambda: one.sequence(x, first, weights)[0], (x, *weights))


def _beside_took(one: Recurrence) -> tuple[Took, Took]:
    """Of an operation on what the layer gives, such as an activation."""
    import torch

    x = torch.zeros(one.timed, one.batch, one.gives, requires_grad=True)
    parts = x.split(1)
    return two_ways(lambda: torch.cat([part.tanh() for part in parts]), x.tanh, (x,))
