"""Embedding tables with dense gradients, and how many of their rows a batch touches.

Looked at before an optimizer's step: there the gradients are as it gets them. Only on the host,
where a look waits for nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

#: Steps that are looked into: batches of one training touch about as many rows.
_LOOKS = 3
#: Rows of a table, evenly apart, and numbers of a row that are looked at.
_LOOKED_AT = (1000, 4)
#: Where so little lies in tables, or so much is touched, what zeros cost is not asked for.
_LEAST_PART, _MOST_TOUCHED = 0.25, 0.5
#: Zeros that are filled to see how long it takes, in numbers: above the 32 MiB from which memory
#: comes from the system each time.
_FILLED, _TIMES = 10_000_000, 3
#: torch's optimizers that do the same with sparse gradients where nothing else moves a row.
_ALIKE = ("SGD", "Adagrad")


@dataclass(frozen=True)
class _Look:
    shapes: tuple[tuple[int, int], ...]  # of each table: rows and columns
    part: float
    touched: float
    alike: bool


class DenseTables:
    """The tables of one training."""

    def __init__(self) -> None:
        self._looks: list[_Look] = []
        self._none = False
        self._fill_s: float | None = None

    def note(self, optimizer: Any, trained: Callable[[], Sequence[Any]]) -> None:
        """`optimizer` is about to update what the modules of `trained` have."""
        if self._none or len(self._looks) >= _LOOKS:
            return
        import torch

        modules = trained()
        with torch.no_grad():
            look = _look(torch, optimizer, modules)
        if look is None:
            self._none = bool(modules)
        else:
            self._looks.append(look)

    def measure(self) -> None:
        """Sees how long making gradients of their sizes takes, in which a batch's rows are no
        zeros; for when the training is over."""
        if not self._looks or self._part < _LEAST_PART or self._touched > _MOST_TOUCHED:
            return
        self._fill_s = sum(_filling_s(*shape, self._touched) for shape in self._looks[-1].shapes)

    def settings(self) -> dict[str, Any]:
        """As configuration; empty where nothing was looked at."""
        if not self._looks:
            return {"embedding_part": 0.0} if self._none else {}
        found = {
            "embedding_part": self._part,
            "embedding_rows_touched": self._touched,
            "embedding_tables": len(self._looks[-1].shapes),
            "embedding_sparse_alike": self._looks[-1].alike,
        }
        return found if self._fill_s is None else found | {"embedding_fill_s": self._fill_s}

    @property
    def _part(self) -> float:
        return statistics.median(look.part for look in self._looks)

    @property
    def _touched(self) -> float:
        return statistics.median(look.touched for look in self._looks)


def _look(torch: Any, optimizer: Any, modules: Sequence[Any]) -> _Look | None:
    """None without a table of which this optimizer gets dense gradients on the host."""
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    updated = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
    tables = [w for w in _tables(torch, modules) if id(w) in groups and _is_dense(torch, w.grad)]
    whole, shapes = sum(p.numel() for p in updated), tuple(tuple(w.shape) for w in tables)
    if not tables or not whole:
        return None
    numbers = sum(w.numel() for w in tables)
    touched = sum(_touched(w.grad) * w.numel() for w in tables) / numbers
    alike = all(_is_alike(optimizer, groups[id(weight)]) for weight in tables)
    return _Look(shapes, min(1.0, numbers / whole), touched, alike)


def _tables(torch: Any, modules: Sequence[Any]) -> Iterable[Any]:
    """The weights of embeddings that ask for dense gradients and are nothing else besides: one tied
    to an output layer has gradients in all rows."""
    kinds = (torch.nn.Embedding, torch.nn.EmbeddingBag)
    inner = list({id(m): m for module in modules for m in module.modules()}.values())
    others = _parameters(m for m in inner if not isinstance(m, kinds))
    found = [m._parameters.get("weight") for m in inner if isinstance(m, kinds) and not m.sparse]
    return {id(w): w for w in found if w is not None and id(w) not in others}.values()


def _parameters(modules: Iterable[Any]) -> set[int]:
    return {id(p) for module in modules for p in module._parameters.values()}


def _is_dense(torch: Any, gradient: Any) -> bool:
    plain = type(gradient) is torch.Tensor and gradient.dim() == 2
    return plain and bool(gradient.is_cpu) and gradient.layout == torch.strided


def _touched(gradient: Any) -> float:
    """The part of the rows that are not all zeros."""
    rows, columns = (
        size // most | 1 for size, most in zip(gradient.shape, _LOOKED_AT, strict=True)
    )
    some = gradient[::rows, ::columns]
    return float(some.ne(0).any(dim=1).float().mean())


def _is_alike(optimizer: Any, group: dict[str, Any]) -> bool:
    """Whether a row without a gradient stays as it is anyway."""
    moved = group.get("momentum") or group.get("weight_decay") or group.get("maximize")
    return type(optimizer).__name__ in _ALIKE and not moved


def _filling_s(rows: int, columns: int, touched: float) -> float:
    """Zeros may be had without being written (`calloc`): the memory then comes as the rows of a
    batch are added to, a whole page for each."""
    import torch

    some, took_s = max(1, min(rows, _FILLED // columns)), []
    every = max(1, round(1 / touched)) if touched > 0 else some
    for _ in range(_TIMES):
        began = time.perf_counter()
        torch.zeros(some, columns, dtype=torch.float32, device="cpu")[::every] += 1.0
        took_s.append(time.perf_counter() - began)
    return min(took_s) * rows / some
