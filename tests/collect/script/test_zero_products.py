"""Products with a constant that is nearly all zeros, told from a step's graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from made import graph_of
from torch import Tensor, nn
from torch.nn import functional

from perfdoctor.collect.script.zero_products import ZeroProducts

NODES, WIDTH = 200, 8
GRAPH = torch.eye(NODES).roll(1, 0) + 0.5 * torch.eye(NODES)
FEATURES = nn.Linear(WIDTH, WIDTH)(torch.ones(NODES, WIDTH))
OF_SAMPLES = nn.Linear(WIDTH, WIDTH)(torch.ones(3, NODES, WIDTH))
WORDS = torch.arange(40).view(4, 10) * 7
COUNTS = functional.one_hot(WORDS, 900).sum(1).float()
Step = Callable[[], Tensor]


def seen_in(step: Step) -> ZeroProducts:
    seen = ZeroProducts()
    seen.note(graph_of(step().sum()))
    return seen


def settings(step: Step) -> dict[str, Any]:
    seen = seen_in(step)
    seen.measure()
    return seen.settings()


def sizes(step: Step) -> tuple[int, ...] | None:
    """Rows, inner size and columns of the one that is found."""
    found = seen_in(step)._found
    assert found is not None
    if not found:
        return None
    (one,) = found
    return one.rows, one.inner, one.columns


def one_hot(layer: nn.Module) -> Tensor:
    return layer(functional.one_hot(WORDS, 900).float())


@pytest.mark.parametrize(
    ("step", "found"),
    [
        (lambda: GRAPH @ FEATURES, (NODES, NODES, WIDTH)),
        (lambda: FEATURES.t() @ GRAPH, (NODES, NODES, WIDTH)),
        (lambda: GRAPH @ OF_SAMPLES, (NODES, NODES, 3 * WIDTH)),
        (lambda: torch.einsum("ij,bjf->bif", GRAPH, OF_SAMPLES), (NODES, NODES, 3 * WIDTH)),
        (lambda: torch.einsum("bjf,ji->bfi", OF_SAMPLES, GRAPH), (NODES, NODES, 3 * WIDTH)),
        (lambda: one_hot(nn.Linear(900, 5)), (40, 900, 5)),
        (lambda: one_hot(nn.Linear(900, 5, bias=False)), (40, 900, 5)),
    ],
)
def test_products_with_zeros_are_found(step: Step, found: tuple[int, ...]) -> None:
    assert sizes(step) == found


@pytest.mark.parametrize(
    "step",
    [
        lambda: torch.ones(NODES, NODES) @ FEATURES,
        lambda: GRAPH.clone().requires_grad_() @ FEATURES,
        lambda: torch.eye(20) @ nn.Linear(WIDTH, WIDTH)(torch.ones(20, WIDTH)),
        lambda: nn.Embedding(900, 5)(WORDS),
        lambda: torch.sparse.mm(GRAPH.to_sparse(), FEATURES),
        lambda: torch.bmm(torch.stack([GRAPH, GRAPH.t(), GRAPH]), OF_SAMPLES),
    ],
    ids=["full", "learned", "small", "looked up", "sparse", "one for each sample"],
)
def test_others_are_not(step: Step) -> None:
    assert sizes(step) is None


def test_one_hot_vectors_choose_and_a_graph_does_not() -> None:
    (words,) = seen_in(lambda: one_hot(nn.Linear(900, 5)))._found or ()
    (graph,) = seen_in(lambda: GRAPH @ FEATURES)._found or ()
    (counts,) = seen_in(lambda: nn.Linear(900, 5)(COUNTS.repeat(10, 1)))._found or ()
    assert (words.chooses, graph.chooses, counts.chooses) == (True, False, False)
    assert (words.zeros, graph.zeros) == (round(1 - 1 / 900, 4), 0.99)


def test_what_goes_is_measured() -> None:
    graph = torch.eye(1500).roll(1, 0) + torch.eye(1500)
    told = settings(lambda: graph @ (graph @ nn.Linear(8, 64)(torch.ones(1500, 8))))
    assert told["zero_products_goes_s"] > 0
    assert told["zero_products_making_s"] > 0
    assert (told["zero_products_rows"], told["zero_products_inner"]) == (1500, 1500)
    assert told["zero_products_choose"] is False


def test_random_numbers_go_on_as_if_nothing_was_measured() -> None:
    seen = seen_in(lambda: GRAPH @ FEATURES)
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    seen.measure()
    assert torch.equal(torch.rand(4), wanted)


def test_nothing_is_said_of_what_was_not_seen() -> None:
    assert ZeroProducts().settings() == {}
    assert seen_in(lambda: GRAPH @ FEATURES).settings() == {}
    assert settings(lambda: torch.ones(NODES, NODES) @ FEATURES) == {"zero_products_goes_s": 0.0}
