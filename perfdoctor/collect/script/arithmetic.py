"""How much a step multiplies, read off the shapes in the graph that its backward pass takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_RECURRENT_GATES = 8
#: Under autocast weights are cast on their way: so many operations lie before them at most.
_CASTS = 2


class UntoldError(Exception):
    """This torch does not tell the shapes of what operations gave, as those before 2.5."""


@dataclass
class Arithmetic:
    """Multiplications of the forward passes of a step: in matrix products, in convolutions, and in
    recurrent layers that are one operation.

    `told` is False where there was an operation of which they are not known.
    """

    products: int = 0
    convolutions: int = 0
    recurrent: int = 0
    told: bool = True

    def add(self, functions: Iterable[Any]) -> None:
        """The operations that a backward pass goes through."""
        for function in functions:
            rows, work = product(function)
            self.products += work
            if rows:
                continue
            try:
                self.convolutions += convolution(function)
                self.recurrent += recurrent(function)
            except UntoldError:
                self.told = False

    def settings(self) -> dict[str, int | None]:
        """As configuration; None where none were seen, as in a graph that a compiler made, and
        where not all are known."""
        seen = self.told and (self.products or self.convolutions or self.recurrent)
        return {
            "multiplied_in_products": self.products if seen else None,
            "multiplied_in_convolutions": self.convolutions if seen else None,
            "multiplied_in_recurrent_layers": self.recurrent if seen else None,
        }


def product(function: Any) -> tuple[int, int]:
    """Rows of a matrix product, and its multiplications; 0 of anything else."""
    sizes = product_sizes(function)
    return (sizes[0], _numbers(sizes)) if sizes else (0, 0)


def product_sizes(function: Any) -> tuple[int, ...]:
    """Rows, inner size and columns of a matrix product; empty of anything else."""
    sizes = getattr(function, "_saved_mat2_sym_sizes", None)
    if not sizes:
        return ()
    rows = getattr(function, "_saved_mat1_sym_sizes", None)
    rows = rows or getattr(function, "_saved_self_sym_sizes", None)
    return (int(rows[0]), int(sizes[0]), int(sizes[1])) if rows else ()


def convolution(function: Any) -> int:
    """Multiplications of a convolution; 0 of anything else. Raises `UntoldError`."""
    if not type(function).__name__.startswith("Convolution"):
        return 0
    return _numbers(output_shape(function)) * filter_size(function)


def recurrent(function: Any) -> int:
    """Multiplications of a recurrent layer that is one operation, about; 0 of anything else.

    Raises:
        UntoldError: not known of such a layer.
    """
    shape = output_shape(function) if "Rnn" in type(function).__name__ else ()
    return _numbers(shape) * _RECURRENT_GATES * shape[-1] if len(shape) == 3 else 0


def output_shape(function: Any) -> tuple[int, ...]:
    """Of what the operation gave. Raises `UntoldError`."""
    outputs = getattr(function, "_input_metadata", None)
    if outputs is None:
        raise UntoldError
    return tuple(int(size) for size in outputs[0].shape) if outputs else ()


def _numbers(shape: Iterable[int]) -> int:
    numbers = 1
    for size in shape:
        numbers *= size
    return numbers


def filter_size(function: Any) -> int:
    """Weights of a convolution for one output."""
    leaves = (parameter_of(node) for node, _ in function.next_functions)
    filters = [leaf for leaf in leaves if leaf is not None and leaf.dim() > 1]
    return int(filters[0].numel() // filters[0].shape[0]) if filters else 1


def parameter_of(function: Any) -> Any:
    """The parameter that comes into an operation from here, cast or not; None: it is a result."""
    for _ in range(_CASTS + 1):
        leaf = getattr(function, "variable", None)
        inner: Any = getattr(function, "next_functions", ())
        if leaf is not None or len(inner) != 1 or not _casts(function):
            return leaf
        function = inner[0][0]
    return None


def _casts(function: Any) -> bool:
    return "Copy" in type(function).__name__
