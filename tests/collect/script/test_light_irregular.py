"""What a script may do while its steps are observed as a whole: seen, and done as without it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_light_steps import _BEFORE, _light_model, _watched, short_cycles
from test_observing import Clock, Samples
from test_steady import _Costly
from torch import nn
from torch.utils.data import DataLoader

from perfdoctor.collect.script import light_steps
from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.light_looks import labelled
from perfdoctor.collect.script.stacks import Frame, Sampled
from perfdoctor.collect.script.step_rows import WIDTH, as_rows
from perfdoctor.collect.script.usual_parts import UsualParts

__all__ = ["short_cycles"]


Update = Callable[[Any, Any, torch.Tensor], None]


def _trained_by(update: Update, *, lightly: bool) -> list[dict[str, int]]:
    """The stages of each step, where the optimizer's step takes 5 and clipping gradients 2."""
    clock = Clock()
    torch.manual_seed(0)
    seen, light = _watched(clock)
    if not lightly:
        seen.observer._on_step = lambda count: count + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.utils, "clip_grad_norm_", lambda *given: clock.spend(2))
        with seen:
            model = _Costly(clock)
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
            optimizer.register_step_pre_hook(lambda *given: clock.spend(5))
            for x, _ in DataLoader(Samples(clock, count=4 * (_BEFORE + 40)), batch_size=4):
                update(model, optimizer, model(x).sum())
    assert (light.steps > 30) == lightly
    assert not seen.observer.recorder.stack
    return seen.per_step()


@pytest.mark.parametrize("enabled", [False, True])
def test_a_scaler_on_the_processor_makes_its_steps(enabled: bool) -> None:
    scaler = torch.amp.GradScaler("cpu", enabled=enabled)

    def update(model: Any, optimizer: Any, loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    assert _trained_by(update, lightly=True) == _trained_by(update, lightly=False)


def test_a_wrapper_that_the_script_holds_notes_nothing_in_a_light_step() -> None:
    held: list[Any] = []

    def update(model: Any, optimizer: Any, loss: torch.Tensor) -> None:
        if not held:
            held.append(nn.utils.clip_grad_norm_)  # as `from torch.nn.utils import` does
        loss.backward()
        held[0](model.parameters(), 1.0)
        optimizer.step()

    lightly = _trained_by(update, lightly=True)
    held.clear()
    assert lightly == _trained_by(update, lightly=False)
    assert lightly[-10]["optimizer"] == 7


def test_blocks_without_gradients_in_another_thread_are_none_of_the_training_s() -> None:
    clock = Clock()
    seen, _ = _watched(clock)

    def elsewhere() -> None:
        with torch.no_grad():
            torch.ones(2)

    with seen:
        _light_model(clock, seen)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert seen.observer.light is not None


def test_another_optimizer_ends_a_stretch_as_it_is_made() -> None:
    clock = Clock()
    seen, _ = _watched(clock)
    with seen:
        _light_model(clock, seen)
        torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1e-3)
        assert seen.observer.light is None
        assert seen.observer.steady is None


def test_a_step_of_a_copied_optimizer_ends_a_stretch() -> None:
    clock = Clock()
    seen, _ = _watched(clock)
    with seen:
        model, optimizer, batches = _light_model(clock, seen)
        model(next(batches)[0]).sum().backward()
        copy.deepcopy(optimizer).step()
        assert seen.observer.light is None


@pytest.mark.parametrize("folder", ["/home/me/torch/train.py", "/envs/torch/lib/trainer/loop.py"])
def test_not_everything_in_a_folder_called_torch_is_torch_s(folder: str) -> None:
    clock = Clock()
    seen, _ = _watched(clock)
    with seen:
        model, *_ = _light_model(clock, seen)
        code = compile("with torch.no_grad():\n    model(x)", folder, "exec")
        exec(code, {"torch": torch, "model": model, "x": torch.ones(2, 4)})
        assert seen.observer.light is None


def test_gradients_that_are_set_off_for_a_block_end_a_stretch_and_those_set_on_do_not() -> None:
    clock = Clock()
    seen, _ = _watched(clock)
    with seen:
        model, *_ = _light_model(clock, seen)
        with torch.set_grad_enabled(True):
            assert seen.observer.light is not None
        with torch.set_grad_enabled(False):
            assert seen.observer.light is None
            model(torch.ones(2, 4))


