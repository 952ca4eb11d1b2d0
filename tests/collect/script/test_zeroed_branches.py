"""Branches whose results are multiplied by zero, told from a step's graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from made import graph_of
from torch import nn

from perfdoctor.collect.script.zeroed_branches import ZeroedBranches

TRUNK = nn.Linear(16, 16)
EXPERTS = [nn.Linear(16, 16) for _ in range(4)]
CONVOLUTIONS = [nn.Conv2d(1, 3, 3, padding=1) for _ in range(4)]
#: Eight samples, each for one of the four.
GATES = nn.functional.one_hot(torch.arange(8) % 4, 4).float()
Step = Callable[[torch.Tensor], Any]


def settings(step: Step, trunk: nn.Module = TRUNK, *, measure: bool = False) -> dict[str, Any]:
    seen = ZeroedBranches()
    seen.note(graph_of(step(trunk(torch.ones(8, 16))).sum()))
    if measure:
        seen.measure()
    return seen.settings()


def added_up(x: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(8, 16)
    for i, expert in enumerate(EXPERTS):
        out = out + GATES[:, i : i + 1] * expert(x)
    return out


def stacked(x: torch.Tensor) -> torch.Tensor:
    given = torch.stack([expert(x) for expert in EXPERTS], 1)
    return (GATES.unsqueeze(-1) * given).sum(1)


def as_products(x: torch.Tensor) -> torch.Tensor:
    given = torch.stack([expert(x) for expert in EXPERTS], 1)
    return torch.einsum("be,beh->bh", GATES, given)


def chosen(x: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(8, 16)
    for i, expert in enumerate(EXPERTS):
        out = out + torch.where(GATES[:, i : i + 1] > 0, expert(x), torch.zeros(()))
    return out


def drawn(x: torch.Tensor) -> torch.Tensor:
    weights = torch.tensor([0.0, 1.0, 0.0, 0.0])
    return sum(weights[i] * expert(x) for i, expert in enumerate(EXPERTS))  # type: ignore[return-value]


@pytest.mark.parametrize("step", [added_up, stacked, as_products, chosen, drawn])
def test_three_quarters_of_the_experts_work_is_for_nothing(step: Step) -> None:
    found = settings(step)
    assert found == {
        "zeroed_part": pytest.approx(4 / 5),  # the trunk is for all
        "zeroed_of_branches": pytest.approx(0.75),
        "zeroed_branches": 4,
    }


def weighed(x: torch.Tensor) -> torch.Tensor:
    weights = torch.full((4,), 0.25)
    return sum(weights[i] * expert(x) for i, expert in enumerate(EXPERTS))  # type: ignore[return-value]


def residual(x: torch.Tensor) -> torch.Tensor:
    return x + GATES[:, :1] * EXPERTS[0](x)


def masked_in_turn(x: torch.Tensor) -> torch.Tensor:
    for expert in EXPERTS:
        x = expert(x) * GATES[:, :1]
    return x


def masked_numbers(x: torch.Tensor) -> torch.Tensor:
    mask = (torch.arange(128).reshape(8, 16) % 2).float()
    return sum(mask * expert(x) for expert in EXPERTS)  # type: ignore[return-value]


def sent(x: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(8, 16)
    for i, expert in enumerate(EXPERTS):
        rows = GATES[:, i].nonzero().flatten()
        out = out.index_add(0, rows, expert(x[rows]))
    return out


@pytest.mark.parametrize("step", [weighed, residual, masked_in_turn, masked_numbers, sent])
def test_of_other_sums_nothing_is_said(step: Step) -> None:
    assert settings(step) == {"zeroed_part": 0.0}


def test_what_several_branches_share_is_theirs_together(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = nn.Sequential(TRUNK, nn.ReLU(), nn.Linear(16, 16))
    assert settings(added_up, shared)["zeroed_part"] == pytest.approx(4 / 6)
    monkeypatch.setattr("perfdoctor.collect.script.zeroed_branches._MOST_VISITS", 3)
    assert settings(added_up, shared) == {"zeroed_part": 0.0}


def test_of_branches_that_are_used_or_not_the_rest_is_left() -> None:
    assert settings(drawn, measure=True)["zeroed_left"] == pytest.approx(0.25)


def by_convolutions(x: torch.Tensor) -> torch.Tensor:
    images = x.reshape(8, 1, 4, 4)
    return sum(GATES[:, i, None, None, None] * conv(images) for i, conv in enumerate(CONVOLUTIONS))  # type: ignore[return-value]


@pytest.mark.parametrize("step", [added_up, by_convolutions])
def test_what_is_left_is_tried(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    assert settings(step, measure=True)["zeroed_left"] == 1.0  # a clock that counts the calls


def test_without_arithmetic_nothing_is_known() -> None:
    seen = ZeroedBranches()
    assert seen.settings() == {}
    seen.note(graph_of(torch.ones(3, requires_grad=True).exp().sum()))
    assert seen.settings() == {}
