"""Rows that are computed and not used, told from a step's graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from made import graph_of
from torch import Tensor, nn
from torch.nn import functional

from perfdoctor.collect.script.unused_rows import UnusedRows

HEAD = nn.Linear(16, 12)
DEEP_HEAD = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.LayerNorm(16), nn.Dropout(0.5), HEAD)
BLOCK = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
TABLE = nn.Embedding(40, 16)
#: Four sequences of ten positions, of which the first two of each count.
COUNTS = (torch.arange(10) < 2).expand(4, 10)
TRUTH = torch.zeros(4, 10, dtype=torch.long)
TARGETS = torch.where(COUNTS, TRUTH, -100)
Step = Callable[[Tensor], Tensor]


def seen_in(step: Step) -> UnusedRows:
    """Of a step on features whose positions depend on each other."""
    seen = UnusedRows()
    seen.note(graph_of(step(nn.Linear(16, 16)(torch.ones(4, 10, 16)).cumsum(1)).sum()))
    return seen


def settings(step: Step) -> dict[str, Any]:
    seen = seen_in(step)
    seen.measure()
    return seen.settings()


def each_position(x: Tensor) -> Tensor:
    return functional.cross_entropy(HEAD(x).view(-1, 12), TRUTH.view(-1), reduction="none")


def looked_up(x: Tensor) -> Tensor:
    scores = functional.log_softmax(HEAD(x), -1)
    return scores.gather(-1, TRUTH.unsqueeze(-1)).squeeze(-1) * COUNTS.float()


def first_and_last(x: Tensor) -> Tensor:
    scores = HEAD(x)
    return scores[:, 0] + scores[:, -1]


def of_a_table(rows: Tensor) -> Step:
    return lambda _: functional.normalize(TABLE.weight, dim=-1)[rows]


@pytest.mark.parametrize(
    ("step", "ignored"),
    [
        (lambda x: functional.cross_entropy(HEAD(x).view(-1, 12), TARGETS.view(-1)), True),
        (lambda x: functional.cross_entropy(DEEP_HEAD(x).view(-1, 12), TARGETS.view(-1)), True),
        (lambda x: functional.cross_entropy(HEAD(x).transpose(1, 2), TARGETS), True),
        (lambda x: each_position(x) * COUNTS.reshape(-1).float(), True),
        (looked_up, True),
        (lambda x: ((HEAD(x) - 1) ** 2).mean(-1) * COUNTS.float(), True),
        (lambda x: HEAD(x)[COUNTS], False),
        (lambda x: HEAD(x)[:, :2], False),
        (lambda x: HEAD(x).index_select(1, torch.tensor([3, 5, 3])), False),
        (first_and_last, False),
    ],
    ids=[
        "targets that are ignored",
        "through a deeper head",
        "with scores turned around",
        "a factor",
        "a factor of what was looked up",
        "a factor of an error",
        "a mask",
        "a slice",
        "an index",
        "the first and the last",
    ],
)
def test_rows_that_are_not_used_are_told(step: Step, ignored: bool) -> None:
    seen = seen_in(step)
    seen.measure()
    found = seen.settings()
    assert "layer" in {work.kind for one in seen._found or () for work in one.work}
    assert found["unused_rows"] == 40
    assert found["unused_rows_part"] == pytest.approx(0.8)
    assert found["unused_rows_ignored"] is ignored


def test_both_where_targets_and_a_factor_say_so() -> None:
    def step(x: Tensor) -> Tensor:
        errors = functional.cross_entropy(HEAD(x).view(-1, 12), TARGETS.view(-1), reduction="none")
        return errors * COUNTS.reshape(-1).float()

    assert len(seen_in(step)._found or ()) == 1


@pytest.mark.parametrize(
    ("step", "part"),
    [
        (of_a_table(torch.tensor([0, 1, 1, 3])), 37 / 40),
        (lambda _: functional.embedding(torch.tensor([0, 1]), TABLE.weight.tanh()), 38 / 40),
        (lambda _: HEAD(torch.ones(40, 16))[:4], 36 / 40),
    ],
    ids=["normalised", "looked up", "a tower on all items"],
)
def test_so_are_those_of_tables(step: Step, part: float) -> None:
    assert settings(step)["unused_rows_part"] == pytest.approx(part)


def in_two_places(x: Tensor) -> Tensor:
    scores = HEAD(x)
    return scores[:, 0].sum() + scores.mean()


def parts_that_are_all(x: Tensor) -> Tensor:
    scores = HEAD(x)
    return scores[:2].exp().sum() + scores[2:].sum()


def queries(x: Tensor) -> Tensor:
    q, k, v = nn.Linear(16, 48)(x).view(4, 10, 3, 2, 8).permute(2, 0, 3, 1, 4)
    return functional.scaled_dot_product_attention(q, k, v)


@pytest.mark.parametrize(
    "step",
    [
        lambda x: functional.cross_entropy(HEAD(x).view(-1, 12), TRUTH.view(-1)),
        lambda x: HEAD(x[:, 0]),
        lambda x: HEAD(x)[..., :2],
        lambda x: HEAD(x).gather(-1, TRUTH.unsqueeze(-1)),
        in_two_places,
        parts_that_are_all,
        queries,
        lambda x: nn.Dropout(0.9)(HEAD(x)),
        lambda x: nn.GRU(16, 16, batch_first=True)(x)[0][:, -1],
        lambda x: (torch.ones(10, 10) @ x)[:, 0],
        lambda x: x.cumsum(1)[:, -1],
        lambda x: (HEAD(x) * HEAD(x + 1)).sum(),
    ],
    ids=[
        "all count",
        "chosen first",
        "within rows",
        "one number of each",
        "used elsewhere too",
        "all parts are used",
        "queries, keys and values",
        "a dropout",
        "a recurrent layer",
        "rows that are mixed",
        "rows that are added up",
        "nothing is chosen",
    ],
)
def test_others_are_not(step: Step) -> None:
    assert settings(step) == {"unused_rows_s": 0.0}


def test_the_residual_of_a_block_is_not_followed() -> None:
    """Of a transformer whose first position is used the last layer would be found, which is how
    they are written."""
    seen = seen_in(lambda x: BLOCK(x)[:, 0])
    assert [{work.kind for work in one.work} for one in seen._found or ()] == [{"number", "chosen"}]


def test_times_are_of_all_rows_and_of_those_that_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfdoctor.collect.script.unused_rows._NUMBERS", 16 * 20)
    clock = iter(range(100_000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)) ** 2)
    rows: list[int] = []
    linear = functional.linear
    monkeypatch.setattr(functional, "linear", lambda x, *a: rows.append(len(x)) or linear(x, *a))
    seen = seen_in(lambda _: HEAD(torch.ones(40, 16))[:4])
    rows.clear()
    seen.measure()
    assert set(rows) == {20, 2}


def test_without_a_look_or_a_measurement_nothing_is_told() -> None:
    assert UnusedRows().settings() == {}
    assert seen_in(lambda x: HEAD(x)[:, 0]).settings() == {}


def test_what_lies_on_a_device_is_not_asked_for() -> None:
    with torch.device("meta"):
        seen = UnusedRows()
        seen.note(graph_of(nn.Linear(4, 4)(torch.ones(3, 4))[:1].sum()))
    seen.measure()
    assert seen.settings() == {}
