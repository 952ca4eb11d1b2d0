"""What torch's compiler is told to leave alone, in versions of torch that have to be told."""

from __future__ import annotations

from types import CodeType, SimpleNamespace
from typing import Any

import torch
from test_observing import Clock, Watched
from torch import nn

from perfdoctor.collect.script.observer import Observer
from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.untraced import leave_untraced


def _torch_with(skip: Any) -> Any:
    return SimpleNamespace(_C=SimpleNamespace(_dynamo=SimpleNamespace(eval_frame=skip)))


def test_every_function_that_a_wrapper_may_call_is_left_alone() -> None:
    skipped: list[CodeType] = []

    def mine() -> None:
        """Not of the package."""

    leave_untraced(_torch_with(SimpleNamespace(skip_code=skipped.append)), mine)
    assert {
        mine.__code__,
        Observer.forward_begins.__code__,
        Recorder.enter.__code__,
        Recorder.spent.fget.__code__,  # type: ignore[attr-defined]
    } <= set(skipped)


def test_nothing_is_told_to_a_torch_that_does_not_ask_for_it() -> None:
    leave_untraced(_torch_with(SimpleNamespace()))
    leave_untraced(SimpleNamespace())


def test_compiling_a_model_neither_breaks_nor_ends_the_observation() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.layer(x).relu()
            return out

    model = nn.Sequential(Inner(), nn.Linear(2, 1))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with Watched(Clock()) as seen:
        for _ in range(3):
            compiled(torch.ones(4, 2)).sum().backward()
            optimizer.step()
    assert seen.steps == 3
