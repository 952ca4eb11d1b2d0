"""What a step's operations would take with more threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from made import graph_of
from torch import nn

from perfdoctor.collect.script import more_threads
from perfdoctor.collect.script.arithmetic import UntoldError
from perfdoctor.collect.script.more_threads import MoreThreads


@pytest.fixture
def step() -> list[Any]:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    return graph_of(model(torch.ones(4, 3, 8, 8)).sum())


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of threads that were asked for, of a torch that has one."""
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    return asked


def _by_threads(monkeypatch: pytest.MonkeyPatch, threads: list[int]) -> None:
    """An operation takes a second, shared out among the threads."""
    monkeypatch.setattr(more_threads, "_timed", lambda run: 1.0 / threads[-1])


def test_operations_like_a_steps_are_timed_either_way(
    step: list[Any], threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _by_threads(monkeypatch, threads)
    tried = MoreThreads(lambda: 1, lambda: 4)
    tried.note(step)
    tried.measure()
    found = tried.settings()
    assert (found["threads_tried"], threads[-1]) == (4, 1)  # as it was before
    assert found["threads_now_s"] == pytest.approx(4 * found["threads_then_s"])
    assert {*threads} == {1, 4}


def test_sizes_are_those_of_products_convolutions_and_numbers(step: list[Any]) -> None:
    tried = MoreThreads(lambda: 1, lambda: 2)
    tried.note(step)
    convolution, product, relu = (4 * 36, 27, 8), (4, 8 * 36, 5), (4 * 8 * 36,)
    assert {convolution, product, relu} <= set(tried._operations)


@pytest.mark.parametrize("sizes", [(2**30,), (2**24, 64, 64), (2, 2**20, 64)])
def test_an_example_is_no_larger_than_need_be(sizes: tuple[int, ...]) -> None:
    asked: list[Any] = []

    class Torch:
        def ones(self, *shape: int) -> torch.Tensor:
            asked.append(shape)
            return torch.empty(0)

    _, scale = more_threads._example(sizes, Torch())
    assert torch.Size(asked[0]).numel() <= 2**22
    assert scale * asked[0][0] == pytest.approx(sizes[0])


def test_nothing_is_tried_where_all_cores_are_used(step: list[Any], threads: list[int]) -> None:
    tried = MoreThreads(lambda: 2, lambda: 2)
    tried.note(step)
    tried.measure()
    assert (tried.settings(), threads) == ({}, [])


def test_nor_where_shapes_are_not_told(threads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def untold(function: Any) -> tuple[int, ...]:
        raise UntoldError

    monkeypatch.setattr(more_threads, "output_shape", untold)
    tried = MoreThreads(lambda: 1, lambda: 2)
    tried.note([object()])
    tried.measure()
    assert (tried.settings(), threads) == ({}, [])


def test_the_threads_are_as_before_if_a_trial_fails(
    step: list[Any], threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(run: Any) -> float:
        raise RuntimeError("no memory")

    monkeypatch.setattr(more_threads, "_timed", fails)
    tried = MoreThreads(lambda: 1, lambda: 2)
    tried.note(step)
    with pytest.raises(RuntimeError, match="no memory"):
        tried.measure()
    assert threads[-1] == 1
