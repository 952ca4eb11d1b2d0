"""Hooks that pile up on modules and parameters are counted, and which they are is told."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from torch import nn

from perfdoctor.collect.script import piled_hooks
from perfdoctor.collect.script.piled_hooks import PiledHooks


def report(module: Any, *given: Any) -> None:
    """A hook."""


class Keeper:
    """Has hooks as methods, and is one."""

    def keep(self, *given: Any) -> None:
        """A hook."""

    def __call__(self, *given: Any) -> None:
        """Another."""


HERE = f"test_piled_hooks.py:{report.__code__.co_firstlineno}"


@pytest.fixture
def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))


def counted(
    model: nn.Module, before: Callable[[int], object], steps: int = 400
) -> tuple[dict[str, Any], PiledHooks]:
    """What was noted, where `before` is called before each step."""
    hooks = PiledHooks()
    for step in range(1, steps + 1):
        before(step)
        hooks.step(step, lambda: [model])
    return hooks.settings(), hooks


def each(every: int, register: Callable[[], object]) -> Callable[[int], object]:
    return lambda step: register() if step % every == 0 else None


def test_the_end_may_be_long_after_the_last_look(model: nn.Sequential) -> None:
    _, hooks = counted(model, each(100, lambda: model[0].register_forward_hook(report)))
    handles = [model[0].register_forward_hook(report) for _ in range(3)]
    hooks.at_end(lambda: [model])
    used = hooks.settings()
    assert (used["hooks_at_last"], used["hooks_rises"], used["hooks_alike"]) == (7, 5, 7)
    for handle in handles:
        handle.remove()
    hooks.at_end(lambda: [model])  # who tidies up after the training had them in it
    assert hooks.settings() == used


def test_hooks_of_each_epoch_become_more(model: nn.Sequential) -> None:
    used, _ = counted(model, each(50, lambda: model[0].register_forward_hook(report)))
    assert used == {
        "hooks_at_first": 0,
        "hooks_at_last": 8,
        "hooks_stages": "forward",
        "hooks_rises": 5,
        "hooks_alike": 8,
        "hooks_function": "report",
        "hooks_where": HERE,
    }


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("register_forward_pre_hook", "forward"),
        ("register_forward_hook", "forward"),
        ("register_full_backward_hook", "backward"),
        ("register_full_backward_pre_hook", "backward"),
    ],
)
def test_each_kind_of_hook_runs_in_its_stage(model: nn.Sequential, name: str, stage: str) -> None:
    used, _ = counted(model, each(20, lambda: getattr(model[2], name)(report)))
    assert (used["hooks_stages"], used["hooks_at_last"]) == (stage, 20)


@pytest.mark.parametrize("name", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_of_parameters_run_in_the_backward_pass(model: nn.Sequential, name: str) -> None:
    register = getattr(model[0].weight, name, None) or pytest.skip("not in this torch")
    used, _ = counted(model, each(20, lambda: register(lambda grad: None)))
    assert (used["hooks_stages"], used["hooks_alike"]) == ("backward", 20)
    assert used["hooks_function"] == "<lambda>"


def test_hooks_of_all_modules_are_counted(model: nn.Sequential) -> None:
    handles: list[Any] = []
    register = nn.modules.module.register_module_forward_hook
    used, _ = counted(model, each(50, lambda: handles.append(register(report))))
    for handle in handles:
        handle.remove()
    assert (used["hooks_at_last"], used["hooks_stages"]) == (8, "forward")


@pytest.mark.parametrize(
    ("hook", "name"),
    [
        (partial(report, 1), "report"),
        (Keeper().keep, "Keeper.keep"),
        (Keeper(), "Keeper.__call__"),
        (print, "builtin_function_or_method"),
    ],
)
def test_the_function_behind_a_hook_is_named(model: nn.Sequential, hook: Any, name: str) -> None:
    used, _ = counted(model, each(50, lambda: model[0].register_forward_hook(hook)))
    assert used["hooks_function"] == name
    assert ("hooks_where" in used) == (hook is not print)


def test_hooks_that_are_registered_once_do_not_become_more(model: nn.Sequential) -> None:
    model[0].register_forward_hook(report)
    used, _ = counted(model, lambda step: None)
    assert used == {"hooks_at_first": 1, "hooks_at_last": 1}


def test_hooks_that_are_removed_do_not_become_more(model: nn.Sequential) -> None:
    used, _ = counted(model, each(10, lambda: model[0].register_forward_hook(report).remove()))
    assert used == {"hooks_at_first": 0, "hooks_at_last": 0}


def test_hooks_that_come_with_a_phase_become_more_once(model: nn.Sequential) -> None:
    used, _ = counted(model, each(250, lambda: model[0].register_forward_hook(report)))
    assert used["hooks_rises"] == 1


def test_different_hooks_are_not_alike(model: nn.Sequential) -> None:
    hooks = [report, Keeper().keep, Keeper(), print]
    used, _ = counted(model, each(100, lambda: model[0].register_forward_hook(hooks.pop())))
    assert (used["hooks_at_last"], used["hooks_alike"]) == (4, 1)


def test_a_module_that_is_held_twice_counts_once() -> None:
    shared = nn.Linear(4, 4)
    used, _ = counted(
        nn.Sequential(shared, shared), each(100, lambda: shared.register_forward_hook(report))
    )
    assert used["hooks_at_last"] == 4


def test_many_modules_are_not_all_counted(
    model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piled_hooks, "_MOST_HOLDERS", 2)  # the whole, and its last layer
    used, _ = counted(model, each(50, lambda: model[0].register_forward_hook(report)))
    assert used["hooks_at_last"] == 0


def test_nothing_is_said_of_few_steps(model: nn.Sequential) -> None:
    assert counted(model, lambda step: model[0].register_forward_hook(report), steps=30)[0] == {}


def test_modules_that_cannot_be_looked_into_are_left_alone(model: nn.Sequential) -> None:
    class Odd:
        __slots__ = ()

    hooks = PiledHooks()
    for step in range(1, 401):
        hooks.step(step, lambda: [Odd()])
    assert hooks.settings() == {}


def test_no_module_is_kept() -> None:
    hooks = PiledHooks()
    held = [nn.Linear(2, 2)]
    gone = weakref.ref(held[0])
    for step in range(1, 401):
        held[0].register_forward_hook(report)
        hooks.step(step, lambda: held)
    held.clear()
    assert gone() is None
    assert hooks.settings()["hooks_at_last"] == 400
