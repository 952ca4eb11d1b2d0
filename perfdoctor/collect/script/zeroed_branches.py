"""Branches of a model whose results are multiplied by zero: experts that a sample was not sent to,
candidates of a search that were not drawn.

Told from the graph that a backward pass goes through: three or more branches that are added up
after each was multiplied by a factor for each sample (or was chosen by a condition), and what of
the arithmetic belongs to one branch alone. Where the factor is zero, its result and its gradients
are zero too, and need not be computed.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from perfdoctor.collect.script.arithmetic import (
    UntoldError,
    convolution,
    output_shape,
    product,
    recurrent,
)
from perfdoctor.collect.script.layer_calls import LayerCalls, calls_of, weight_of
from perfdoctor.collect.script.timed_ways import two_ways

#: Two are a residual, or a model and its double.
_FEWEST = 3
#: A factor for each sample has so many numbers fewer than what it is multiplied with.
_NUMBERS_EACH = 4
#: What only adds up or looks at the same numbers otherwise.
_JOINS = re.compile(
    r"(Add|Stack|Cat|Sum|Mean|(Unsafe)?View|ReshapeAlias|Unsqueeze|Squeeze|Permute|Transpose"
    r"|Expand|Clone)Backward\d"
)
_STACKS = re.compile(r"(Stack|Cat)Backward\d")
#: Operations that are gone through for all branches; far above what models have.
_MOST_VISITS = 300_000
#: Branches of which it is timed, and the numbers that a layer of one gives.
_MOST_TIMED, _NUMBERS = 4, 2_000_000


@dataclass(frozen=True)
class _Branch:
    """What begins at `root` is multiplied by numbers of which `zeros` are zero."""

    root: Any
    zeros: float


@dataclass(frozen=True)
class _SideBySide:
    """Branches that multiply `work` numbers in all, of which `zeros` for nothing; `whole` where a
    branch is used for all samples or for none. `layer` is the largest of one of them."""

    branches: int
    work: int
    zeros: float
    whole: bool
    layer: LayerCalls


class ZeroedBranches:
    """Those of one step."""

    def __init__(self) -> None:
        self._work = 0
        self._found: list[_SideBySide] | None = None
        self._left: float | None = None

    def note(self, functions: Collection[Any]) -> None:
        """The operations that a backward pass goes through."""
        try:
            work = {function: _multiplied(function) for function in functions}
            found = list(_side_by_side(functions, work))
        except UntoldError:
            return
        self._work += sum(work.values())
        self._found = [*(self._found or []), *found]

    def measure(self) -> None:
        """Sees what is left of the largest where only what is used is computed; for when the
        training is over, and on the host only."""
        if self._found:
            largest = self._largest
            self._left = 1 - largest.zeros if largest.whole else _left(largest)

    def settings(self) -> dict[str, Any]:
        """As configuration; empty where no step was looked into."""
        if self._found is None or not self._work:
            return {}
        part = sum(one.work for one in self._found) / self._work
        if not part:
            return {"zeroed_part": 0.0}
        told = {
            "zeroed_part": part,
            "zeroed_branches": self._largest.branches,
            "zeroed_of_branches": self._largest.zeros,
        }
        return told if self._left is None else told | {"zeroed_left": self._left}

    @property
    def _largest(self) -> _SideBySide:
        return max(self._found or (), key=lambda one: one.work)


def _multiplied(function: Any) -> int:
    return product(function)[1] + convolution(function) + recurrent(function)


def _side_by_side(functions: Collection[Any], work: Mapping[Any, int]) -> Iterator[_SideBySide]:
    """Branches next to each other, and what belongs to one of them alone."""
    visits = 0
    for group in _groups(functions):
        if len(group) < _FEWEST or not any(branch.zeros for branch in group):
            continue
        below = [_below(branch.root) for branch in group]
        visits += sum(map(len, below))
        if visits > _MOST_VISITS:
            return
        times = Counter(function for one in below for function in one)
        own = [[f for f in one if times[f] == 1 and work.get(f)] for one in below]
        layer = _largest_layer([f for one in own for f in one], work)
        if layer is None:
            continue
        each = [sum(work[f] for f in one) for one in own]
        zeroed = sum(n * branch.zeros for n, branch in zip(each, group, strict=True))
        whole = all(branch.zeros in (0.0, 1.0) for branch in group)
        yield _SideBySide(len(group), sum(each), zeroed / sum(each), whole, layer)


def _largest_layer(functions: Iterable[Any], work: Mapping[Any, int]) -> LayerCalls | None:
    layers = [f for f in functions if weight_of(f) is not None]
    most = max(layers, key=lambda function: work[function], default=None)
    return None if most is None else calls_of([most])


def _groups(functions: Collection[Any]) -> Iterator[list[_Branch]]:
    """Branches side by side: those of one stack, and those that are added up."""
    used: dict[Any, list[Any]] = defaultdict(list)
    for function in functions:
        for below, _ in function.next_functions:
            used[below].append(function)
    sums: dict[Any, list[_Branch]] = defaultdict(list)
    for function in functions:
        for branch in _branches(function):
            stack = _through_views(branch.root)
            if _STACKS.fullmatch(type(stack).__name__):
                roots = [below for below, _ in stack.next_functions if below is not None]
                yield [_Branch(root, branch.zeros) for root in roots]
            else:
                sums[_joined(function, used)].append(branch)
    yield from sums.values()


def _branches(function: Any) -> Iterator[_Branch]:
    """What an operation multiplies by zeros, or leaves out."""
    name = type(function).__name__
    if name == "WhereBackward0":
        chosen = function._saved_condition
        kept = 1 - _zeros(chosen)
        factors = ((0, chosen, 1 - kept), (1, chosen, kept))
    elif name in ("MulBackward0", "BmmBackward0"):
        mine, other = _saved(function, "self"), _saved(function, "mat2", "other")
        factors = ((0, other, _zeros(other)), (1, mine, _zeros(mine)))
    else:
        return
    for place, factor, zeros in factors:
        root = function.next_functions[place][0]
        if root is not None and root.next_functions and _is_for_rows(factor, function, root):
            yield _Branch(root, zeros)


def _saved(function: Any, *names: str) -> Any:
    """A tensor that the operation keeps; None where it keeps none of these."""
    for name in names:
        value = getattr(function, f"_saved_{name}", None)
        if value is not None:
            return value
    return None


def _zeros(factor: Any) -> float:
    return float((factor == 0).float().mean()) if _has_values(factor) else 0.0


def _has_values(factor: Any) -> bool:
    """Not those on the meta device."""
    return factor is not None and (factor.is_cpu or factor.is_cuda)


def _is_for_rows(factor: Any, function: Any, root: Any) -> bool:
    """Whether it has a number for many of what the branch gives, or of the product."""
    numbers = max(math.prod(output_shape(function)), math.prod(output_shape(root)))
    return _has_values(factor) and _NUMBERS_EACH * factor.numel() <= numbers


def _through_views(function: Any) -> Any:
    while _JOINS.fullmatch(type(function).__name__) and len(function.next_functions) == 1:
        below = function.next_functions[0][0]
        if below is None:
            break
        function = below
    return function


def _joined(function: Any, used: Mapping[Any, list[Any]]) -> Any:
    """Where what it gives ends up: the last of the sums that it goes into."""
    while len(users := used.get(function, [])) == 1 and _JOINS.fullmatch(type(users[0]).__name__):
        function = users[0]
    return function


def _below(root: Any) -> set[Any]:
    """The operations from there on down."""
    waiting, seen = [root], {root}
    while waiting:
        for function, _ in waiting.pop().next_functions:
            if function is not None and function not in seen:
                seen.add(function)
                waiting.append(function)
    return seen


def _left(one: _SideBySide) -> float:
    """Of the time of all branches on all samples, where each gets those that are for it."""
    import torch

    layer, many = one.layer, min(one.branches, _MOST_TIMED)
    rows = max(1, min(layer.gives[0], _NUMBERS * layer.gives[0] // max(1, layer.numbers)))
    x = torch.zeros(rows, *layer.takes[1:], requires_grad=True)
    weights = [torch.zeros(layer.weight, requires_grad=True) for _ in range(many)]
    used = torch.linspace(0, rows - 1, max(1, round(rows * (1 - one.zeros)))).long()

    def branch(value: Any, weight: Any) -> Any:
        given = layer.apply(value, weight).relu()
        # What is made wider is made as wide as before again, as in a transformer.
        return given @ weight if weight.dim() == 2 and len(weight) > weight.shape[1] else given

    gives = branch(x[:1], weights[0]).shape[1:]
    gate = torch.zeros(rows, *[1] * len(gives))

    def all_samples() -> Any:
        out: Any = 0
        for weight in weights:
            out = out + gate * branch(x, weight)
        return out

    def its_own() -> Any:
        out = torch.zeros(rows, *gives)
        for weight in weights:
            out = out.index_add(0, used, gate[used] * branch(x[used], weight))
        return out

    now, then = two_ways(all_samples, its_own, (x, *weights))
    return min(1.0, then.both_s / now.both_s)
