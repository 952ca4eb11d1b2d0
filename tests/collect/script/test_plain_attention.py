"""Attention in parts, told from a step's graph, and timed both ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from perfdoctor.collect.script.looks_of_training import _graph
from perfdoctor.collect.script.plain_attention import PlainAttention

BATCH, TOKENS, FEATURES, HEADS = 2, 20, 24, 4
WIDTH = FEATURES // HEADS
CAUSAL = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
X = torch.randn(BATCH, TOKENS, FEATURES, requires_grad=True)


def heads_of(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return x.view(BATCH, TOKENS, HEADS, WIDTH).transpose(1, 2).expand(3, -1, -1, -1, -1).unbind()


def plain(x: torch.Tensor, dropped: float = 0.0) -> torch.Tensor:
    q, k, v = heads_of(x)
    scores = (q @ k.transpose(-2, -1) / WIDTH**0.5).masked_fill(~CAUSAL, float("-inf"))
    return functional.dropout(scores.softmax(-1), dropped) @ v


def by_einsum(x: torch.Tensor) -> torch.Tensor:
    q, k, v = heads_of(x)
    scores = torch.einsum("bhtd,bhsd->bhts", q, k) * WIDTH**-0.5
    return torch.einsum("bhts,bhsd->bhtd", torch.softmax(scores, dim=-1), v)


class Head(nn.Module):
    """As in many a tutorial."""

    def __init__(self) -> None:
        super().__init__()
        self.key, self.query, self.value = (nn.Linear(FEATURES, WIDTH) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.query(x) @ self.key(x).transpose(-2, -1) * WIDTH**-0.5
        scores = scores.masked_fill(~CAUSAL, float("-inf"))
        return functional.softmax(scores, dim=-1) @ self.value(x)


def layer(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([Head()(x) for _ in range(HEADS)], dim=-1)


def found(step: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, Any]:
    looks = PlainAttention()
    looks.note(_graph(step(X).sum()))
    looks.measure()
    return {name.removeprefix("plain_attention_"): n for name, n in looks.settings().items()}


@pytest.mark.parametrize(
    ("step", "masked"),
    [(plain, True), (lambda x: plain(x, 0.1), True), (by_einsum, False)],
    ids=["products", "with dropout", "einsum"],
)
def test_a_softmax_between_two_products_is_timed_both_ways(step: Any, masked: bool) -> None:
    seen = found(step)
    assert (seen["layers"], seen["heads"], seen["tokens"]) == (1, 1, TOKENS)
    assert seen["masked"] == masked
    assert seen["s"] > 0 and seen["left"] > 0


def test_heads_of_the_same_features_are_one_layer() -> None:
    seen = found(lambda x: layer(layer(x)))
    assert (seen["layers"], seen["heads"], seen["tokens"]) == (2, HEADS, TOKENS)


def test_layers_of_other_features_are_layers() -> None:
    seen = found(lambda x: Head()(x).sum() + Head()(x.tanh()).sum())
    assert (seen["layers"], seen["heads"]) == (2, 1)


def test_of_a_large_batch_a_part_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    whole = found(plain)
    monkeypatch.setattr(
        "perfdoctor.collect.script.plain_attention._NUMBERS", BATCH * HEADS * TOKENS**2 // 2
    )
    assert found(plain)["s"] == 2 * whole["s"]


@pytest.mark.parametrize(
    "step",
    [
        lambda x: functional.scaled_dot_product_attention(*heads_of(x)),
        lambda x: functional.softmax(x @ x.transpose(-2, -1), dim=-1),
        lambda x: functional.softmax(x, dim=-1) @ x.transpose(-2, -1),
        lambda x: nn.Linear(FEATURES, 20)(x).softmax(-1),
        lambda x: (x[:, :8] @ x[:, :8].transpose(-2, -1)).softmax(-1) @ x[:, :8],
    ],
    ids=["fused", "no values", "no queries", "of classes", "few tokens"],
)
def test_all_else_is_none(step: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert found(step) == {"s": 0.0}


def test_nothing_is_told_where_no_step_was_seen() -> None:
    assert PlainAttention().settings() == {}


def test_a_torch_that_tells_no_shapes_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from perfdoctor.collect.script import plain_attention
    from perfdoctor.collect.script.arithmetic import UntoldError

    def untold(_: object) -> None:
        raise UntoldError

    monkeypatch.setattr(plain_attention, "output_shape", untold)
    assert found(plain) == {}


def test_random_streams_stay_as_they_are() -> None:
    looks = PlainAttention()
    looks.note(_graph(plain(X, 0.1).sum()))
    before = torch.get_rng_state()
    looks.measure()
    assert torch.equal(before, torch.get_rng_state())
