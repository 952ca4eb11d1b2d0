"""Which lines make the steps of an architecture, wherever they stand."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_observing import Clock, Search, Watched

from perfdoctor.collect.script.search_lines import Lines

INPUT = torch.ones(4, 4)
Parts = tuple[Search, torch.optim.Optimizer, torch.optim.Optimizer]


def parts(registered: bool = True) -> Parts:
    model = Search(Clock(), registered)
    weights = torch.optim.SGD(model.weights(), lr=1e-3)
    return model, weights, torch.optim.Adam([model.alphas], lr=1e-3)


def in_the_loop(model: Search, weights: Any, architect: Any) -> None:
    for _ in range(4):
        loss = model(INPUT).mean()
        loss.backward()
        weights.step()
        searched = torch.sum(  # begins
            model(INPUT)
        )
        searched.backward()
        architect.step(
            closure=None,
        )  # ends
        weights.zero_grad()


def search(model: Search, architect: Any) -> None:
    model.zero_grad()
    model(INPUT).sum().backward()
    architect.step()


def in_a_function(model: Search, weights: Any, architect: Any) -> None:
    for _ in range(4):
        search(model, architect)
        model(INPUT).mean().backward()
        weights.step()


def update(model: Search, optimizer: Any) -> None:
    model(INPUT).sum().backward()
    optimizer.step()


def in_a_function_for_both(model: Search, weights: Any, architect: Any) -> None:
    for _ in range(4):
        update(model, weights)
        update(model, architect)  # begins, ends


def in_one_line_for_both(model: Search, weights: Any, architect: Any) -> None:
    for _ in range(4):
        for optimizer in (weights, architect):
            update(model, optimizer)


def by_hand(model: Search, weights: Any, architect: Any) -> None:
    for _ in range(4):
        loss = model(INPUT).sum()  # begins
        (gradient,) = torch.autograd.grad(loss, [model.alphas])  # ends
        model.alphas.data.sub_(gradient)
        model(INPUT).mean().backward()
        weights.step()


def found_in(train: Callable[..., None], *, registered: bool = True) -> list[Lines]:
    model, weights, architect = parts(registered)
    with Watched(Clock()) as seen:
        train(model, weights, architect if registered else None)
    return list(seen.state.search_lines.found())


def marked(function: Callable[..., None]) -> tuple[int, int]:
    """The lines of a function's source that say where something begins and ends."""
    lines, start = inspect.getsourcelines(function)
    first = next(i for i, line in enumerate(lines) if "begins" in line)
    last = next(i for i, line in enumerate(lines) if "ends" in line)
    return start + first, start + last


@pytest.mark.parametrize(
    ("train", "registered"),
    [(in_the_loop, True), (in_a_function_for_both, True), (by_hand, False)],
)
def test_lines_between_those_of_the_training_are_told(
    train: Callable[..., None], registered: bool
) -> None:
    (lines,) = found_in(train, registered=registered)
    assert (lines.first, lines.last) == marked(train)
    assert lines.function_line == train.__code__.co_firstlineno


def test_a_function_that_makes_nothing_else_is_told_as_a_whole() -> None:
    (lines,) = found_in(in_a_function)
    first = search.__code__.co_firstlineno
    assert lines.function_line == first
    assert all(lines.hold(__file__, first, first + i) for i in range(4))
    assert not lines.hold(__file__, in_a_function.__code__.co_firstlineno, first + 1)
    assert not lines.hold("elsewhere.py", first, first + 1)


def test_a_line_that_makes_steps_of_both_is_not_told() -> None:
    assert found_in(in_one_line_for_both) == []


def test_a_training_without_a_search_has_no_such_lines() -> None:
    model, weights, _ = parts()
    with Watched(Clock()) as seen:
        for _ in range(4):
            update(model, weights)
    assert seen.state.search_lines.found() == ()
    assert seen.state.search_lines.most_backwards == 0


def of_second_order(model: Search, weights: Any, architect: Any) -> None:
    for _ in range(4):
        update(model, weights)
        gradients = torch.autograd.grad(model(INPUT).sum(), model.weights(), allow_unused=True)
        assert gradients
        update(model, architect)


@pytest.mark.parametrize(("train", "times"), [(in_the_loop, 1), (of_second_order, 2)])
def test_computations_of_gradients_for_one_step_are_counted(
    train: Callable[..., None], times: int
) -> None:
    with Watched(Clock()) as seen:
        train(*parts())
    assert seen.state.search_lines.most_backwards == times
