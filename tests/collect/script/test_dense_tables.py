"""Embedding tables with dense gradients: which count, and how many of their rows are touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_observing import Clock, Watched
from torch import nn

ROWS, WIDTH = 1200, 8
Make = Callable[[Any], torch.optim.Optimizer]


class Tagged(nn.Module):
    """Two tables and a small head; `tied` scores all rows of the first one."""

    def __init__(self, *, tied: bool = False, sparse: bool = False, bag: bool = False) -> None:
        super().__init__()
        kind: Any = nn.EmbeddingBag if bag else nn.Embedding
        self.words = kind(ROWS, WIDTH, sparse=sparse)
        self.bias = kind(ROWS, 1, sparse=sparse)
        self.head = nn.Linear(WIDTH, ROWS if tied else 1, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.words(ids)) + self.bias(ids)
        return out


def _adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters())


def _seen(model: nn.Module, touched: int = 12, make: Make = _adam) -> dict[str, Any]:
    """Settings after four steps in each of which so many rows are drawn."""
    with Watched(Clock()) as seen:
        optimizer, draw = make(model), torch.Generator().manual_seed(0)
        for _ in range(4):
            optimizer.zero_grad()
            ids = torch.randperm(ROWS, generator=draw)[:touched]
            out = model(ids[:, None]) if _bags(model) else model(ids)
            out.sum().backward()
            optimizer.step()
        tables = seen.observer.looks.now.tables
        tables.measure()
        return tables.settings()


def _bags(model: nn.Module) -> bool:
    return any(isinstance(m, nn.EmbeddingBag) for m in model.modules())


@pytest.mark.parametrize("bag", [False, True])
def test_large_tables_of_which_a_batch_touches_few_rows(bag: bool) -> None:
    used = _seen(Tagged(bag=bag))
    whole = ROWS * (WIDTH + 1)
    assert used["embedding_part"] == pytest.approx(whole / (whole + WIDTH))
    assert used["embedding_rows_touched"] == pytest.approx(0.01, abs=0.005)
    assert used["embedding_tables"] == 2
    assert used["embedding_sparse_alike"] is False
    assert used["embedding_fill_s"] > 0


def test_a_batch_that_touches_most_rows() -> None:
    used = _seen(Tagged(), touched=1000)
    assert used["embedding_rows_touched"] == pytest.approx(1000 / ROWS, abs=0.05)
    assert "embedding_fill_s" not in used


def test_a_table_tied_to_the_output_is_not_counted() -> None:
    used = _seen(Tagged(tied=True))
    assert used["embedding_tables"] == 1
    assert used["embedding_part"] == pytest.approx(1 / (WIDTH + 1))


class Scored(nn.Module):
    """Scores all rows without a module for it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(ROWS, WIDTH)

    def forward(self, ids: torch.Tensor) -> Any:
        return self.table(ids) @ self.table.weight.t()


def test_a_table_that_scores_all_rows_by_hand_is_touched_everywhere() -> None:
    assert _seen(Scored())["embedding_rows_touched"] == 1.0


def test_an_embedding_called_by_itself_is_found() -> None:
    assert _seen(nn.Embedding(ROWS, WIDTH))["embedding_part"] == 1.0


def _sparse_adam(model: Any) -> torch.optim.Optimizer:
    return torch.optim.SparseAdam([model.words.weight, model.bias.weight])


def _of_the_head(model: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.head.parameters())


@pytest.mark.parametrize(
    ("model", "make"),
    [
        (lambda: Tagged(sparse=True), _sparse_adam),
        (Tagged, _of_the_head),  # frozen tables
        (lambda: nn.Linear(12, 1), lambda m: torch.optim.Adam(m.parameters())),
    ],
)
def test_without_dense_gradients_of_tables_there_is_nothing(model: Any, make: Make) -> None:
    made = model()
    if isinstance(made, nn.Linear):
        with Watched(Clock()) as seen:
            optimizer = make(made)
            made(torch.ones(2, 12)).sum().backward()
            optimizer.step()
            assert seen.observer.looks.now.tables.settings() == {"embedding_part": 0.0}
    else:
        assert _seen(made, make=make) == {"embedding_part": 0.0}


@pytest.mark.parametrize(
    ("make", "alike"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1), True),
        (lambda p: torch.optim.Adagrad(p), True),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), False),
        (lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1), False),
        (lambda p: torch.optim.Adagrad(p, weight_decay=0.1), False),
        (lambda p: torch.optim.Adam(p), False),
    ],
)
def test_what_sparse_gradients_leave_the_same_is_known(make: Make, alike: bool) -> None:
    used = _seen(Tagged(), make=lambda model: make(model.parameters()))
    assert used["embedding_sparse_alike"] is alike


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("kind", ["SGD", "Adagrad"])
def test_sparse_gradients_do_leave_those_the_same(kind: str) -> None:
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = Tagged(sparse=sparse)
        optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.1)
        for step in range(5):
            optimizer.zero_grad()
            model(torch.tensor([step, 3, 3, 700])).pow(2).sum().backward()
            optimizer.step()
        found.append(model.words.weight.detach())
    assert torch.allclose(found[0], found[1], atol=1e-6)


def test_looking_changes_neither_numbers_nor_random_state() -> None:
    found = []
    for watched in (False, True):
        torch.manual_seed(0)
        model = Tagged()
        optimizer = torch.optim.Adam(model.parameters())
        watch = Watched(Clock())
        if watched:
            watch.__enter__()
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.randint(ROWS, (9,))).pow(2).sum().backward()
            optimizer.step()
        if watched:
            watch.__exit__()
        found.append((model.words.weight.detach(), torch.get_rng_state()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


class Costly(nn.Module):
    """A parametrisation that must not be computed for a look."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Costly.calls += 1
        return x * 2


def test_a_parametrised_weight_is_not_computed_for_a_look() -> None:
    model = nn.Embedding(ROWS, WIDTH)
    torch.nn.utils.parametrize.register_parametrization(model, "weight", Costly())
    Costly.calls = 0
    assert _seen(model) == {"embedding_part": 0.0}
    assert Costly.calls == 4
