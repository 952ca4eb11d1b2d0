"""How much of the batches of a training is padding, and how much arithmetic padding costs.

Padding costs only what is computed for each position: not what works on packed rows, on a mean
over them, or on images beside them. The operations of one step tell that, by their shapes.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from perfdoctor.collect.script.arithmetic import (
    UntoldError,
    convolution,
    output_shape,
    product,
    recurrent,
)

#: Steps that are remembered: a median of fewer says nothing, and needs no more.
_FEWEST, _MOST = 3, 200
#: A convolution without padding gives somewhat fewer positions.
_POSITIONS_LEFT = 0.85

Shape = tuple[int, int]


class PaddedBatches:
    """What the trained modules are given in the steps that are looked into."""

    def __init__(self) -> None:
        self._steps: dict[int, list[int]] = {}  # step → positions, tokens, positions if well cut
        self._shapes: set[Shape] = set()
        self._per_position: float | None = None
        self._looked: set[int] | None = set()  # steps; None: what is on a device was not

    def note(self, step: int, module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """One call of a module from outside of any."""
        if step not in self._steps and len(self._steps) >= _MOST:
            return
        from perfdoctor.collect.script.token_rows import token_rows  # numpy has threads

        found = token_rows(module, args, kwargs)
        if found is None:
            self._looked = None
        elif self._looked is not None and len(self._looked) < _MOST:
            self._looked.add(step)
        for batch in found or ():
            if step not in self._steps:
                self._steps[step] = [0, 0, 0]
                self._shapes.clear()
            self._shapes.add((batch.rows, batch.width))
            cut = batch.rows * batch.longest
            for i, more in enumerate((batch.rows * batch.width, batch.tokens, cut)):
                self._steps[step][i] += more

    def note_graph(self, step: int, functions: Iterable[Any]) -> None:
        """The operations that a backward pass of this step goes through."""
        if step in self._steps:
            self._per_position = arithmetic_per_position(functions, self._shapes)

    def settings(self) -> dict[str, float | None]:
        """Medians of the steps; None where too few were seen, or none of what is on a device."""
        seen = list(self._steps.values()) if len(self._steps) >= _FEWEST else []
        if not self._steps and self._looked and len(self._looked) >= _FEWEST:
            seen = [[1, 1, 1]]
        tokens, cut = (
            statistics.median(step[i] / step[0] for step in seen) if seen else None for i in (1, 2)
        )
        return {
            "tokens_of_positions": tokens,
            "longest_of_positions": cut,
            "arithmetic_per_position": self._per_position if seen else None,
        }


def arithmetic_per_position(functions: Iterable[Any], shapes: Iterable[Shape]) -> float | None:
    """The part of the products and convolutions that is done for each position of such batches.

    None where there are none, as in a graph that a compiler made, and where not all are known.
    """
    try:
        return _positional_part(functions, shapes)
    except UntoldError:
        return None


def _positional_part(functions: Iterable[Any], shapes: Iterable[Shape]) -> float | None:
    products: Counter[tuple[int, int]] = Counter()  # rows, work → times
    whole = positional = 0
    for function in functions:
        rows, work = product(function)
        products[rows, work] += 1
        others = 0 if rows else convolution(function) + recurrent(function)
        whole += others
        positional += others if others and _has_positions(output_shape(function), shapes) else 0
    for (rows, work), times in products.items():
        whole += times * work
        positional += times * work if _for_each(rows, times, shapes) else 0
    return positional / whole if whole else None


def _for_each(rows: int, times: int, shapes: Iterable[Shape]) -> bool:
    """One product for all positions; or one for each, as of a recurrent layer."""
    return any(
        rows == batch * width or (rows == batch and times >= width - 1) for batch, width in shapes
    )


def _has_positions(shape: Sequence[int], shapes: Iterable[Shape]) -> bool:
    """Such as (rows, channels, positions), or (positions, rows, features)."""
    return len(shape) == 3 and any(
        batch in shape[:2]
        and any(_POSITIONS_LEFT * width <= size <= width for size in (shape[0], shape[2]))
        for batch, width in shapes
    )