def _halved(x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        y = x / 2
    return y + 1


def test_a_script_is_compiled_by_torch_jit_as_ever() -> None:
    clock = Clock()
    seen, _ = _watched(clock)
    with seen:
        _light_model(clock, seen)
        scripted: Any = torch.jit.script(_halved)
        assert not scripted(torch.ones(2, requires_grad=True)).requires_grad
        assert seen.observer.light is not None


def test_a_script_may_have_a_no_grad_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(torch.no_grad):
        pass

    monkeypatch.setattr(torch, "no_grad", Mine)
    clock = Clock()
    seen, _ = _watched(clock)
    with seen:
        _light_model(clock, seen)
        with torch.no_grad():
            assert seen.observer.light is None


def test_where_another_wrapper_has_come_in_meanwhile_the_observation_ends_and_says_so() -> None:
    clock = Clock()
    seen, _ = _watched(clock)
    original = vars(nn.Module)["__call__"]
    with seen:
        _light_model(clock, seen)
        calls = vars(nn.Module)["__call__"]
        theirs = lambda self, *args: calls(self, *args)  # noqa: E731
        nn.Module.__call__ = theirs  # type: ignore[method-assign]
        try:
            with torch.no_grad():
                assert not seen.state.active
            assert vars(nn.Module)["__call__"] is theirs
            assert "Module.__call__" in str(seen.failures.pop())
        finally:
            nn.Module.__call__ = original


def test_a_part_that_is_set_to_evaluate_within_a_forward_ends_no_stretch() -> None:
    clock = Clock()
    seen, _ = _watched(clock)
    with seen:
        model, optimizer, batches = _light_model(clock, seen)
        model.register_forward_pre_hook(lambda module, args: module.layer.eval() and None)
        model(next(batches)[0]).sum().backward()
        assert seen.observer.light is not None
        optimizer.step()
    assert "validation" not in seen.totals()


@pytest.mark.parametrize("longer", [True, False])
def test_steps_that_become_long_are_observed_stage_by_stage_again(longer: bool) -> None:
    clock = Clock()
    seen, _ = _watched(clock)
    with seen:
        model, optimizer, batches = _light_model(clock, seen)
        for _ in range(20):
            model(next(batches)[0]).sum().backward()
            clock.spend(200_000_000 * longer)
            optimizer.step()
        assert (seen.observer.light is None) == longer


def test_what_changed_as_a_stretch_ended_is_learnt_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(light_steps, "_AGAIN", 22)
    clock = Clock()
    seen, _ = _watched(clock)
    with seen:
        model, optimizer, batches = _light_model(clock, seen)
        with torch.no_grad():
            began = seen.observer.recorder.count
        model.layer.weight.register_hook(lambda grad: clock.spend(9))
        for _ in range(28):
            model(next(batches)[0]).sum().backward()
            optimizer.step()
        assert seen.observer.light is not None
    assert {step["backward"] for step in seen.per_step()[began + 1 :]} == {29}


def _row(**spent: int) -> list[int]:
    row = [0] * WIDTH
    for name, value in spent.items():
        row[getattr(r, name)] = value
    return row


def _divided(usual: UsualParts, row: list[int]) -> list[int]:
    usual.settle()
    found: list[int] = usual.divided(as_rows(row))[0].tolist()
    return found


def test_a_step_on_no_new_batch_gets_nothing_of_loading() -> None:
    loader, row = 14, _row(OTHER=100)
    usual = UsualParts(range(2, 8))
    for at in range(40):
        usual.note([*_row(OTHER=10, FORWARD=90)[:loader], 50 * (at % 4 > 0)] + [0] * (WIDTH - 15))
    assert _divided(usual, row) == _row(OTHER=10, FORWARD=90)


def test_waits_that_may_meet_any_part_of_a_step_are_divided_like_those_that_were_seen() -> None:
    usual = UsualParts(range(2, 8))
    for at in range(100):
        slow = 400 * (at in {7, 35, 77}), 400 * (at == 50)
        usual.note(_row(OTHER=10 + slow[1], FORWARD=40, BACKWARD=50 + slow[0]))
    row = _divided(usual, _row(OTHER=350))  # 1.5 times the usual, and three quarters of the rest
    assert row == _row(OTHER=80, FORWARD=120, BACKWARD=150)
    longer = _divided(usual, _row(OTHER=100_000))
    assert longer[r.OTHER] > 99_000, "longer than any of these"


def test_most_steps_being_unlike_is_told() -> None:
    usual = UsualParts(range(2, 8))
    for _ in range(40):
        usual.note(_row(OTHER=10, FORWARD=90))
    for time, fits in ((100, True), (140, True), (180, False), (50, False)):
        _divided(usual, _row(OTHER=time))
        assert usual.fits == fits


def test_a_look_into_what_a_line_calls_is_not_taken_for_the_rest_of_that_line() -> None:
    line = Frame("/home/me/train.py", 9, "main", 1)
    inner = Frame("/x/site-packages/torch/optim/sgd.py", 130, "SGD.step", 120)
    looks = [
        Sampled(r.OTHER, (line,), 3.0, 30),
        Sampled(r.OPTIMIZER, (Frame("/x/torch/optim/sgd.py", 99, "SGD.step", 90), line), 1.0, 10),
        Sampled(r.LIGHT, (inner, line), 1.0, 10),
        Sampled(r.LIGHT, (line,), 1.0, 10),
    ]
    assert [one.label for one in labelled(looks)][2:] == [r.OPTIMIZER, r.OTHER]
